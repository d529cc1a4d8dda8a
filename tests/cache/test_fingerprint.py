"""Laws of the fingerprint: one recipe, one name, in every process and after a journey through JSON."""

import json
import math
import subprocess
import sys
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentifuse.cache.errors import CacheError
from sentifuse.cache.fingerprint import canonical_json, fingerprint

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=12,
)


class Colour(StrEnum):
    RED = "red"


@settings(derandomize=True, max_examples=50)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), plain_values, max_size=5))
def test_a_recipe_read_back_from_json_keeps_its_name(recipe: dict[str, object]) -> None:
    assert fingerprint(json.loads(canonical_json(recipe))) == fingerprint(recipe)
    assert fingerprint(json.loads(json.dumps(recipe, indent=3))) == fingerprint(recipe)
    assert fingerprint(dict(reversed(recipe.items()))) == fingerprint(recipe)


def test_the_canonical_form_is_fixed() -> None:
    recipe = {"b": (1, 2.0, 1e-5, 1e22), "a": {"ü": None, "t": True}}
    assert canonical_json(recipe) == '{"a":{"t":true,"ü":null},"b":[1,2.0,1e-05,1e+22]}'.encode()
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_any_change_of_a_value_or_its_type_changes_the_name() -> None:
    recipes = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {"a": [1]}, {"b": 1}, {}, {"a": {}}]
    assert len({fingerprint(recipe) for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(
    ("recipe", "where"),
    [
        ({"a": {"b": math.nan}}, r"recipe\.a\.b: nan"),
        ({"a": [1.0, math.inf]}, r"recipe\.a\[1\]: inf"),
        ({"a": {1: 2}}, r"recipe\.a: key 1 is a int"),
        ({"a": {None: 2}}, r"recipe\.a: key None"),
        ({"a": {1, 2}}, r"recipe\.a: .* is a set"),
        ({"a": b"x"}, "is a bytes"),
        ({"a": np.float64(0.5)}, "is a float64"),
        ({"a": np.int64(3)}, "is a int64"),
        ({"a": Colour.RED}, "is a Colour"),
        ({"a": "\ud800"}, "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
    ],
)
def test_what_json_has_no_word_for_is_refused_by_its_place(recipe: dict[str, object], where: str) -> None:
    with pytest.raises(CacheError, match=where):
        fingerprint(recipe)


def test_another_process_gives_the_same_name() -> None:
    code = (
        "from sentifuse.cache.fingerprint import fingerprint; "
        "print(fingerprint({'z': {'y': 0.1, 'x': ['é', 3]}, 'a': 1}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == fingerprint({"a": 1, "z": {"x": ("é", 3), "y": 0.1}})
