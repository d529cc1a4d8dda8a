"""Where a run's numbers come from, as tables: its data, its split and leak, its features, its recipe, its versions.

Words in cells, taken from card, split and run.json; measures nothing.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sentifuse.data.reasons import count_reasons
from sentifuse.data.source import SPLITS
from sentifuse.fuse.config import TrainConfig
from sentifuse.fuse.heads import load_head
from sentifuse.fuse.report.recorded import Recorded
from sentifuse.fuse.tables import Grid

SHORT = 12  # digits of a digest


def data_card(recorded: Recorded) -> Grid:
    """The dataset, its labels, and the split of this run."""
    card, document, facts = recorded.card, recorded.run.document, recorded.facts
    fold = f", fold {facts.fold} of {facts.k}" if facts.k else ""
    rows = [
        ("dataset", f"{card.name} (reader {card.reader})"),
        ("source", card.source),
        ("root of the images", card.root),
        ("encoding of the texts", card.encoding),
        ("pairs", f"{len(recorded.manifest):,}"),
        ("images", _by_status(card.counts.get("image_status", {}))),
        ("texts", _by_status(card.counts.get("text_status", {}))),
        ("classes", ", ".join(f"{name} {n:,}" for name, n in recorded.labels.class_counts(_target(recorded)).items())),
        ("label rule", f"{document['rule']}, target {document['target']}"),
        ("without a label", _by_status(recorded.labels.reason_counts()) or "none"),
        ("protocol", f"{document['protocol']}{fold}, seed {document['seed']}"),
        ("digest of the split", facts.digest[:SHORT]),
        ("profile of the features", str(document.get("profile", "not recorded"))),
    ]
    notes = []
    if facts.missing:
        notes.append(f"{facts.missing:,} listed ids are not here: no number of this report is the published one.")
    if facts.n_hashed < facts.n_pairs:
        notes.append(f"Only {facts.n_hashed:,} of {facts.n_pairs:,} images could be compared for near-duplicates.")
    if card.problems:
        notes.append(f"{len(card.problems):,} rows of the source were odd: see card.json, or sentifuse data audit.")
    return Grid(title="Data card", headings=("what", "here"), rows=tuple((a, b) for a, b in rows if b), notes=(*notes,))


def parts_of_split(recorded: Recorded) -> Grid:
    """Each part: pairs, those used, their classes, and how many have a near-duplicate in training."""
    document, facts = recorded.run.document, recorded.facts
    used = {part: (found["n"], found["classes"]) for part, found in document["samples"].items()}
    metrics = recorded.metrics
    used[recorded.split] = (
        metrics["n"],
        {name: figures["support"] for name, figures in metrics["per_class"].items()},
    )
    rows = []
    for part in SPLITS:
        n, classes = used.get(part, (None, {}))
        leak = facts.leak.get(part)
        rows.append(
            (
                part,
                f"{facts.parts[part]:,}",
                "not opened" if n is None else f"{n:,}",
                *(f"{classes[name]:,}" if name in classes else "–" for name in recorded.run.classes),
                *(_leak(leak, kind) for kind in ("group", "text", "image")),
            )
        )
    excluded = {part: found for part, found in document["excluded"].items() if found}
    excluded |= {recorded.split: metrics["excluded"]} if metrics["excluded"] else {}
    return Grid(
        title="Parts of the split, and what leaks from training",
        headings=("part", "pairs", "used", *recorded.run.classes, "leaked", "by text", "by image"),
        rows=tuple(rows),
        notes=(
            "Leaked: pairs with a near-duplicate in training, by equal normalised text or nearly the same picture. "
            "Heads that learn by heart profit from them.",
            *(
                f"Left out of {part}: " + "; ".join(f"{n:,} for {reason}" for reason, n in count_reasons(found).items())
                for part, found in excluded.items()
            ),
        ),
    )


def feature_sets(recorded: Recorded) -> Grid:
    """What the head read."""
    rows = [
        (encoder, *_of_recipe(found.get("recipe", {})), str(found["fingerprint"])[:SHORT])
        for encoder, found in recorded.run.document["feature_sets"].items()
    ]
    return Grid(
        title="Features that the head read",
        headings=("encoder", "model", "precision", "settings", "fingerprint"),
        rows=tuple(rows),
    )


def recipe(recorded: Recorded) -> list[Grid]:
    """Every setting of head and training: value, where it comes from, what it means."""
    document = recorded.run.document
    head = load_head(document["head"])
    unused = ("This head has a closed fit: it is solved, not trained in steps, and uses none of these.",)
    meanings = {
        f.name: str(f.metadata.get("help", "")) for config in (head.Config, TrainConfig) for f in fields(config)
    }
    origins = document["config"]["origins"]
    grids = []
    for title, kind in (("Settings of the head", "head"), ("Settings of the training", "train")):
        settings = document["config"][kind]
        ranked = sorted(settings, key=lambda key: _rank(str(origins.get(key, ""))))
        rows = [(key, _value(settings[key]), str(origins.get(key, "?")), meanings.get(key, "")) for key in ranked]
        notes = unused if kind == "train" and head.has_closed_fit else ()
        headings = ("setting", "value", "origin", "meaning")
        grids.append(Grid(title=title, headings=headings, rows=tuple(rows), notes=notes))
    return grids


def making(recorded: Recorded) -> Grid:
    """When, on what and with which versions the run was made."""
    document = recorded.run.document
    best, timings = document["best"], document["timings"]
    threads = document.get("threads")
    rows = [
        ("run", recorded.run.name),
        ("trained", f"{document['created']}, {timings['fit_s']:.1f} s ({timings['prepare_s']:.1f} s of preparation)"),
        ("on", str(document["device"]) + (f", {threads} thread{'s' if threads != 1 else ''}" if threads else "")),
        ("learned numbers", f"{document['parameters']:,}"),
        (
            "chosen on validation",
            f"row {best['epoch']} of {document.get('epochs_run', '?')}: accuracy {best['val_accuracy']:.4f}, loss "
            f"{best['val_loss']:.4f}",
        ),
        *((name, str(value)) for name, value in document.get("notes", {}).items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in document["versions"].items())),
    ]
    return Grid(title="How it was made", headings=("what", "here"), rows=tuple(rows))


def command_line(words: list[str]) -> str:
    """A command as it would be typed; "" where none was recorded."""
    return shlex.join(words)


def _target(recorded: Recorded) -> str:
    return str(recorded.run.document["target"])


def _by_status(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {status}" for status, n in counts.items())


def _leak(leak: Mapping[str, int] | None, kind: str) -> str:
    if leak is None or not leak["n"]:
        return "–"
    return f"{leak[kind]:,} ({leak[kind] / leak['n']:.1%})"


def _of_recipe(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Model, precision and settings, as far as a recipe names them."""
    model = found.get("model")
    if isinstance(model, Mapping):
        digest = f" ({str(model['digest'])[:SHORT]})" if model.get("digest") else ""
        model = f"{model.get('architecture', 'model')}{digest}"
    settings = found.get("settings") or {}
    said = ", ".join(f"{key} {_value(value)}" for key, value in settings.items())
    return str(model or "–"), str(found.get("precision", "–")), said or "–"


def _rank(origin: str) -> int:
    return {"--set": 0, "default": 2}.get(origin, 1)


def _value(value: Any) -> str:
    """A setting as `--set` takes it."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
