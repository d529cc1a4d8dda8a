"""What a leak is worth: one test pair answered with a near-duplicate of it in training, and without.

Reads two comparisons of one dataset, one on `random` splits and one on `grouped-folds`, and asks of every test pair
that leaked under the first how often each head was right under either. Intervals are of the paired difference, drawn
over groups of near-duplicates.

python bench/leak.py artifacts/comparisons/RANDOM artifacts/comparisons/FOLDS
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from output import say, write

from sentifuse.data.groups import read_groups
from sentifuse.data.splits import read_split
from sentifuse.fuse.comparison.measured import take
from sentifuse.fuse.measure.paired import compare_predictions
from sentifuse.fuse.run import Predictions, RunDirectory, read_predictions


def predictions_of(comparison: Path, artifacts: Path) -> dict[str, dict[tuple[int, int], Predictions]]:
    """Row -> (seed, fold) -> what it answered on the test part."""
    found: dict[str, dict[tuple[int, int], Predictions]] = {}
    for one in json.loads((comparison / "comparison.json").read_text(encoding="utf-8"))["runs"]:
        run = RunDirectory.open(artifacts / "runs" / one["run"])
        found.setdefault(one["row"], {})[one["seed"], one["fold"]] = read_predictions(run, "test")
    return found


def leaked_ids(dataset_dir: Path, seed: int, rule: str, groups: Mapping[str, str]) -> list[str]:
    parts = read_split(dataset_dir, protocol="random", seed=seed, rule=rule, parts=("train", "test"))
    trained = {groups[id_] for id_ in parts["train"]}
    return [id_ for id_ in parts["test"] if groups[id_] in trained]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("random", type=Path, help="a comparison's folder, protocol random")
    parser.add_argument("folds", type=Path, help="another of the same heads, protocol grouped-folds")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    arguments = parser.parse_args()
    compared = json.loads((arguments.random / "comparison.json").read_text(encoding="utf-8"))
    dataset, rule = compared["dataset"], compared["rule"]
    dataset_dir = arguments.artifacts / "datasets" / dataset
    groups = read_groups(dataset_dir)
    leaky, clean = (predictions_of(folder, arguments.artifacts) for folder in (arguments.random, arguments.folds))
    document: dict[str, Any] = {"dataset": dataset, "heads": {}}
    say(f"{'head':<20} leaked, random   same pairs, grouped-folds   points [95 %]")
    for row in [row for row in leaky if row in clean]:
        pairs = []
        for (seed, _), answers in leaky[row].items():
            ids = leaked_ids(dataset_dir, seed, rule, groups)
            for other in clean[row].values():
                common = [id_ for id_ in ids if id_ in {*other.ids}]
                pairs += [(take(answers, common), take(other, common))] if common else []
        found = compare_predictions([a for a, _ in pairs], [b for _, b in pairs], groups=groups)
        document["heads"][row] = found.to_json()
        ends = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        say(f"{row:<20} {100 * found.a:>14.1f}   {100 * found.b:>25.1f}   {ends}   n = {found.n}, {found.units} groups")
    write(arguments.artifacts, f"leak_{dataset}.json", document)


if __name__ == "__main__":
    main()
