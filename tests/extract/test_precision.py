"""Precision: `exact` is float32 everywhere, `fast` is half only where it was measured to be good enough."""

import pytest

from sentifuse import ConfigError
from sentifuse.extract import precision
from sentifuse.extract.encoders import ENCODERS, encoder_class
from sentifuse.extract.precision import PRECISIONS, choose_precision


@pytest.mark.parametrize(
    ("asked", "device", "keeps", "flags", "expected"),
    [
        ("exact", "cpu", True, {"avx512_bf16"}, "float32"),
        ("exact", "cuda:1", True, set(), "float32"),
        ("fast", "cpu", True, {"avx512_bf16"}, "float32"),
        ("fast", "cuda", True, set(), "float16"),
        ("fast", "cuda", False, set(), "float32"),
        ("fastest", "cuda", False, set(), "float16"),
        ("fastest", "cpu", False, {"avx2", "amx_bf16"}, "bfloat16"),
        ("fastest", "cpu", False, {"avx2"}, "float32"),
    ],
)
def test_the_table(
    asked: str, device: str, keeps: bool, flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    chosen = choose_precision(asked, device=device, keeps_float16=keeps)
    assert chosen.dtype == expected
    is_plain = asked == "exact" or (device.startswith("cuda") and expected == "float16")
    assert bool(chosen.note) is not is_plain


def test_fast_says_so_where_it_equals_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    note = choose_precision("fast", device="cpu", keeps_float16=True).note
    assert note.startswith("fast equals exact: ")


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--precision: unknown precision 'fst'; did you mean 'fast'"):
        choose_precision("fst", device="cpu", keeps_float16=False)


def test_only_tokens_was_shown_to_keep_its_features_in_float16() -> None:
    assert [name for name in ENCODERS if encoder_class(name, {}).keeps_float16] == ["tokens"]
    assert PRECISIONS == ("exact", "fast", "fastest")
