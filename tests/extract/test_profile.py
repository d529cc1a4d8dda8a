"""Profiles: the shipped ones are whole; a mistake is named with its file before any model is looked for."""

from pathlib import Path

import pytest

from sentifuse import ConfigError
from sentifuse.extract.encoders import ENCODERS, encoder_class
from sentifuse.extract.profile import list_profiles, load_profile


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_shipped_profiles_are_paper_tiny_and_offline() -> None:
    assert list_profiles() == ("offline", "paper", "tiny")


@pytest.mark.parametrize("name", ["offline", "paper", "tiny"])
def test_each_shipped_profile_loads_and_says_what_it_is(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.description
    assert set(profile.default) <= set(profile.encoders) <= set(ENCODERS)


def test_the_paper_profile_has_every_encoder_and_runs_four_of_them_by_default() -> None:
    profile = load_profile("paper")
    assert set(profile.encoders) == set(ENCODERS)
    assert profile.default == ("regions", "context", "tokens", "crowd")


def test_the_tiny_profile_says_loudly_that_it_is_random() -> None:
    assert "RANDOM" in load_profile("tiny").notice


def test_every_encoder_has_the_name_it_is_listed_under() -> None:
    assert {name: encoder_class(name, {}).name for name in ENCODERS} == {name: name for name in ENCODERS}


def test_a_file_is_a_profile_and_its_paths_start_at_its_folder(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, '[encoders.tokens]\nmodel = { path = "models/bert" }\nmax_length = 32\n'))
    entry = profile.encoders["tokens"]
    assert profile.name == "mine"
    assert profile.default == ("tokens",)
    assert entry.model.name == str(tmp_path / "models" / "bert")
    assert entry.settings == {"max_length": 32}


def test_encoders_are_chosen_once_each_in_the_order_asked() -> None:
    profile = load_profile("tiny")
    assert [entry.name for entry in profile.choose(("clip", "tokens", "clip"))] == ["clip", "tokens"]
    assert tuple(entry.name for entry in profile.choose()) == profile.default
    with pytest.raises(ConfigError, match="profile 'tiny': unknown encoder 'tokns'; did you mean 'tokens'"):
        profile.choose(("tokns",))


MODEL = 'model = { hub = "a/b" }\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[encoders.tokns]\n{MODEL}", r"mine.toml: unknown encoder 'tokns'; did you mean 'tokens'\?"),
        (
            f"[encoders.tokens]\n{MODEL}max_lenght = 3\n",
            r"\[encoders.tokens\]: unknown setting 'max_lenght'; .*'max_length'",
        ),
        (
            f'[encoders.tokens]\n{MODEL}clean = "twet"\n',
            r"\[encoders.tokens\]: .*unknown clean 'twet'; did you mean 'tweet'",
        ),
        (f"[encoders.tokens]\n{MODEL}max_length = 0\n", r"\[encoders.tokens\]: max_length is 0, expected 3 to 8192"),
        (f'[encoders.regions]\n{MODEL}backend = "gird"\n', r"\[encoders.regions\]: unknown backend 'gird'; .*'grid'"),
        (f"[encoders.context]\n{MODEL}crop = 0\n", "crop is 0, so resize must be"),
        (
            f'descripton = ""\n[encoders.tokens]\n{MODEL}',
            r"mine.toml: unknown key 'descripton'; did you mean 'description'",
        ),
        ("[encoders.tokens]\nclean = 'raw'\n", r"\[encoders.tokens\]: no model"),
        ('default = ["clip"]\n' + f"[encoders.tokens]\n{MODEL}", "default: unknown encoder 'clip'"),
        (f"default = 3\n[encoders.tokens]\n{MODEL}", "default is 3, expected a list"),
        ("", r"no \[encoders.NAME\] table. There are: clip, context"),
        ("= 3", "not a TOML file"),
    ],
)
def test_a_mistake_is_named_with_file_and_table(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_profile(write(tmp_path, text))


def test_an_unknown_profile_name_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown profile 'offlin'; did you mean 'offline'\?"):
        load_profile("offlin")
    with pytest.raises(ConfigError, match="no such profile file"):
        load_profile(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"description = '\xe9'")
    with pytest.raises(ConfigError, match="cannot be read as a UTF-8"):
        load_profile(tmp_path / "latin.toml")
