"""The commands as a person or a program types them: defaults said aloud, one JSON object, exit codes, clear errors."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentifuse import cli

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "h5py", "torch", "transformers", "sklearn", "pyarrow", "matplotlib")
GROUPS = (
    [],
    ["data"],
    ["data", "prepare"],
    ["extract"],
    ["train"],
    ["evaluate"],
    ["explain"],
    ["profiles"],
    ["weights"],
    ["heads"],
    ["benchmark"],
    ["distil", "label"],
    ["distil", "filter"],
    ["distil", "train"],
    ["distil", "features"],
)

Type = Callable[..., Any]


@pytest.mark.parametrize("words", [*GROUPS, ["doctor"]], ids=lambda words: " ".join(words) or "sentifuse")
def test_help_has_an_example_and_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from sentifuse import cli; code = cli.run(sys.argv[1:]); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY.parent,
    )
    assert done.stderr.strip() == "[]"
    assert "Usage: sentifuse" in done.stdout
    if words not in (["data"], ["profiles"], ["weights"], ["heads"]):
        assert "sentifuse " in done.stdout.split("--help")[-1]  # the example stands below the options


def test_the_clone_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(REPOSITORY / "cli.py"), "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 5
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_head_exits_2_and_lists_the_heads(type_command: Type, project: Path) -> None:
    typed = type_command("train", "--head", "mutan", "--artifacts", project)
    assert typed.code == 2
    assert "unknown head 'mutan'" in typed.err
    for head in ("itin", "logreg", "text_only", "image_only"):
        assert head in typed.err
    assert "Traceback" not in typed.err


def test_defaults_are_said_in_the_first_line(type_command: Type, project: Path) -> None:
    typed = type_command("extract", "--status", "--artifacts", project)
    first = typed.err.splitlines()[0]
    assert "mvsa_single (last extracted)" in first
    assert "tiny (chosen by `profiles use`)" in first
    typed = type_command("evaluate", "--split", "val", "--artifacts", project)
    assert "(last trained)" in typed.err.splitlines()[0]


def test_evaluate_prints_one_object_with_the_promised_keys(type_command: Type, project: Path) -> None:
    typed = type_command("evaluate", "--split", "test", "--json", "--artifacts", project)
    assert typed.code == 0
    assert {"accuracy", "f1_weighted", "f1_macro", "n", "run", "confusion", "per_class"} <= set(typed.document)
    assert typed.document["n"] == sum(map(sum, typed.document["confusion"]))
    for file in typed.document["files"].values():
        assert Path(file).is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("data", "list"),
        ("data", "audit", "mvsa_single"),
        ("extract", "--dataset", "mvsa_single"),
        ("extract", "--dataset", "mvsa_single", "--dry-run"),
        ("profiles", "list"),
        ("weights", "list"),
    ],
    ids=" ".join,
)
def test_json_is_one_object_on_stdout(type_command: Type, project: Path, words: tuple[str, ...]) -> None:
    typed = type_command(*words, "--json", "--artifacts", project)
    assert typed.code == 0
    assert isinstance(typed.document, dict)


def test_an_error_is_one_object_too(type_command: Type, project: Path) -> None:
    typed = type_command("extract", "--dataset", "nowhere", "--json", "--artifacts", project)
    assert typed.code == 2
    assert typed.document["error"]["exit_code"] == 2
    assert "sentifuse data prepare nowhere" in typed.document["error"]["message"]


def test_a_second_extract_computes_nothing_and_needs_no_torch(project: Path) -> None:
    code = (
        "import sys; from sentifuse import cli; code = cli.run(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    words = ["extract", "--dataset", "mvsa_single", "--artifacts", str(project)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert "nothing to recompute" in done.stdout
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("evaluate", "--run", "no-such-run"), 2, "no-such-run"),
        (("train", "--head", "itin", "--set", "widht=3"), 2, "did you mean 'width'"),
        (("train", "--head", "itin", "--set", "width"), 2, "width"),
        (("train", "--head", "itin", "--preset", "papre"), 2, "papre"),
        (("train", "--head", "itin", "--dataset", "nowhere"), 3, "nowhere"),
        (("train", "--head", "itin", "--target", "mood"), 2, "mood"),
        (("train", "--head", "itin", "--protocol", "rondom"), 2, "rondom"),
        (("extract", "--profile", "ofline"), 2, "did you mean 'offline'"),
        (("extract", "--encoders", "tokens,contxt"), 2, "did you mean 'context'"),
        (("extract", "--precision", "quick"), 2, "quick"),
        (("extract", "--engine", "spark"), 2, "spark"),
        (("extract", "--shards", "4/4"), 2, "i/n"),
        (("extract", "--shards", "half"), 2, "i/n"),
        (("extract", "--device", "tpu"), 2, "tpu"),
        (("extract", "--profile", "offline", "--offline", "--encoders", "context"), 5, "weights add"),
        (
            (
                "extract",
                "--no-such-option",
            ),
            2,
            "no-such-option",
        ),
        (("data", "prepare", "mvsa_singel"), 2, "did you mean 'mvsa_single'"),
        (("data", "prepare", "t4sa"), 3, "b-t4sa_"),
        (("data", "prepare", "tumemo"), 3, "all_data_id_and_label.txt"),
        (("data", "prepare", "mvsa_multiple", "--root", "/no/such/folder"), 3, "/no/such/folder"),
        (("data", "prepare", "pairs", "--name", "shop"), 2, "--table"),
        (("data", "prepare", "mvsa_single", "--table", "x.csv"), 2, "pairs"),
        (("data", "audit", "nowhere"), 3, "data prepare nowhere"),
        (("profiles", "use", "ofline"), 2, "offline"),
        (("weights", "add", "/no/such/file.safetensors"), 5, "/no/such/file.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_have_their_exit_code_and_a_message_to_act_on(
    type_command: Type, project: Path, words: tuple[str, ...], exit_code: int, message: str
) -> None:
    if words[:2] == ("extract", "--device"):
        words = (*words, "--precision", "fastest")  # in exact precision no device is looked for when nothing is to do
    typed = type_command(*words, "--artifacts", project)
    assert typed.code == exit_code, typed.err
    assert message in typed.err
    assert "Traceback" not in typed.err
    assert typed.err.splitlines()[-1].strip()


def test_paper_stops_before_any_work_and_names_what_is_missing(type_command: Type, project: Path) -> None:
    typed = type_command("extract", "--profile", "paper", "--artifacts", project)
    assert typed.code == 5
    for word in ("regions", "tokens", "context", "crowd", "google-bert/bert-base-uncased", "--profile offline"):
        assert word in typed.err


def test_an_artefacts_folder_that_is_a_file_is_named(type_command: Type, tmp_path: Path) -> None:
    place = tmp_path / "artifacts"
    place.write_text("not a folder")
    for words in (("data", "prepare", "sample"), ("data", "list"), ("extract",), ("profiles", "use", "tiny")):
        typed = type_command(*words, "--artifacts", place)
        assert typed.code in {2, 3, 4}, words
        assert str(place) in typed.err
        assert "Traceback" not in typed.err


def test_an_artefacts_folder_that_may_not_be_read_is_named(
    type_command: Type, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode, **_: Path(path) != project)  # the tests may run as root
    for words in (("extract",), ("train", "--head", "itin"), ("evaluate",), ("data", "list"), ("profiles", "list")):
        typed = type_command(*words, "--artifacts", project)
        assert typed.code == 2, words
        assert str(project) in typed.err
        assert "not readable" in typed.err


def test_nothing_extracted_yet_says_what_to_type(type_command: Type, tmp_path: Path) -> None:
    typed = type_command("train", "--head", "itin", "--artifacts", tmp_path)
    assert typed.code == 2
    assert "sentifuse data prepare" in typed.err
    typed = type_command("evaluate", "--artifacts", tmp_path)
    assert typed.code == 2
    assert "sentifuse train" in typed.err


def test_interruption_exits_130_and_says_that_the_command_resumes(
    type_command: Type, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentifuse.extract import runner

    def interrupted(*args: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    typed = type_command("extract", "--dataset", "mvsa_single", "--artifacts", project)
    assert typed.code == 130
    assert "same command again" in typed.err.splitlines()[-1]


def test_too_many_failures_end_with_exit_3_after_the_whole_account(
    type_command: Type, tmp_path: Path, write_small_mvsa: Callable[..., Path]
) -> None:
    root = write_small_mvsa(tmp_path / "MVSA", 60)
    (root / "data" / "3.jpg").write_bytes(b"")
    here = ("--artifacts", tmp_path / "artifacts")
    words = ("extract", "--dataset", "mvsa_single", "--root", root, "--profile", "tiny", "--max-failures", "0", *here)
    typed = type_command(*words)
    assert typed.code == 3
    assert "60 pairs, 59 complete in all encoders" in typed.err
    assert "3: unreadable: empty file" in typed.err
    assert type_command("train", "--head", "text_only", "--set", "epochs=1", *here).code == 0  # knows the dataset


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    from sentifuse.data import catalog

    def broken(artifacts: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(catalog, "list_datasets", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.run(["data", "list", "--artifacts", str(project)])


@pytest.mark.slow
def test_own_pairs_with_five_classes_go_the_whole_way(type_command: Type, tmp_path: Path) -> None:
    from PIL import Image

    classes = ("angry", "bored", "calm", "happy", "sad")
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = ["id,image,text,label"]
    for i in range(100):
        name = classes[i % 5]
        Image.new("RGB", (20, 20), (50 * (i % 5), i, 0)).save(photos / f"{i}.png")
        rows.append(f"{i},{i}.png,a {name} thing number {i},{name}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    here = ("--artifacts", tmp_path / "artifacts")
    shop = ("--name", "shop", "--table", table, "--root", photos)
    assert type_command("data", "prepare", "pairs", *shop, *here).code == 0
    assert type_command("extract", "--dataset", "shop", "--profile", "tiny", *here).code == 0
    assert type_command("train", "--head", "itin", "--set", "epochs=3", *here).code == 0
    document = type_command("evaluate", "--split", "test", "--json", *here).document
    assert document["classes"] == list(classes)
    assert document["n"] == 10


@pytest.mark.slow
def test_help_costs_less_than_the_budget_of_processor_time() -> None:
    import resource

    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sentifuse.cli", "--help"], capture_output=True, check=True, env=os.environ
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert sorted(spent)[2] <= 0.4


def test_a_look_at_the_plan_prepares_nothing(
    type_command: Type, tmp_path: Path, write_small_mvsa: Callable[..., Path]
) -> None:
    root = write_small_mvsa(tmp_path / "MVSA_Single", 3)
    here = ("--dataset", "mvsa_single", "--root", root, "--profile", "tiny", "--artifacts", tmp_path / "artifacts")
    for look in ("--dry-run", "--status"):
        typed = type_command("extract", *here, look)
        assert typed.code == 2
        assert f"sentifuse data prepare mvsa_single --root {root}" in typed.err
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    "words", [("data", "list"), ("evaluate", "--run", "x"), ("weights", "list", "--profile", "offline")], ids=" ".join
)
def test_a_folder_that_may_not_be_read_is_no_bug(
    type_command: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    stat = os.stat

    def refuse(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path / "locked")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    typed = type_command(*words, "--artifacts", tmp_path / "locked")
    assert typed.code == 3
    assert "Permission denied" in typed.err
    assert "--artifacts" in typed.err


def test_an_error_says_how_to_call_where_the_environment_is_not_activated(
    type_command: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    typed = type_command("train", "--head", "itin", "--artifacts", tmp_path)
    assert f"(sentifuse is {Path(sys.executable).parent / 'sentifuse'} here; or type first: source " in typed.err
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    typed = type_command("train", "--head", "itin", "--artifacts", tmp_path)
    assert "(sentifuse is" not in typed.err
