"""Laws of the feature set's folder: one recipe per folder, and a folder that says otherwise is refused."""

import json
from pathlib import Path

import pytest

from sentifuse.cache.checksum import seal, unseal
from sentifuse.cache.errors import (
    CacheError,
    CorruptIndex,
    FingerprintMismatch,
    FutureVersion,
    NoFeatures,
    Unreadable,
    Unwritable,
)
from sentifuse.cache.featureset import (
    FeatureSet,
    create_feature_set,
    differing_keys,
    list_feature_sets,
    open_feature_set,
)
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.cache.spec import Field

VECTOR = Field(name="vector", dtype="float32", shape=(4,))


def edit(feature_set: FeatureSet, **changes: object) -> Path:
    """Change recipe.json as someone would who knows how it is sealed."""
    path = feature_set.directory / "recipe.json"
    value = unseal(json.loads(path.read_bytes())) | changes
    text = json.dumps(seal(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return feature_set.directory


def test_the_folder_is_named_after_the_recipe(cache_dir: Path) -> None:
    recipe = {"model": "m", "sides": (1, 2)}
    made = create_feature_set(cache_dir, encoder="context", recipe=recipe, fields=[VECTOR])
    assert made.directory == cache_dir / f"context-{fingerprint(recipe)[:12]}"
    opened = open_feature_set(made.directory)
    assert (opened.encoder, opened.fingerprint, opened.recipe) == (
        "context",
        fingerprint(recipe),
        {"model": "m", "sides": [1, 2]},
    )
    assert opened.fields == (VECTOR,)


def test_an_existing_folder_is_reused_whatever_the_details(feature_set: FeatureSet, cache_dir: Path) -> None:
    before = (feature_set.directory / "recipe.json").read_bytes()
    again = create_feature_set(
        cache_dir, encoder="tokens", recipe=feature_set.recipe, fields=feature_set.fields, details={"path": "/y"}
    )
    assert again.details == {"path": "/x"}
    assert (feature_set.directory / "recipe.json").read_bytes() == before


def test_another_recipe_is_another_folder(cache_dir: Path) -> None:
    made = [create_feature_set(cache_dir, encoder="context", recipe={"a": a}, fields=[VECTOR]) for a in (1, 2)]
    (cache_dir / "notes").mkdir()
    (cache_dir / "notes.txt").touch()
    listed = list_feature_sets(cache_dir)
    assert sorted(one.directory for one in made) == [one.directory for one in listed]
    assert list_feature_sets(cache_dir / "nothing") == []


def test_a_folder_whose_recipe_was_edited_is_refused(feature_set: FeatureSet) -> None:
    with pytest.raises(
        FingerprintMismatch, match=r"recipe\.json: the recipe's fingerprint is .* The recipe was changed by hand"
    ):
        open_feature_set(edit(feature_set, recipe={**feature_set.recipe, "dropout": 0.2}))


def test_a_folder_that_holds_another_recipe_is_refused_with_the_difference(
    feature_set: FeatureSet, cache_dir: Path
) -> None:
    other = {**feature_set.recipe, "dropout": 0.2}
    edit(feature_set, recipe=other, fingerprint=fingerprint(other))
    with pytest.raises(FingerprintMismatch, match=r"dropout 0\.2 there, 0\.1 here"):
        create_feature_set(cache_dir, encoder="tokens", recipe=feature_set.recipe, fields=feature_set.fields)


def test_other_fields_under_one_recipe_are_refused(feature_set: FeatureSet, cache_dir: Path) -> None:
    with pytest.raises(FingerprintMismatch, match="raise the encoder's version"):
        create_feature_set(cache_dir, encoder="tokens", recipe=feature_set.recipe, fields=[VECTOR])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"format": 0}', b'{"format": 1, "encoder": "x"}', b"\xff"]
)
def test_a_recipe_file_that_is_none_is_refused(feature_set: FeatureSet, content: bytes) -> None:
    (feature_set.directory / "recipe.json").write_bytes(content)
    with pytest.raises(CorruptIndex, match=r"recipe\.json: .*sentifuse cache repair"):
        open_feature_set(feature_set.directory)


GRID = {"name": "grid", "dtype": "float16", "shape": [3, 4], "is_ragged": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"note": "x"}, r"keys \["),
        ({"details": [1]}, r"details \[1\], expected a dict"),
        ({"details": None}, "details None, expected a dict"),
        ({"recipe": [1]}, r"recipe \[1\], expected a dict"),
        ({"encoder": 5}, "encoder 5, expected a str"),
        ({"encoder": "Bad Name/.."}, "encoder name 'Bad Name/..'"),
        ({"fingerprint": 5}, "fingerprint 5, expected a str"),
        ({"format": True}, "format True, expected 1"),
        ({"format": 1.0}, r"format 1\.0, expected 1"),
        ({"fields": []}, "at least one and no name twice"),
        ({"fields": [GRID, GRID]}, "at least one and no name twice"),
        ({"fields": {"grid": GRID}}, "expected a list"),
        ({"fields": [{**GRID, "unit": "px"}]}, "expected an object with the keys"),
        ({"fields": [{**GRID, "is_ragged": "no"}]}, "is_ragged true or false"),
    ],
)
def test_a_recipe_file_is_exactly_as_described_or_refused(
    feature_set: FeatureSet, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(CorruptIndex, match=message):
        open_feature_set(edit(feature_set, **changes))


def test_every_flipped_bit_of_a_recipe_file_is_noticed(feature_set: FeatureSet) -> None:
    path = feature_set.directory / "recipe.json"
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(bytes(changed))
        with pytest.raises((CorruptIndex, FutureVersion)):
            open_feature_set(feature_set.directory)


def test_a_later_version_says_so(feature_set: FeatureSet) -> None:
    with pytest.raises(FutureVersion, match="format 2, this program reads up to 1"):
        open_feature_set(edit(feature_set, format=2))


def test_a_folder_without_recipe_is_no_feature_set(tmp_path: Path) -> None:
    with pytest.raises(NoFeatures, match="no feature set there"):
        open_feature_set(tmp_path)
    with pytest.raises(NoFeatures):
        open_feature_set(tmp_path / "nothing")


@pytest.mark.parametrize("encoder", ["", "Tokens", "a/b", "..", "a-b"])
def test_an_encoder_name_that_is_no_folder_is_refused(cache_dir: Path, encoder: str) -> None:
    with pytest.raises(CacheError, match="encoder name"):
        create_feature_set(cache_dir, encoder=encoder, recipe={}, fields=[VECTOR])


@pytest.mark.parametrize("fields", [[], [VECTOR, VECTOR]])
def test_fields_must_be_there_and_differ(cache_dir: Path, fields: list[Field]) -> None:
    with pytest.raises(CacheError, match="expected at least one and no name twice"):
        create_feature_set(cache_dir, encoder="context", recipe={}, fields=fields)


def test_a_file_in_the_place_of_the_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("", encoding="utf-8")
    with pytest.raises(Unwritable, match="Choose a folder you may write to"):
        create_feature_set(tmp_path / "artifacts" / "cache", encoder="context", recipe={}, fields=[VECTOR])


def test_a_folder_that_may_not_be_read_says_so(feature_set: FeatureSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Unreadable, match=r"recipe\.json: cannot be read: Permission denied"):
        open_feature_set(feature_set.directory)


def test_differing_keys_names_what_differs_with_both_values() -> None:
    left = {"a": 1, "m": {"x": 1, "y": [1]}, "only": True}
    right = {"a": 1.0, "m": {"x": 2, "y": [1]}, "new": None}
    assert differing_keys(left, right) == [("a", 1, 1.0), ("m.x", 1, 2), ("new", None, None), ("only", True, None)]
    assert differing_keys(left, left) == []
