"""`sentifuse weights`: weight files that lie in the artefacts folder, and how they get there."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentifuse import ConfigError, ResourceError
from sentifuse.commands import options
from sentifuse.commands.output import Output, table

if TYPE_CHECKING:
    from sentifuse.extract.detector.checkpoints.conversion import Converted
    from sentifuse.extract.models.known_sources import KnownSource
    from sentifuse.extract.models.located import LocatedModel

KINDS = ("vg", "crowd")  # what `weights convert` can read; the first one where none is named

CROWD_FOLDER = "crowd-vit"  # what the profile `paper` looks for

FETCHED = "fetched at first use"  # said of a model that is not on this machine, and that a run may download

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[KIND] FILE",
        help="FILE: weights in a layout they were published in (a pickle, a torch file, MILVLG's, a .caffemodel, "
        "or safetensors; for crowd Keras' .h5). KIND before it: of which network; vg, the Faster R-CNN of Visual "
        "Genome, is the default; crowd is the ViT of The Emotions of the Crowd.",
        show_default=False,
    ),
]
Target = Annotated[
    Path | None,
    typer.Option(
        "--to",
        help="File to write, ending in .safetensors; for crowd a folder.",
        show_default="artifacts/weights/vg-faster-rcnn-resnet101-c4.safetensors, or …/crowd-vit",
    ),
]
Objects = Annotated[
    Path | None, typer.Option("--objects", help="Text file with the names of the 1,600 objects, one a line.")
]
Attributes = Annotated[
    Path | None, typer.Option("--attributes", help="Text file with the names of the 400 attributes, one a line.")
]
VariantName = Annotated[
    str | None,
    typer.Option("--variant", help="Of crowd: B_16, B_32, L_16 or L_32.", show_default="told by the file's shapes"),
]
Gelu = Annotated[
    str | None,
    typer.Option(
        "--gelu",
        help="Of crowd, in the head: exact or tanh.",
        show_default="as the file's config says; tanh for weights alone",
    ),
]

app = typer.Typer(help="Weight files of the artefacts folder.", no_args_is_help=True)


@app.command("list", epilog="Example: sentifuse weights list --profile offline")
def list_command(
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    profile: options.ProfileName = None,
    weights: options.Weights = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """What every encoder of a profile needs and whether it is there, then where the detector's weights were offered.

    Never uses the network: what is said of those places is what public pages say.
    """
    from sentifuse.commands.state import profile_or_chosen
    from sentifuse.extract.errors import ModelMismatch
    from sentifuse.extract.models.known_sources import KNOWN_SOURCES
    from sentifuse.extract.models.source import DOWNLOADED
    from sentifuse.extract.models.weights import locate, weights_folder
    from sentifuse.extract.profile import load_profile

    name, _ = profile_or_chosen(artifacts, profile)
    rows: list[list[str]] = []
    unusable: dict[str, list[str]] = {}  # encoders by what is wrong with their model
    for entry in load_profile(name).encoders.values():
        row = [entry.name, str(entry.model)]
        try:
            located = locate(entry.model, search=[*(weights or []), weights_folder(artifacts)], is_offline=True)
            rows.append([*row, "there", located.digest[:12], _names_beside(located)])
        except ModelMismatch as error:
            unusable.setdefault(str(error), []).append(entry.name)
            rows.append([*row, "missing", "", str(error)])
        except ResourceError:
            rows.append([*row, "missing", "", FETCHED if entry.model.kind in DOWNLOADED else ""])
    keys = ("encoder", "model", "state", "digest", "note")
    document = {
        "profile": name,
        "weights": [dict(zip(keys, row, strict=True)) for row in rows],
        "detector_sources": [asdict(source) for source in KNOWN_SOURCES],
    }
    spoken = [[*row[:2], _state_in_words(row, unusable), row[3]] for row in rows]
    problems = [f"{', '.join(encoders)}: {problem}" for problem, encoders in unusable.items()]
    problems += [f"{row[0]}: {row[4]}" for row in rows if row[2] == "there" and row[4]]
    Output(as_json=as_json).result(document, [*table(keys[:4], spoken), *problems, "", *_sources(KNOWN_SOURCES)])


def _state_in_words(row: Sequence[str], unusable: Container[str]) -> str:
    _, _, state, _, note = row
    if state == "there":
        return state
    return "unusable" if note in unusable else note or state


def _names_beside(located: "LocatedModel") -> str:
    """Which names of objects and attributes lie beside the detector's file; "" for other networks."""
    from sentifuse.extract.detector.architecture import ARCHITECTURES
    from sentifuse.extract.detector.checkpoints.vocabulary import find_vocabularies
    from sentifuse.extract.errors import ModelMismatch

    if located.path is None or located.architecture not in ARCHITECTURES:
        return ""
    try:
        found = find_vocabularies(located.path, ARCHITECTURES[located.architecture])
    except ModelMismatch as error:
        return str(error)
    counts = {"objects": found.objects, "attributes": found.attributes}
    there = [f"{len(names):,} {kind}" for kind, names in counts.items() if names]
    return f"names of {' and '.join(there)} beside it" if there else "no names beside it, regions keep numbers only"


@app.command("add", epilog="Example: sentifuse weights add mobilenet_v2_imagenet_fp16.safetensors")
def add(
    file: Annotated[Path, typer.Argument(help="A weight file or model folder to copy into artifacts/weights/.")],
    *,
    artifacts: options.Artifacts = options.ARTIFACTS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file of the same name.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Copy a weight file or a model folder to where profiles look for it, and print its SHA-256."""
    from sentifuse.extract.models.known_sources import advise_conversion
    from sentifuse.extract.models.placing import add_weights
    from sentifuse.extract.models.weights import weights_folder

    added = add_weights(file, weights_folder(artifacts), overwrite=force)
    lines = [f"{name}  sha256 {digest}" for name, digest in added.items()]
    output = Output(as_json=as_json)
    output.result({"folder": str(weights_folder(artifacts)), "files": added}, lines)
    if advice := advise_conversion(file):
        output.note(advice, style="warning")


@app.command(
    "convert",
    epilog="Example: sentifuse weights convert vg faster_rcnn_from_caffe_attr.pkl --objects objects_vocab.txt "
    "--attributes attributes_vocab.txt",
)
def convert(
    words: Words,
    *,
    to: Target = None,
    objects: Objects = None,
    attributes: Attributes = None,
    variant: VariantName = None,
    gelu: Gelu = None,
    artifacts: options.Artifacts = options.ARTIFACTS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite other files of the same names.")] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Rewrite published weights as what profiles look for: a safetensors file with names and SHA-256 beside it.

    Of kind crowd: a student folder, for the encoder crowd.
    """
    from sentifuse.extract.detector.architecture import ARCHITECTURES
    from sentifuse.extract.detector.checkpoints.conversion import convert_weights
    from sentifuse.extract.models.known_sources import DETECTOR, DETECTOR_FILE, known_source
    from sentifuse.extract.models.weights import weights_folder

    kind, source = _file_of(words)
    _refuse_foreign_options(
        kind, {"--objects": objects, "--attributes": attributes}, {"--variant": variant, "--gelu": gelu}
    )
    output = Output(as_json=as_json)
    if kind == "crowd":
        _convert_crowd(output, source, to or weights_folder(artifacts) / CROWD_FOLDER, variant, gelu, force=force)
        return
    if known := known_source(source.name):
        output.note(
            f"{source.name}: by its name, which proves nothing, the model for {known.variant} of {known.repository}"
        )
    converted = convert_weights(
        source,
        to or weights_folder(artifacts) / DETECTOR_FILE,
        ARCHITECTURES[DETECTOR],
        objects=objects,
        attributes=attributes,
        overwrite=force,
        note=output.note,
    )
    output.result(_document(converted), _lines(converted))


def _convert_crowd(
    output: Output, source: Path, target: Path, variant: str | None, gelu: str | None, *, force: bool
) -> None:
    from sentifuse.extract.keras_vit import convert_crowd

    output.note(f"reading {source}")
    made = convert_crowd(source, target, variant=variant, gelu=gelu, overwrite=force)
    document = {"kind": "crowd", **asdict(made), "folder": str(made.folder)}
    lines = [
        f"{made.folder}{'' if made.is_new else '  (was there already)'}",
        f"digest {made.digest}",
        f"read as {made.layout}: {made.variant}, {made.tensors} tensors, {made.image_px} px, pixels {made.pixels}",
        f"GELU of the head: {made.gelu}",
        f'to use it: [encoders.crowd] model = {{ folder = "{made.folder.name}" }} in a profile',
    ]
    if made.ignored:
        lines.insert(3, f"ignored, for they are no part of the model: {', '.join(made.ignored)}")
    output.result(document, lines)


def _refuse_foreign_options(kind: str, of_vg: Mapping[str, Any], of_crowd: Mapping[str, Any]) -> None:
    foreign = {"vg": of_crowd, "crowd": of_vg}[kind]
    given = [name for name, value in foreign.items() if value is not None]
    if given:
        raise ConfigError(f"weights convert {kind}: {given[0]} is not for weights of this kind; leave it out")


def _file_of(words: Sequence[str]) -> tuple[str, Path]:
    """Kind and file of `[KIND] FILE`; a single word is the file, whatever its name."""
    if len(words) == 1 and (words[0] not in KINDS or Path(words[0]).exists()):
        return KINDS[0], Path(words[0])
    if len(words) == 2 and words[0] in KINDS:
        return words[0], Path(words[1])
    if len(words) == 2:
        raise ConfigError.unknown("kind of weights", words[0], KINDS, where="weights convert")
    problem = f"no FILE after {words[0]}" if len(words) == 1 else f"{len(words)} words, expected one file"
    raise ConfigError(f"weights convert: {problem}. Type: sentifuse weights convert FILE")


def _document(converted: "Converted") -> dict[str, Any]:
    vocabularies = {kind: str(file) for kind, file in converted.vocabularies.items()}
    paths = {"file": str(converted.file), "sha256_file": str(converted.sha256_file), "vocabularies": vocabularies}
    return {"kind": "vg", **asdict(converted), **paths}


def _lines(converted: "Converted") -> list[str]:
    has = "with" if converted.has_attributes else "without"
    values = {"formula": "those of the formula", "caffe": "Caffe's", "own": "others than the formula's and Caffe's"}
    origins = {
        "stored": f"stored in the file ({values[converted.anchor_values]})",
        "formula": "by the formula, for the file stores none",
        "caffe": "Caffe's, for files of this layout store none",
    }
    size = f"{converted.tensors} tensors, {converted.size_bytes / 1e6:,.1f} MB"
    lines = [
        f"{converted.file}{'' if converted.is_new else '  (was there already)'}",
        f"sha256 {converted.sha256}  (in {converted.sha256_file.name})",
        f"read as {converted.layout}: {size}, {has} attributes",
        f"anchors: {origins[converted.anchors]}",
    ]
    if converted.ignored:
        lines.append(f"ignored, for they are no part of the detector: {', '.join(converted.ignored)}")
    names = [f"{kind} in {file.name}" for kind, file in converted.vocabularies.items()]
    lines.append(f"names: {', '.join(names) or 'none given (--objects, --attributes); regions keep numbers only'}")
    return lines


def _sources(sources: "Sequence[KnownSource]") -> list[str]:
    """What is known of the places that offered the detector's weights."""
    keys = ("file", "layout", "model", "attributes", "status")
    rows = [
        [
            source.file,
            source.layout or "refused",
            source.variant,
            "yes" if source.has_attributes else "no",
            source.status,
        ]
        for source in sources
    ]
    said: dict[str, dict[str, None]] = {}
    for source in sources:
        said.setdefault(source.repository, {})[source.said] = None
    return [
        "Where the weights of the Visual Genome detector were offered, as public pages tell it; not tried by us:",
        *table(keys, rows),
        *(f"{repository}: {'; '.join(words)}" for repository, words in said.items()),
        "None is downloaded for you. A copy you have: sentifuse weights convert FILE. Pages and licences: --json",
    ]
