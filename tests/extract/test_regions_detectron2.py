"""regions, detectron2: which library it was stands in the recipe, its folder does not; without it all else works."""

import ast
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sentifuse import ConfigError, ResourceError
from sentifuse.extract.backbones.detectron2_network import build_zoo_network, import_detectron2, read_zoo_weights
from sentifuse.extract.encoder import describe_encoder
from sentifuse.extract.encoders.regions_detectron2 import Detectron2Settings
from sentifuse.extract.errors import MissingModel, ModelMismatch, ModelsMissing
from sentifuse.extract.models.detectron2_package import NEEDS, find_detectron2
from sentifuse.extract.models.located import LocatedModel
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.weights import find_models
from sentifuse.extract.profile import EncoderEntry, load_profile
from sentifuse.extract.settings import read_settings

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).parent / "fake_detectron2"
VG = "faster_rcnn_resnet101_c4"


@pytest.fixture
def needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in the place of the packages that it imports, and no trace of it afterwards."""
    folder = tmp_path / "needs"
    folder.mkdir()
    for name in NEEDS:
        (folder / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)


def entry(**settings: Any) -> EncoderEntry:
    source = ModelSource(kind="path", name="w.safetensors", architecture=VG)
    return EncoderEntry(name="regions", model=source, settings={"backend": "detectron2", **settings}, where="here")


def recipe(architecture: str = VG, **settings: Any) -> Any:
    one = entry(**settings)
    model = LocatedModel(source=one.model, path=Path("w.pkl"), architecture=architecture, digest="0" * 64, files={})
    return describe_encoder(one, model, precision="exact", device="cpu").recipe


def test_the_recipe_names_the_library_and_not_its_folder(needs: None, tmp_path: Path) -> None:
    found = recipe(source=str(FAKE))
    assert found["settings"] == {"backend": "detectron2", "commit": find_detectron2(str(FAKE)).revision}
    (tmp_path / "link").symlink_to(FAKE)
    assert recipe(source=str(tmp_path / "link")) == found


def test_a_compiled_library_is_another_one(needs: None, tmp_path: Path) -> None:
    shutil.copytree(FAKE, tmp_path / "compiled")
    (tmp_path / "compiled" / "detectron2" / f"_C{EXTENSION_SUFFIXES[0]}").touch()
    plain, compiled = (recipe(source=str(folder))["settings"] for folder in (FAKE, tmp_path / "compiled"))
    assert compiled == {**plain, "is_compiled": True}


def test_a_configuration_is_in_the_recipe_with_its_content(needs: None) -> None:
    found = recipe("generalized_rcnn", source=str(FAKE), config="tiny.yaml")
    assert found["settings"]["config"] == "tiny.yaml"
    assert len(found["settings"]["config_digest"]) == 64
    assert "attribute_ids" not in found["dtypes"]


def test_a_pinned_library_is_the_only_one_taken(needs: None) -> None:
    revision = find_detectron2(str(FAKE)).revision
    assert recipe(source=str(FAKE), commit=revision[:6]) == recipe(source=str(FAKE))
    with pytest.raises(ModelMismatch, match=rf"commit of this detectron2 is '{revision[:3]}.*the profile pins '0123'"):
        recipe(source=str(FAKE), commit="0123")
    with pytest.raises(ModelMismatch, match="is_compiled of this detectron2 is False, the profile pins True"):
        recipe(source=str(FAKE), is_compiled=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"config": "tiny.yaml", "mode": "adaptive"}, "mode is 'adaptive', but it is for Visual Genome's network"),
        ({"config": "tiny.yaml", "attributes": False}, "attributes is False, but it is for Visual Genome's"),
        ({"overlap": 0.3}, "overlap is 0.3, but it is for networks with a config"),
        ({"overlap": 2}, "overlap is 2, expected 0 to 1"),
        ({"features": "float8"}, "unknown features 'float8'"),
        ({"sauce": "x"}, "unknown setting 'sauce'; did you mean 'source'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read_settings(Detectron2Settings, settings, where="here")


def test_weights_of_another_architecture_are_refused_with_the_right_name(needs: None) -> None:
    with pytest.raises(ConfigError, match=f"of architecture 'resnet18'; without config it is architecture = '{VG}"):
        recipe("resnet18", source=str(FAKE))
    with pytest.raises(ConfigError, match=r"config = 'tiny\.yaml' needs architecture = 'generalized_rcnn'"):
        recipe(source=str(FAKE), config="tiny.yaml")


def test_the_source_is_found_from_the_profiles_folder(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[encoders.regions]\nbackend = "detectron2"\nsource = "d2"\n'
        f'model = {{ path = "w.safetensors", architecture = "{VG}" }}\n',
        encoding="utf-8",
    )
    assert load_profile(file).encoders["regions"].settings["source"] == str(tmp_path / "d2")


def test_its_absence_is_named_with_all_else_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[encoders.regions]\nbackend = "detectron2"\nsource = "d2"\n'
        f'model = {{ path = "w.safetensors", architecture = "{VG}" }}\n'
        '[encoders.tokens]\nmodel = { tiny = "text" }\n',
        encoding="utf-8",
    )
    profile = load_profile(file)
    with pytest.raises(ModelsMissing, match=r"regions: source is .*git clone"):
        find_models(profile, profile.choose(), search=[])
    found = find_models(profile, profile.choose(), search=[], skip_missing=True)
    assert list(found.models) == ["tokens"]
    assert isinstance(found.missing["regions"], MissingModel)


def test_it_comes_in_without_a_path_left_behind(needs: None) -> None:
    before = list(sys.path)
    library = import_detectron2(find_detectron2(str(FAKE)))
    assert Path(library.config.__file__).is_relative_to(FAKE)
    assert sys.path == before


def test_another_library_in_the_same_process_is_refused(needs: None, tmp_path: Path) -> None:
    import_detectron2(find_detectron2(str(FAKE)))
    other = tmp_path / "other" / "detectron2"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    with pytest.raises(ResourceError, match=r"this process has loaded detectron2 from .*fake_detectron2"):
        import_detectron2(find_detectron2(str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: .*a_package_that_is_not_there"),
        ("assert False, 'needs an older torch'", "AssertionError: needs an older torch"),
        ("import PIL.Image; PIL.Image.LINEAR", "AttributeError: .*LINEAR"),
        ("raise RuntimeError('operator exists already')", "RuntimeError: operator exists already"),
        ("a line that is no Python", "SyntaxError"),
    ],
)
@pytest.mark.parametrize("file", ["__init__.py", "layers.py"])
def test_whatever_its_import_raises_names_it_and_leaves_nothing(
    file: str, line: str, expected: str, needs: None, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(FAKE, broken)
    (broken / "detectron2" / file).write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(MissingModel, match=rf"broken/detectron2: this detectron2 cannot be imported .{expected}"):
        import_detectron2(find_detectron2(str(broken)))
    assert not [name for name in sys.modules if name.partition(".")[0] == "detectron2"]
    assert import_detectron2(find_detectron2(str(FAKE)))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            '{"MODEL": {"META_ARCHITECTURE": "RetinaNet"}}',
            "a RetinaNet with Res5ROIHeads, whose regions have no pooled",
        ),
        ('{"MODEL": {"ROI_HEADS": {"NAME": "CascadeROIHeads"}}}', "a GeneralizedRCNN with CascadeROIHeads"),
        (
            '{"MODEL": {"PROPOSAL_GENERATOR": {"NAME": "P"}, "ROI_HEADS": {"NAME": "StandardROIHeads"}}}',
            "takes its proposals",
        ),
        (
            '{"MODEL": {"BACKBONE": {"NAME": "build_deformable_backbone"}}}',
            "needs more than its Python sources: Cannot",
        ),
        ('{"MODEL": {"BAKBONE": {}}}', "cannot be read as plain settings: .*BAKBONE"),
        ("!!python/object/apply:eval ['1']", "cannot be read as plain settings"),
        (
            '{"MODEL": {"ROI_HEADS": {"NAME": "StandardROIHeads", "NUM_CLASSES": 4}}}',
            "these weights with one.yaml: of another",
        ),
    ],
)
def test_a_configuration_that_is_no_such_network_is_refused(
    changed: str, expected: str, needs: None, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text(changed, encoding="utf-8")
    library = import_detectron2(find_detectron2(str(FAKE)))
    with pytest.raises(ModelMismatch, match=expected):
        build_zoo_network(library, tmp_path / "one.yaml", {}, "cpu")


def test_files_of_its_zoo_are_read_without_running_them(tmp_path: Path) -> None:
    import pickle  # to write what may not be read

    class Evil:
        def __reduce__(self) -> Any:
            return (exec, ("raise SystemExit",))

    good, bad, old = (tmp_path / f"{name}.pkl" for name in ("good", "bad", "old"))
    good.write_bytes(pickle.dumps({"model": {"a": np.ones(2, np.float16), "n": np.int64([3])}, "__author__": "zoo"}))
    bad.write_bytes(pickle.dumps({"model": {"a": Evil()}}))
    old.write_bytes(pickle.dumps({"blobs": {"a": "text"}}))
    state = read_zoo_weights(good)
    assert (state["a"].dtype, state["n"].tolist()) == (torch.float32, [3])
    with pytest.raises(ModelMismatch, match="exec"):
        read_zoo_weights(bad)
    with pytest.raises(ModelMismatch, match="expected arrays by name"):
        read_zoo_weights(old)
    torch.save({"model": {"a": torch.ones(2)}, "iteration": 5}, tmp_path / "trained.pth")
    assert read_zoo_weights(tmp_path / "trained.pth")["a"].tolist() == [1, 1]


def test_no_file_has_an_import_of_it() -> None:
    """It is imported by name in one function; see also the test below, in which every module is imported without it."""
    files = sorted((ROOT / "extract").rglob("*.py"))
    assert len(files) > 50
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] == "detectron2"], file


@pytest.mark.slow
def test_without_it_the_package_its_help_and_the_other_backends_work(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["detectron2"] = None
import importlib, pkgutil
import sentifuse
for package in ("commands", "extract"):
    found = importlib.import_module(f"sentifuse.{package}")
    for module in pkgutil.walk_packages(found.__path__, f"sentifuse.{package}."):
        importlib.import_module(module.name)
from PIL import Image
from sentifuse import cli
assert cli.run(["regions", "parity", "--help"]) == 0
Image.new("RGB", (40, 30), "red").save("one.png")
open("tv.toml", "w").write('[encoders.regions]\\nbackend = "torchvision"\\nmodel = { tiny = "detector" }\\n')
assert cli.run(["regions", "parity", "--profile", "tiny", "--against", "tv.toml", "--images", "one.png"]) == 0
open("d2.toml", "w").write('[encoders.regions]\\nbackend = "detectron2"\\n'
    'model = { path = "w.pth", architecture = "faster_rcnn_resnet101_c4" }\\n')
assert cli.run(["regions", "parity", "--profile", "tiny", "--against", "d2.toml", "--images", "one.png"]) == 5
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Ways to have it: its sources, not compiled" in done.stderr
