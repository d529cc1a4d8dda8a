"""`distil evaluate`: students on a prepared dataset, against what people said of the images of one part of a split.

Beside the students stand their teacher's own labels and the most frequent class of the training part, on the same
images. An image that a student was trained on is no test of it: it is left out by name, or all is refused.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import sentifuse
from sentifuse import CacheError, ConfigError, DataError
from sentifuse.cache.featureset import RECIPE_FILE
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.benchmarks.answers import OK, answer_images
from sentifuse.crowd.benchmarks.model import find_model
from sentifuse.crowd.benchmarks.own_pairs_table import describe_reasons
from sentifuse.crowd.labels.pseudo_labels import labels_path, read_pseudo_labels
from sentifuse.crowd.students.features import base_fingerprint
from sentifuse.crowd.students.folder import StudentFolder, find_student
from sentifuse.crowd.students.out_of_fold import ALL
from sentifuse.crowd.students.rows import ProbeAnswers
from sentifuse.data import files
from sentifuse.data.card import read_card
from sentifuse.data.groups import read_groups
from sentifuse.data.image_hashes import read_image_hashes
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest
from sentifuse.data.prepare import dataset_dir
from sentifuse.data.protocols import GROUPED
from sentifuse.data.splits import SplitFacts, read_split, read_split_facts
from sentifuse.extract.devices import resolve_devices
from sentifuse.extract.encoders.sentiment_classes import CLASSES
from sentifuse.extract.gold_seen import read_gold_seen, resolve
from sentifuse.extract.plan import RowInput, list_inputs
from sentifuse.extract.seen_images import match_seen, read_seen
from sentifuse.fuse.comparison.measured import take
from sentifuse.fuse.evaluate import measure
from sentifuse.fuse.measure.paired import Comparison, compare_predictions, correct, verdict
from sentifuse.fuse.run import Predictions

__all__ = ["MAJORITY", "TEACHER", "EvaluateRequest", "evaluate_students", "read_answers"]

SPLITS = ("test", "val")
TEACHER = "the teacher's labels"
MAJORITY = "most frequent class"
SEEN = "seen in training"  # the image of another pair, or nearly
SHOWN_IDS = 5
JSON_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """Which students on which part of which split.

    Attributes
    ----------
    students
        Folders or names below artifacts/crowd/students; every other one is compared with the first.
    out
        A new folder; None: below `artifacts/crowd/benchmarks`.
    """

    artifacts: Path
    dataset: str
    students: tuple[Path, ...]
    split: str = "test"
    protocol: str | None = None
    split_seed: int = 0
    fold: int = 0
    rule: str | None = None
    device: str = "auto"
    batch_rows: int = 16
    out: Path | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """The images of a part that people labelled."""

    facts: SplitFacts
    pairs: tuple[RowInput, ...]
    labels: Mapping[str, int]
    prior: npt.NDArray[np.float32]  # (3,) shares of the classes in the training part
    root: Path
    hashes: Mapping[str, int | None]  # perceptual, by the image's digest
    groups: Mapping[str, str] | None

    def predictions(self, shares: Mapping[str, npt.NDArray[np.float32]]) -> Predictions:
        """Of the pairs that have shares, in the part's order."""
        ids = tuple(pair.id for pair in self.pairs if pair.id in shares)
        table = np.array([shares[id_] for id_ in ids], dtype=np.float64).reshape(-1, len(CLASSES))
        return Predictions(
            ids=ids,
            labels=np.array([self.labels[id_] for id_ in ids], dtype=np.int64),
            probabilities=table / table.sum(1, keepdims=True),
            classes=CLASSES,
        )


def evaluate_students(
    request: EvaluateRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Answer, measure and compare; returns the document of evaluation.json.

    Parameters
    ----------
    progress
        Called with (images answered, images to answer), of all students together.

    Returns
    -------
    dict
        rows: what `fuse.evaluate.measure` says of every student and of what stands beside them, with name, kind,
        excluded (id -> reason) and predictions (path); comparisons: the first student with each other row, Holm's
        correction over all of them.

    Raises
    ------
    ConfigError
        No such student, part, protocol or rule.
    DataError
        Nobody labelled images of this dataset; a student or its teacher knows the part's labels or images.
    """
    if request.split not in SPLITS:
        raise ConfigError.unknown("split", request.split, SPLITS, where="--split")
    students = [find_student(request.artifacts, name) for name in request.students]
    names = [student.path.name for student in students]
    if len(set(names)) != len(names) or not names:
        raise ConfigError(f"--student {','.join(names)}: expected one or more students, each once")
    part = _read_part(request)
    for student in students:
        _refuse_known(student, part, request)
    out = request.out or request.artifacts / "crowd" / "benchmarks" / (
        f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{names[0]}-{request.dataset}-{secrets.token_hex(2)}"
    )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: expected a new or an empty folder, found something there. Name another")
    files.check_writable(out, hint="Mend the permissions, or name another folder with --out")
    total = len(part.pairs) * len(students)
    rows: list[tuple[str, str, Predictions, dict[str, str]]] = []
    for place, student in enumerate(students):
        advance = partial(_advance, progress, place * len(part.pairs), total)
        answers, excluded = _answer(request, student, part, advance)
        rows.append((student.path.name, "student", answers, excluded))
    rows += _beside(request, students[0], part)
    return _write(request, out, part, students, rows)


def _advance(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def read_answers(evaluation: Path) -> dict[str, Predictions]:
    """Row -> what it said, of a written evaluation."""
    document = files.read_json(evaluation / JSON_FILE, hint="Type: sentifuse distil evaluate")
    found = {}
    for row in document["rows"]:
        columns, _ = files.read_table(
            evaluation / row["predictions"], ("id", "label", *(f"p_{name}" for name in CLASSES)), hint="Evaluate again"
        )
        found[str(row["name"])] = Predictions(
            ids=tuple(columns["id"]),
            labels=np.array([CLASSES.index(name) for name in columns["label"]], dtype=np.int64),
            probabilities=np.column_stack([columns[f"p_{name}"] for name in CLASSES]).astype(np.float64),
            classes=CLASSES,
        )
    return found


def _read_part(request: EvaluateRequest) -> _Part:
    folder = dataset_dir(request.artifacts, request.dataset)
    manifest = read_manifest(folder)
    if set(read_card(folder).classes) != set(CLASSES):
        raise DataError(f"{folder}: expected the classes {', '.join(CLASSES)}. A student knows no others")
    chosen: dict[str, Any] = {
        "protocol": request.protocol,
        "seed": request.split_seed,
        "rule": request.rule,
        "fold": request.fold,
    }
    gold = read_labels(folder, request.rule).by_id("image_label")
    if not gold:
        raise DataError(
            f"{folder}: expected labels of images by people, found none: its source labels pairs or texts alone. "
            "Public benchmarks: sentifuse benchmark"
        )
    parts = read_split(folder, **chosen, parts=("train", request.split))
    facts = read_split_facts(folder, **chosen)
    tested = {*parts[request.split]}
    own = tuple(pair for pair in list_inputs(manifest, ("image",)) if pair.id in tested and pair.id in gold)
    trained = Counter(gold[id_] for id_ in parts["train"] if id_ in gold)
    if not own or not trained:
        raise DataError(f"{folder}: expected images with labels by people in train and {request.split}, found none")
    return _Part(
        facts=facts,
        pairs=own,
        labels={pair.id: CLASSES.index(gold[pair.id]) for pair in own},
        prior=np.array([trained[name] / trained.total() for name in CLASSES], dtype=np.float32),
        root=manifest.root,
        hashes=read_image_hashes(folder),
        groups=read_groups(folder) if facts.protocol in GROUPED else None,
    )


def _refuse_known(student: StudentFolder, part: _Part, request: EvaluateRequest) -> None:
    """A student that was trained on pairs of the part, or whose teacher knows their labels, is not measured by them."""
    ids = {pair.id for pair in part.pairs}
    trained = [one.id for one in read_seen(student.path) if one.dataset == request.dataset and one.id in ids]
    digests = {pair.id: pair.image_digest for pair in part.pairs}
    told = [id_ for id_ in resolve(read_gold_seen(student.path), request.dataset, digests) if id_ in ids]
    # A validation part may be what a teacher was chosen by; that is said, not refused.
    for found, what in (
        (trained, "was trained on"),
        (told if request.split == "test" else [], "has a teacher who saw the labels of"),
    ):
        if found:
            shown = ", ".join(found[:SHOWN_IDS]) + (", …" if len(found) > SHOWN_IDS else "")
            raise DataError(
                f"{student.path.name}: the student {what} {len(found):,} of the {len(part.pairs):,} pairs of this part "
                f"({shown}). Train teacher and student with the --protocol and --seed that you evaluate on"
            )


def _answer(
    request: EvaluateRequest, student: StudentFolder, part: _Part, progress: Callable[[int], None]
) -> tuple[Predictions, dict[str, str]]:
    digests = {pair.id: pair.image_digest for pair in part.pairs}
    seen = match_seen(read_seen(student.path), digests, request.dataset, part.hashes)
    excluded: dict[str, str] = {}
    for pair in part.pairs:
        if not pair.image_digest:
            excluded[pair.id] = f"image: {pair.status}"
        elif pair.id in seen:
            excluded[pair.id] = SEEN
    asked = [pair for pair in part.pairs if pair.id not in excluded]
    probe = _cached_probe(request, student, asked)
    if probe is None:
        shares, failed = _answer_images(request, student, part, asked, progress)
    else:
        found = probe.values(ALL, asked)
        shares = {id_: values["probabilities"] for id_, values in found.items()}
        failed = {pair.id: probe.status(pair.id) for pair in asked if pair.id not in shares}
    progress(len(part.pairs))
    excluded |= failed
    if not shares:
        raise DataError(f"{student.path.name}: no image of the part can be used: {describe_reasons(excluded)}")
    return part.predictions(shares), excluded


def _cached_probe(request: EvaluateRequest, student: StudentFolder, asked: Sequence[RowInput]) -> ProbeAnswers | None:
    """A probe on the dataset's vectors of the recipe that it stands on; None where they are not those of today."""
    if student.config.kind != "probe" or not student.document:
        return None
    base = student.config.base
    directory = request.artifacts / "cache" / request.dataset / f"{base['encoder']}-{base_fingerprint(student)[:12]}"
    if not (directory / RECIPE_FILE).is_file():
        return None
    probe = ProbeAnswers({ALL: student.path}, FeatureReader(directory), str(base["field"]), request.dataset)
    try:
        probe.check(asked)
    except CacheError:
        return None
    return probe


def _answer_images(
    request: EvaluateRequest,
    student: StudentFolder,
    part: _Part,
    asked: Sequence[RowInput],
    progress: Callable[[int], None],
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, str]]:
    """Shares by id, and why an image has none."""
    device = resolve_devices(request.device)[0]
    model = find_model(request.artifacts, str(student.path), device=device)
    done = 0

    def advance(newly: int) -> None:
        nonlocal done
        done += newly
        progress(done)

    answers = answer_images(
        model.plan.build(device=device, share={}),
        [part.root / pair.image_path for pair in asked],
        batch_rows=request.batch_rows,
        progress=advance,
    )
    shares, failed = {}, {}
    rows = zip(asked, answers.statuses, answers.digests, answers.probabilities, strict=True)
    for pair, status, digest, probabilities in rows:
        if status == OK and digest == pair.image_digest:
            shares[pair.id] = probabilities
        else:
            failed[pair.id] = f"image: {status if status != OK else 'changed since data prepare'}"
    return shares, failed


def _beside(
    request: EvaluateRequest, student: StudentFolder, part: _Part
) -> list[tuple[str, str, Predictions, dict[str, str]]]:
    """The first student's teacher, where its labels are still there, and the most frequent class."""
    rows = []
    source: Mapping[str, Any] = student.document.get("trained_on", {}).get("kept_from", {}).get("labels", {})
    is_home = student.document.get("trained_on", {}).get("dataset") == request.dataset
    if source and is_home and labels_path(request.artifacts, request.dataset, source["name"]).is_file():
        labels = read_pseudo_labels(request.artifacts, request.dataset, source["name"])
        if labels.digest == source["digest"]:
            shares = dict(zip(labels.ids, labels.probabilities, strict=True))
            found = part.predictions(shares)
            excluded = {pair.id: "no label by the teacher" for pair in part.pairs if pair.id not in shares}
            if found.ids:
                rows.append((TEACHER, "from the text", found, excluded))
    always = part.predictions({pair.id: part.prior for pair in part.pairs})
    rows.append((MAJORITY, CLASSES[int(part.prior.argmax())], always, {}))
    return rows


def _write(
    request: EvaluateRequest,
    out: Path,
    part: _Part,
    students: Sequence[StudentFolder],
    rows: Sequence[tuple[str, str, Predictions, dict[str, str]]],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "dataset": request.dataset,
        "split": request.split,
        "protocol": part.facts.protocol,
        "seed": part.facts.seed,
        "fold": part.facts.fold,
        "rule": part.facts.rule,
        "split_digest": part.facts.digest,
        "students": {student.path.name: str(student.path) for student in students},
        "made": {"sentifuse": sentifuse.__version__, "at": datetime.now(UTC).isoformat(timespec="seconds")},
        "command": list(request.command),
        "rows": [],
    }
    for place, (name, kind, answers, excluded) in enumerate(rows):
        path = answers.write(out, f"{place}-{request.split}")
        found = measure(answers, groups=part.groups)
        found.pop("subsets")
        document["rows"].append({"name": name, "kind": kind, **found, "excluded": excluded, "predictions": path.name})
    first = rows[0]
    compared = [(name, _compare(first[2], answers, part.groups)) for name, _, answers, _ in rows[1:]]
    corrected = correct([found for _, found in compared])
    document["comparisons"] = [
        {"against": name, **found.to_json(), "verdict": verdict(found, first[0], name)}
        for (name, _), found in zip(compared, corrected, strict=True)
    ]
    files.write_json(out / JSON_FILE, document)
    return document | {"files": {"folder": str(out)}}


def _compare(a: Predictions, b: Predictions, groups: Mapping[str, str] | None) -> Comparison:
    """On the images that both answered."""
    common = [id_ for id_ in a.ids if id_ in {*b.ids}]
    return compare_predictions([take(a, common)], [take(b, common)], groups=groups)
