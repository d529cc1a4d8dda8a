"""What a golden file of each kind must hold: what is missing, too many or of another make is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentifuse import DataError
from sentifuse.fuse.golden.file import GoldenFile, read_golden
from sentifuse.fuse.golden.kinds import find_kind
from sentifuse.fuse.golden.layout import LAYOUTS, check_layout, steps_of

GOLDEN = Path(__file__).parents[2] / "golden" / "heads"
FILES = ("itin_paper", "itin_code", "rnn_ca", "ctmwa_init", "ctmwa_clip", "ctmwa_noclip", "ctmwa_dropout")
Change = Callable[[dict[str, Any]], Any]


def read(file: str) -> tuple[str, GoldenFile]:
    golden = read_golden(GOLDEN / f"{file}_s1.npz")
    kind = find_kind(golden)
    assert kind is not None
    return kind, golden


def changed(file: str, change: Change) -> tuple[str, GoldenFile]:
    kind, golden = read(file)
    values = {name: np.array(value) for name, value in golden.values.items()}
    change(values)
    return kind, replace(golden, values=values)


@pytest.mark.parametrize("file", FILES)
def test_layout_is_exactly_what_the_file_holds(file: str) -> None:
    kind, golden = read(file)
    assert LAYOUTS[kind](golden) == {name: value.shape for name, value in golden.values.items()}
    check_layout(kind, golden)


@pytest.mark.parametrize("file", FILES)
def test_no_array_can_go_unnoticed(file: str) -> None:
    """Every ninth array, taken out alone."""
    kind, golden = read(file)
    for gone in list(golden.values)[::9]:
        rest = {name: value for name, value in golden.values.items() if name != gone}
        with pytest.raises(DataError, match=r"expected an array '\S+'( of \d dimensions)?, found none"):
            check_layout(kind, replace(golden, values=rest))


def put(name: str, change: Callable[[Any], Any]) -> Change:
    def apply(values: dict[str, Any]) -> None:
        values[name] = np.array(change(values.get(name)))

    return apply


def without(beginning: str) -> Change:
    def apply(values: dict[str, Any]) -> None:
        for name in [name for name in values if name.startswith(beginning)]:
            del values[name]

    return apply


REFUSED: dict[str, tuple[str, Change, str]] = {
    "one number more": ("rnn_ca", put("gru.out.more", lambda _: 1.0), "alone, found 'gru.out.more', which"),
    "two more": (
        "itin_code",
        lambda values: values.update({"a.x": np.zeros(1), "b.y": np.zeros(1)}),
        "alone, found 'a.x' and 1 more",
    ),
    "number of no group": ("ctmwa_clip", put("step2.other.x", lambda _: 1.0), "found 'step2.other.x'"),
    "number of a far step": ("ctmwa_clip", put("step99999999.meta.total", lambda _: 1.0), "found 'step99999999"),
    "single precision": ("itin_code", put("out.C", np.float32), r"'out.C' as float64 .*, found float32"),
    "other byte order": ("itin_code", put("out.C", lambda x: x.astype(">f8")), "found >f8"),
    "text": ("itin_code", put("out.loss", lambda _: "much"), "as float64 of shape .*, found <U4"),
    "real labels": ("rnn_ca", put("input.label", np.float64), "as int64 .*, found float64"),
    "another shape": ("itin_paper", put("vector.g", lambda x: x[..., 0]), r"shape \(3, 2, 16\), found .* \(3, 2\)"),
    "parameter cut": ("rnn_ca", put("gru.param.image.weight", lambda x: x[:1]), r"\(16, 14\), found .* \(1, 14\)"),
    "another rank": ("rnn_ca", put("input.words", lambda x: x[0]), "'input.words' of 3 dimensions, found one of shape"),
    "unknown class": ("itin_paper", put("input.label", lambda x: x + 3), "from 0 to 2 in 'input.label', found"),
    "label to be ignored": ("rnn_ca", put("input.label", lambda x: x - 100), "from 0 to 1 in 'input.label', found"),
    "empty text": ("rnn_ca", put("input.lengths", lambda x: 0 * x), "from 1 to 7 in 'input.lengths', found 0"),
    "text longer than words": ("itin_paper", put("input.lengths", lambda x: x + 1), "in 'input.lengths', found 8"),
    "half a mask": ("ctmwa_dropout", put("mask.step0.real.text_to_image.call0", lambda x: 2 * x), "found 2"),
    "no masks": ("ctmwa_dropout", without("mask."), "'mask.step0.virtual.text_to_image.call0', found none"),
    "a step left out": ("ctmwa_clip", without("step2."), "an array 'step2.virtual.l1_text_cycle', found none"),
    "no meta-gradient": ("ctmwa_noclip", without("step1.meta_grad."), "'step1.meta_grad.text_weight_net"),
    "a training batch left out": ("ctmwa_init", without("train2."), "an array 'train2.label' of 1"),
    "rate below zero": ("ctmwa_clip", put("hyper.lr", np.negative), "in 'hyper.lr', found -0.0005"),
    "beta of one": ("ctmwa_clip", put("hyper.beta1", lambda _: 1.0), "in 'hyper.beta1', found 1.0"),
    "setting that is no number": ("ctmwa_clip", put("hyper.trans_ti", lambda _: np.nan), "'hyper.trans_ti', found nan"),
    "endless setting": ("ctmwa_clip", put("hyper.input_scale", lambda _: np.inf), "'hyper.input_scale', found nan"),
    "no pair": ("rnn_ca", put("input.image", lambda x: x[:, :0]), "numbers in 'input.image', found shape"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_file_of_another_make_is_refused_with_what_is_wrong(fault: str) -> None:
    file, change, said = REFUSED[fault]
    with pytest.raises(DataError, match=rf"_s1\.npz: expected .*{said}.*\. Name a golden file of the heads"):
        check_layout(*changed(file, change))


def test_groups_of_only_some_steps_may_be_of_others() -> None:
    def later(values: dict[str, Any]) -> None:
        for name in [name for name in values if name.startswith("step1.meta_grad.")]:
            values[name.replace("step1", "step3")] = values.pop(name)

    check_layout(*changed("ctmwa_noclip", later))
    check_layout(*changed("ctmwa_clip", without("step1.params.")))
    assert list(steps_of(read("ctmwa_clip")[1])) == [1, 2, 3]
