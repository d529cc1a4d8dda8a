"""Is ITIN's gain on the embedded sample a gain of fusing? Means over seeds, then with images shuffled between pairs.

python bench/sample_gain.py --seeds 0,1,2
"""

import argparse
import csv
import random
from pathlib import Path

from output import say

from sentifuse import cli
from sentifuse.data.labels import read_labels
from sentifuse.data.manifest import read_manifest


def write_shuffled_table(artifacts: Path) -> Path:
    """The labelled pairs of the sample, each with the image of another pair."""
    folder = artifacts / "datasets" / "sample"
    labels = read_labels(folder)
    label_of = dict(zip(labels.ids, labels.label, strict=True))
    pairs = [pair for pair in read_manifest(folder).pairs if label_of[pair.id] is not None]
    images = [pair.image_path for pair in pairs]
    random.Random(0).shuffle(images)
    path = artifacts / "bench" / "sample_shuffled.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "image", "text", "label"])
        writer.writerows([p.id, image, p.text, label_of[p.id]] for p, image in zip(pairs, images, strict=True))
    return path


def type_command(*words: str) -> None:
    say("$ sentifuse " + " ".join(words))
    if code := cli.run(words):
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--seeds", default="0,1,2", help="as of `sentifuse compare`")
    arguments = parser.parse_args()
    here = ("--artifacts", str(arguments.artifacts))
    type_command("data", "prepare", "sample", *here)
    type_command("extract", "--dataset", "sample", "--profile", "tiny", *here)
    root = str(read_manifest(arguments.artifacts / "datasets" / "sample").root)
    shuffled = ("--name", "sample_shuffled", "--table", str(write_shuffled_table(arguments.artifacts)), "--root", root)
    type_command("data", "prepare", "pairs", *shuffled, *here)
    type_command("extract", "--dataset", "sample_shuffled", "--profile", "tiny", *here)
    for dataset, heads in (("sample", "itin,text_only,image_only,logreg"), ("sample_shuffled", "itin,text_only")):
        type_command("compare", "--dataset", dataset, "--heads", heads, "--seeds", arguments.seeds, *here)


if __name__ == "__main__":
    main()
