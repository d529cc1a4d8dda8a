"""What the crowd teaches on MVSA: a student of text labels against what people said of the images, seed by seed.

python bench/crowd_real.py --artifacts artifacts [--dataset mvsa_single] [--seeds 5] [--heads] [--quick]

For every seed of grouped splits: a text teacher learns the text labels of the training pairs; it labels all pairs; four
filters keep images; a probe on `context.vector` learns from each, and one more from what people said of the training
images. All are measured on the test part's image labels. `--heads` then trains `logreg`, `crowd_linear` and `itin` with
the scene, the crowd or both as context on pair labels, with the crowd's features out of fold by the filter chosen
beforehand (`--features-of`). The dataset must be prepared, and `tokens`, `context`, `regions` extracted. What is there
is not made again. Writes artifacts/bench/crowd_real.json. Nothing passes or fails here.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import clock
import numpy as np
from output import say, write

from sentifuse.crowd.benchmarks.own_pairs import MAJORITY, TEACHER, EvaluateRequest, evaluate_students, read_answers
from sentifuse.crowd.labels.choose import FilterRequest, choose
from sentifuse.crowd.labels.filter_pages import write_filtered
from sentifuse.crowd.labels.filter_report import build_report
from sentifuse.crowd.labels.filtering import Thresholds
from sentifuse.crowd.labels.kept import kept_path, read_kept
from sentifuse.crowd.labels.pseudo_labels import labels_path, write_pseudo_labels
from sentifuse.crowd.labels.teachers import TEXT_TARGET, label_by_run
from sentifuse.crowd.students.features import FeaturesRequest, write_features
from sentifuse.crowd.students.folder import students_folder
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.train import StudentRequest, train_student
from sentifuse.data.groups import read_groups
from sentifuse.fuse.evaluate import evaluate
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.paired import compare_predictions, pool
from sentifuse.fuse.measure.statistics import bootstrap, spread
from sentifuse.fuse.run import Predictions, RunDirectory, read_predictions
from sentifuse.fuse.train import TrainRequest, train

PROTOCOL = "grouped"
FILTERS = {
    "off": Thresholds(negative=0.0, neutral=0.0, positive=0.0),
    ".70": Thresholds(negative=0.70, neutral=0.70, positive=0.70),
    ".90-.90-.70": Thresholds(positive=0.90, neutral=0.90, negative=0.70),
}
GOLD = "gold"
UNFILTERED = "student, filter off, balanced"
RECIPES: Mapping[str, Mapping[str, Any]] = {"balanced": {}, "as they come": {"is_balanced": False}}
# Beside the hard targets of filter "off": the teacher's shares, and images that count by its confidence.
SOFTER: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "soft targets": ({"alpha": 0.5}, {}),
    "weighed by confidence": ({}, {"weights": "confidence"}),
}
HEADS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "logreg": ("logreg", {}),
    "crowd_linear": ("crowd_linear", {}),
    "itin": ("itin", {}),
    "itin, context crowd": ("itin", {"context": "crowd"}),
    "itin, context both": ("itin", {"context": "both"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--dataset", default="mvsa_single")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--heads", action="store_true", help="also what the crowd's features add to fusion heads")
    parser.add_argument("--features-of", choices=list(FILTERS), default="off")
    parser.add_argument("--quick", action="store_true", help="one seed and short trainings: does it still run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.folds = 1, 2
    groups = read_groups(arguments.artifacts / "datasets" / arguments.dataset)
    images: dict[str, list[Predictions]] = {}
    pairs: dict[str, list[Predictions]] = {}
    for seed in range(arguments.seeds):
        for name, answers in measure_students(arguments, seed).items():
            images.setdefault(name, []).append(answers)
        if arguments.heads:
            for name, answers in measure_heads(arguments, seed).items():
                pairs.setdefault(name, []).append(answers)
    document: dict[str, Any] = {"machine": clock.machine(), "dataset": arguments.dataset, "seeds": arguments.seeds}
    document["images"] = tabulate(
        "what people said of the images", images, groups, against=(MAJORITY, TEACHER, UNFILTERED)
    )
    if pairs:
        document["features_of"] = arguments.features_of
        document["pairs"] = tabulate("labels of the pairs", pairs, groups, against=("logreg", "itin"))
    write(arguments.artifacts, "crowd_real.json", document)


def measure_students(arguments: argparse.Namespace, seed: int) -> dict[str, Predictions]:
    """Row -> its answers on the test part of this seed."""
    artifacts, dataset = arguments.artifacts, arguments.dataset
    labels = f"real-{seed}"
    if not labels_path(artifacts, dataset, labels).is_file():
        teacher = find_or_train(arguments, seed, "text_only", {}, target=TEXT_TARGET)
        write_pseudo_labels(artifacts, dataset, labels, label_by_run(artifacts, dataset, teacher.path))
    names: dict[str, str] = {}
    for number, (which, thresholds) in enumerate(FILTERS.items()):
        kept = f"real-{seed}-{number}"
        if not kept_path(artifacts, dataset, kept).is_file():
            request = FilterRequest(
                artifacts=artifacts, dataset=dataset, labels=labels, thresholds=thresholds, dedup="none"
            )
            chosen = choose(request)
            write_filtered(request, kept, chosen, build_report(artifacts, chosen))
        for recipe, settings in RECIPES.items():
            say(f"seed {seed}, filter {which}, classes {recipe}: {len(read_kept(artifacts, dataset, kept).ids):,} kept")
            row = f"student, filter {which}, {recipe}"
            names[row] = make_student(arguments, seed, kept, {"kept": kept}, recipe, settings)
    for recipe, (settings, more) in SOFTER.items():
        kept = f"real-{seed}-0"
        row = f"student, filter off, {recipe}"
        names[row] = make_student(arguments, seed, kept, {"kept": kept, **more}, recipe, settings)
    for recipe, settings in RECIPES.items():
        stem = f"real-{seed}-{GOLD}"
        names[f"probe on people's labels, {recipe}"] = make_student(
            arguments, seed, stem, {"label": "image_label"}, recipe, settings
        )
    out = artifacts / "bench" / "crowd_real" / f"{dataset}-{seed}"
    if not (out / "evaluation.json").is_file():
        evaluate_students(
            EvaluateRequest(
                artifacts=artifacts,
                dataset=dataset,
                students=tuple(Path(name) for name in names.values()),
                protocol=PROTOCOL,
                split_seed=seed,
                out=out,
            )
        )
    answers = read_answers(out)
    return {row: answers[name] for row, name in names.items()} | {row: answers[row] for row in (TEACHER, MAJORITY)}


def make_student(
    arguments: argparse.Namespace,
    seed: int,
    stem: str,
    material: Mapping[str, Any],
    recipe: str,
    settings: Mapping[str, Any],
) -> str:
    """Name of the student, trained if it is not there."""
    name = f"{stem}-{recipe.split()[0]}"
    if not (students_folder(arguments.artifacts) / name).is_dir():
        train_student(
            StudentRequest(
                material=MaterialRequest(
                    artifacts=arguments.artifacts,
                    dataset=arguments.dataset,
                    protocol=PROTOCOL,
                    split_seed=seed,
                    **material,
                ),
                overrides=dict(settings) | ({"epochs": 2} if arguments.quick else {}),
                seed=seed,
                folds=arguments.folds,
                name=name,
            )
        )
    return name


def measure_heads(arguments: argparse.Namespace, seed: int) -> dict[str, Predictions]:
    """Head -> its answers on the test part, on the crowd's features that this seed's student gives out of fold."""
    student = Path(f"real-{seed}-{list(FILTERS).index(arguments.features_of)}-balanced")
    write_features(FeaturesRequest(artifacts=arguments.artifacts, dataset=arguments.dataset, student=student))
    found = {}
    for row, (head, settings) in HEADS.items():
        run = find_or_train(arguments, seed, head, settings)
        if not (run.path / "predictions-test.parquet").is_file():
            evaluate(run, artifacts=arguments.artifacts)
        found[row] = read_predictions(run, "test")
        say(f"seed {seed}, {row}: {(found[row].predicted == found[row].labels).mean():.3f}")
    return found


def find_or_train(
    arguments: argparse.Namespace, seed: int, head: str, settings: Mapping[str, Any], *, target: str = "label"
) -> RunDirectory:
    """A run of this benchmark, by the list that it keeps of them; trained if it is not there."""
    folder = arguments.artifacts / "bench" / "crowd_real" / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    reads_crowd = head == "crowd_linear" or "context" in settings
    crowd = f"-by{list(FILTERS).index(arguments.features_of)}" if reads_crowd else ""
    note = folder / f"{arguments.dataset}-{seed}-{head}-{target}-{'-'.join(map(str, settings.values()))}{crowd}.json"
    if note.is_file():
        return RunDirectory.open(Path(json.loads(note.read_text(encoding="utf-8"))["run"]))
    quick = {"epochs": 1} if arguments.quick and head != "logreg" and head != "crowd_linear" else {}
    run = train(
        TrainRequest(
            artifacts=arguments.artifacts,
            dataset=arguments.dataset,
            head=head,
            seed=seed,
            protocol=PROTOCOL,
            target=target,
            overrides=dict(settings) | quick,
        )
    )
    note.write_text(json.dumps({"run": str(run.path)}) + "\n", encoding="utf-8")
    return run


def tabulate(
    title: str, rows: Mapping[str, Sequence[Predictions]], groups: Mapping[str, str], *, against: Sequence[str]
) -> list[dict[str, Any]]:
    """Means over seeds, intervals over groups of all seeds' answers together, paired differences."""
    say(f"\n{title}: {len(next(iter(rows.values())))} seeds")
    found = []
    for name, parts in rows.items():
        each = [score(part.labels, part.predicted, part.classes) for part in parts]
        together = pool(parts)
        drawn = bootstrap(
            together.labels,
            together.predicted,
            len(together.classes),
            groups=[groups[id_] for id_ in together.ids],
            measures=("accuracy", "f1_macro"),
        )
        row: dict[str, Any] = {"name": name, "n": len(together.ids)}
        for measure, interval in drawn.items():
            row[measure] = {"spread": str(spread([one[measure] for one in each])), "interval": interval.to_json()}
        row["against"] = {}
        for other in against:
            if other != name:
                row["against"][other] = {
                    measure: compare_predictions(parts, rows[other], groups=groups, measure=measure).to_json()
                    for measure in ("accuracy", "f1_macro")
                }
        found.append(row)
        say(f"{name:<42} {_figures(row)}")
    return found


def _figures(row: Mapping[str, Any]) -> str:
    words = []
    for measure in ("accuracy", "f1_macro"):
        ends = row[measure]["interval"]
        words.append(f"{measure} {row[measure]['spread']} [{ends['low']:.3f}, {ends['high']:.3f}]")
    for other, found in row["against"].items():
        for measure, one in found.items():
            ends = f"[{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"
            words.append(f"{measure} − {other}: {100 * one['difference']:+.1f} {ends} p {one['p']:.3f}")
    return "  ".join(words)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
