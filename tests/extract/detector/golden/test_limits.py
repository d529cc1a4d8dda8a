import json
import math

import pytest

from sentifuse.extract.detector.golden.limits import Deviation, first_beyond


@pytest.mark.parametrize(("value", "is_floor", "expected"), [(1, False, True), (3, False, False), (3, True, True)])
def test_a_limit_is_a_ceiling_or_a_floor(value: float, is_floor: bool, expected: bool) -> None:
    deviation = Deviation(stage="res4", quantity="x", value=value, limit=2, is_floor=is_floor)
    assert deviation.is_within is expected
    assert str(deviation).endswith("ok" if expected else "FAILS")


@pytest.mark.parametrize("is_floor", [True, False])
def test_what_is_no_number_keeps_no_limit(is_floor: bool) -> None:
    assert not Deviation(stage="x", quantity="x", value=math.nan, limit=1, is_floor=is_floor).is_within


def test_the_first_stage_beyond_its_limit_is_told() -> None:
    found = [Deviation(stage=str(i), quantity="x", value=i, limit=1.5) for i in range(4)]
    first = first_beyond(found)
    assert first is not None
    assert first.stage == "2"
    assert first_beyond(found[:2]) is None


def test_json_has_no_numbers_that_json_does_not_know() -> None:
    endless = Deviation(stage="stem", quantity="x", value=math.nan, limit=math.inf)
    document = json.loads(json.dumps(endless.to_json(), allow_nan=False))
    assert document == {
        "stage": "stem", "quantity": "x", "value": None, "limit": None, "limit_is": "most", "ok": False
    }  # fmt: skip
    assert "(no limit)" in str(endless)
