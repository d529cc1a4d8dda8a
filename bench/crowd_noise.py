"""Label noise by construction: does a student see through its teacher's mistakes, and does the filter help?

python bench/crowd_noise.py [--seeds 5] [--images 3000] [--noise pair|symmetric] [--profile tiny] [--weights DIR]

Pictures whose shape and colour carry the class, both overlapping between classes, on cluttered ground. A made-up
teacher labels two thirds of them; a label is wrong with rate 0, 0.2 or 0.4, and more often where the teacher is less
sure. Labels, filter, probe and features are those of `sentifuse distil`; the last third, never labelled, is answered
and scored by the true classes. `--profile offline --weights DIR` takes real image features. Writes
artifacts/bench/crowd_noise.json. Nothing passes or fails here.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import clock
import numpy as np
import numpy.typing as npt
from output import say, write
from PIL import Image, ImageDraw

from sentifuse import cli
from sentifuse.cache.reader import FeatureReader
from sentifuse.crowd.labels.choose import FilterRequest, choose
from sentifuse.crowd.labels.filter_pages import write_filtered
from sentifuse.crowd.labels.filter_report import build_report
from sentifuse.crowd.labels.filtering import Thresholds
from sentifuse.crowd.labels.pseudo_labels import PseudoLabels, write_pseudo_labels
from sentifuse.crowd.students.features import FeaturesRequest, write_features
from sentifuse.crowd.students.material import MaterialRequest
from sentifuse.crowd.students.train import StudentRequest, train_student
from sentifuse.extract.encoders.sentiment_classes import CLASSES
from sentifuse.fuse.measure.metrics import score
from sentifuse.fuse.measure.statistics import spread

RATES = (0.0, 0.2, 0.4)
FILTERS = {"off": 0.0, "0.7": 0.7}
LEAST_SURE = 0.4  # confidences are uniform from here to 1
SIDE = 64
COLOURS = np.array([[50, 60, 170], [130, 125, 120], [215, 170, 60]])  # negative, neutral, positive
COLOUR_SPREAD = 20.0

IntArray = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--noise", choices=("pair", "symmetric"), default="pair", help="one wrong class, or either")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--quick", action="store_true", help="one seed: does it still run?")
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else arguments.seeds
    found: dict[tuple[float, str], list[dict[str, float]]] = {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            classes = make_dataset(Path(name), arguments, seed)
            for rate in RATES:
                for which, one in measure(Path(name) / "artifacts", classes, rate, arguments.noise, seed).items():
                    found.setdefault((rate, which), []).append(one)
    rows = [{"rate": rate, "filter": which, **summarise(each)} for (rate, which), each in found.items()]
    for row in rows:
        say(
            f"labels wrong {row['rate']:.0%}, filter {row['filter']:<4} kept {row['kept']['mean']:.0f}, right labels "
            f"{row['labels']['mean']:.3f}; student on clean images: accuracy {row['accuracy']['text']}, macro-F1 "
            f"{row['f1_macro']['text']}"
        )
    made = {
        "images": arguments.images,
        "noise": arguments.noise,
        "profile": arguments.profile,
        "seeds": seeds,
        "machine": clock.machine(),
    }
    write(arguments.artifacts, "crowd_noise.json", made | {"rows": rows})


def make_dataset(folder: Path, arguments: argparse.Namespace, seed: int) -> IntArray:
    """Pictures, prepared as dataset `shapes`, with their `context` features; int64 (N,) true classes in their order."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(arguments.images) % len(CLASSES))
    rows = ["id,image,text"]
    for i, k in enumerate(classes.tolist()):
        draw(k, rng).save(folder / f"{i:04d}.png")
        rows.append(f"{i:04d},{i:04d}.png,picture number {i}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    here = ["--artifacts", str(folder / "artifacts")]
    table = ["--table", str(folder / "pairs.csv"), "--root", str(folder)]
    type_in(["data", "prepare", "pairs", "--name", "shapes", *table, *here])
    weights = [] if arguments.weights is None else ["--weights", str(arguments.weights)]
    extract = ["extract", "--dataset", "shapes", "--profile", arguments.profile, "--encoders", "context"]
    type_in([*extract, *weights, *here])
    return classes


def type_in(words: list[str]) -> None:
    code = cli.run(words)
    if code:
        raise SystemExit(f"sentifuse {' '.join(words)}: exit code {code}")


def draw(k: int, rng: np.random.Generator) -> Image.Image:
    """A triangle, a square or a disc in a colour around its class's, on noise with grey scraps."""
    ground = rng.integers(90, 166, (SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
    picture = Image.fromarray(ground).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(3):
        x, y = rng.integers(0, SIDE, 2).tolist()
        grey = int(rng.integers(0, 256))
        pen.rectangle((x, y, x + 8, y + 5), fill=(grey, grey, grey))
    r, g, b = np.clip(COLOURS[k] + rng.normal(0, COLOUR_SPREAD, 3), 0, 255).astype(int).tolist()
    size = int(rng.integers(28, 44))
    x, y = rng.integers(0, SIDE - size, 2).tolist()
    box = (x, y, x + size, y + size)
    if k == 0:
        pen.polygon([(x, y + size), (x + size // 2, y), (x + size, y + size)], fill=(r, g, b))
    elif k == 1:
        pen.rectangle(box, fill=(r, g, b))
    else:
        pen.ellipse(box, fill=(r, g, b))
    return picture


def measure(artifacts: Path, classes: IntArray, rate: float, noise: str, seed: int) -> dict[str, dict[str, float]]:
    """Filter -> images kept, share of right labels among them, the student's scores on the last third."""
    rng = np.random.default_rng((seed, int(100 * rate)))
    ids = tuple(f"{i:04d}" for i in range(len(classes)))
    labelled, tested = ids[: 2 * len(ids) // 3], ids[2 * len(ids) // 3 :]
    given, shares = teach(classes[: len(labelled)], rate, noise, rng)
    name = f"noise-{int(100 * rate)}"
    labels = PseudoLabels(
        ids=labelled,
        probabilities=shares,
        gold_seen=np.zeros(len(labelled), dtype=np.bool_),
        provenance={"teacher": f"made up, wrong with rate {rate}"},
    )
    write_pseudo_labels(artifacts, "shapes", name, labels)
    right = dict(zip(labelled, given == classes[: len(labelled)], strict=True))
    found = {}
    for which, least in FILTERS.items():
        kept_name = f"{name}-{least:.1f}"
        thresholds = Thresholds(negative=least, neutral=least, positive=least)
        request = FilterRequest(
            artifacts=artifacts, dataset="shapes", labels=name, thresholds=thresholds, dedup="none", seed=seed
        )
        chosen = choose(request)
        write_filtered(request, kept_name, chosen, build_report(artifacts, chosen))
        student = train_student(
            StudentRequest(
                material=MaterialRequest(artifacts=artifacts, dataset="shapes", kept=kept_name),
                seed=seed,
                folds=2,
                name=kept_name,
            )
        )
        features = write_features(FeaturesRequest(artifacts=artifacts, dataset="shapes", student=student.path))
        reader = FeatureReader(features.directory)
        answers = np.stack([reader.value(id_, "probabilities") for id_ in tested]).astype(np.float64)
        scores = score(classes[len(labelled) :], answers.argmax(1), CLASSES)
        found[which] = {
            "kept": float(len(chosen.kept.ids)),
            "labels": float(np.mean([right[id_] for id_ in chosen.kept.ids])),
            "accuracy": scores["accuracy"],
            "f1_macro": scores["f1_macro"],
        }
    return found


def teach(
    truth: IntArray, rate: float, noise: str, rng: np.random.Generator
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Labels of which the share `rate` is wrong, the more the less sure: P(wrong | c) ∝ 1 − c."""
    sure = rng.uniform(LEAST_SURE, 1.0, len(truth))
    is_wrong = rng.uniform(size=len(truth)) < rate * (1 - sure) / ((1 - LEAST_SURE) / 2)
    steps = rng.integers(1, len(CLASSES), len(truth)) if noise == "symmetric" else 1
    others = (truth + steps) % len(CLASSES)
    given = np.where(is_wrong, others, truth)
    shares = np.repeat(((1 - sure) / (len(CLASSES) - 1))[:, None], len(CLASSES), axis=1)
    shares[np.arange(len(truth)), given] = sure
    return given, shares.astype(np.float32)


def summarise(each: list[dict[str, float]]) -> dict[str, Any]:
    """Measure -> mean over seeds, all values, and words."""
    return {
        name: {
            "mean": float(np.mean([one[name] for one in each])),
            "values": [one[name] for one in each],
            "text": str(spread([one[name] for one in each])),
        }
        for name in each[0]
    }


if __name__ == "__main__":
    main()
