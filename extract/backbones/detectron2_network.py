"""The one file that imports detectron2: brings it in from where the user has it, and builds its networks.

Nothing happens before a network is asked for. Knows no images, chooses no regions.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentifuse import ResourceError
from sentifuse.cache.errors import BadSource, Unreadable
from sentifuse.cache.interchange.unpickle import read_pickle
from sentifuse.extract.backbones.detectron2_parts import BACKBONE, HEADS, register_parts
from sentifuse.extract.backbones.image import compare_state, read_state_dict, with_counters
from sentifuse.extract.detector.architecture import Architecture
from sentifuse.extract.detector.boxes import RATIOS, SIZES
from sentifuse.extract.detector.preprocess import MEAN_BGR
from sentifuse.extract.errors import MissingModel, ModelMismatch
from sentifuse.extract.models.detectron2_package import Detectron2Package

__all__ = ["build_visual_genome", "build_zoo_network", "import_detectron2", "read_zoo_weights"]

MODULES = {
    "config": "detectron2.config",
    "layers": "detectron2.layers",
    "modeling": "detectron2.modeling",
    "resnet": "detectron2.modeling.backbone.resnet",
    "roi_heads": "detectron2.modeling.roi_heads",
}
ANCHORS = ".cell_anchors."
NOT_STORED = ("pixel_mean", "pixel_std")


def import_detectron2(package: Detectron2Package) -> SimpleNamespace:
    """Its modules by the names of `MODULES`, from that package and no other; no path is left behind in sys.path.

    Raises
    ------
    ResourceError
        It cannot be imported, or this process has another one already.
    """
    folder = package.root / "detectron2"
    loaded = sys.modules.get("detectron2")
    if loaded is not None and Path(str(loaded.__file__)).resolve().parent != folder.resolve():
        raise ResourceError(
            f"{folder}: this process has loaded detectron2 from {loaded.__file__}; start a new one for each"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch deprecates of what it uses is no news to our user
        try:
            if loaded is None:
                _import_from(folder)
            modules = {short: importlib.import_module(name) for short, name in MODULES.items()}
        except Exception as error:  # another's code: old sources raise anything with newer libraries
            _forget()
            raise MissingModel(
                f"{folder}: this detectron2 cannot be imported ({type(error).__name__}: {error}). Sources that were "
                "made for other versions of their libraries fail so; take newer ones, see docs/backends.md"
            ) from error
    return SimpleNamespace(**modules)


def _import_from(folder: Path) -> None:
    """The package itself, without a look at sys.path; its own modules are found through it from then on."""
    spec = importlib.util.spec_from_file_location(
        "detectron2", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder / '__init__.py'} is no Python file")
    sys.modules["detectron2"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _forget() -> None:
    """Leave nothing of it behind: half a package would be taken for a whole one by whoever asks next."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        del sys.modules[name]


def build_zoo_network(library: SimpleNamespace, config: Path, state: Mapping[str, Tensor], device: str) -> Any:
    """A network of its zoo, and the configuration it was built from; no code in a configuration is run.

    Raises
    ------
    ModelMismatch
        The configuration is of no network with proposals and one box head, or needs compiled operations that are not
        there, or the weights do not fit it.
    """
    settings = library.config.get_cfg()
    yaml_error = importlib.import_module("yaml").YAMLError
    try:
        settings.merge_from_file(str(config), allow_unsafe=False)
    except (KeyError, ValueError, AssertionError, yaml_error) as error:
        raise ModelMismatch(f"{config}: cannot be read as plain settings: {' '.join(str(error).split())}") from error
    settings.MODEL.WEIGHTS = ""
    settings.MODEL.DEVICE = device
    name = settings.MODEL.META_ARCHITECTURE
    if name != "GeneralizedRCNN" or settings.MODEL.ROI_HEADS.NAME not in ("Res5ROIHeads", "StandardROIHeads"):
        raise ModelMismatch(
            f"{config}: a {name} with {settings.MODEL.ROI_HEADS.NAME}, whose regions have no pooled feature of their "
            "own; expected a GeneralizedRCNN with Res5ROIHeads (C4) or StandardROIHeads (FPN, DC5)"
        )
    try:
        net = _build(library, settings)
    except ImportError as error:
        raise ModelMismatch(f"{config}: needs more than its Python sources: {error}") from error
    if net.proposal_generator is None:
        raise ModelMismatch(f"{config}: takes its proposals from a file; expected a network that finds them")
    _load(net, state, f"these weights with {config.name}")
    return net, settings


def build_visual_genome(
    library: SimpleNamespace, state: Mapping[str, Tensor], sizes: Architecture, *, proposals: int, device: str
) -> Any:
    """Visual Genome's network with these weights (checked, see `detector/weights.py`), made of its parts and ours."""
    register_parts(library)
    settings = library.config.get_cfg()
    model = settings.MODEL
    model.SENTIFUSE = library.config.CfgNode(
        {
            "DEPTHS": list(sizes.depths),
            "ATTRIBUTES": sizes.attribute_count if sizes.has_attributes else 0,
            "EMBEDDING_WIDTH": sizes.embedding_width,
            "ATTRIBUTE_WIDTH": sizes.attribute_width,
        }
    )
    model.WEIGHTS, model.DEVICE = "", device
    model.PIXEL_MEAN, model.PIXEL_STD = list(MEAN_BGR), [1.0, 1.0, 1.0]
    model.BACKBONE.NAME = BACKBONE
    model.RESNETS.STEM_OUT_CHANNELS = model.RESNETS.WIDTH_PER_GROUP = sizes.base_width
    model.RESNETS.RES2_OUT_CHANNELS = sizes.output_width(2)
    model.ANCHOR_GENERATOR.SIZES, model.ANCHOR_GENERATOR.ASPECT_RATIOS = [list(SIZES)], [list(RATIOS)]
    model.ANCHOR_GENERATOR.OFFSET = 0.0
    model.RPN.CONV_DIMS = [sizes.proposal_width]
    model.RPN.POST_NMS_TOPK_TEST = proposals
    model.ROI_HEADS.NAME = HEADS
    model.ROI_HEADS.NUM_CLASSES = sizes.class_count
    model.ROI_BOX_HEAD.POOLER_TYPE, model.ROI_BOX_HEAD.POOLER_RESOLUTION = "ROIPool", 14
    net = _build(library, settings)
    for name, value in state.items():
        if ANCHORS in name:  # the library would compute them; the stored ones win
            net.get_buffer(name).copy_(value)
    _load(net, state, "these weights")
    return net


def read_zoo_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a file of the library's zoo or of a training with it; its pickles are read without running them.

    Raises
    ------
    ModelMismatch
        Not such a file.
    """
    if file.suffix != ".pkl":
        return read_state_dict(file)
    try:
        content = read_pickle(file)
    except (BadSource, Unreadable) as error:
        raise ModelMismatch(str(error)) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(
        isinstance(value, np.ndarray) and value.dtype.kind in "fiu" for value in state.values()
    ):
        raise ModelMismatch(f"{file}: expected arrays by name, alone or under 'model', as the zoo's model_final files")
    return {
        name: torch.from_numpy(value.astype(np.float32 if value.dtype.kind == "f" else np.int64))
        for name, value in state.items()
    }


def _build(library: SimpleNamespace, settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = library.modeling.build_model(settings)
        # torch says once a process that meshgrid will want another argument: here, where nobody needs to hear it.
        torch.meshgrid(torch.arange(1), torch.arange(1))
    return net.eval().requires_grad_(False)


def _load(net: Any, state: Mapping[str, Tensor], what: str) -> None:
    expected = {name: value for name, value in net.state_dict().items() if name not in NOT_STORED}
    kept = {name: value for name, value in state.items() if ANCHORS not in name and name not in NOT_STORED}
    kept = with_counters(expected, kept)
    if problems := compare_state(expected, kept):
        raise ModelMismatch(f"{what}: of another network: {'; '.join(problems)}")
    net.load_state_dict(kept, strict=False)
