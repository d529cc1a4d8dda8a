"""Which human labels a student knows through its teacher, over all datasets, and which pairs of one dataset these are.

Read from student.json of its folder, of the folder that a fold lies in, and of the base below it. Refuses nothing but
folders that cannot say.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sentifuse import DataError
from sentifuse.data.files import is_file, read_json
from sentifuse.data.manifest import Manifest
from sentifuse.extract.encoder import EncoderPlan
from sentifuse.extract.seen_images import BASE, HINT, SEEN_FILE, STUDENT, find_home
from sentifuse.extract.students import MODEL_TYPE

__all__ = ["ELSEWHERE", "GOLD_SEEN", "KEY", "GoldSeen", "add_gold_seen", "digest_ids", "read_gold_seen", "resolve"]

GOLD_SEEN = "gold_seen"  # of student.json: id -> SHA-256 of the image, in the dataset of the training
ELSEWHERE = "gold_seen_elsewhere"  # of student.json: other dataset -> the same
KEY = "gold_seen_ids"  # of a feature set's details, where the fusion reads it

GoldSeen = Mapping[str, Mapping[str, str]]  # dataset -> id -> SHA-256 of the image, "" where there is none


def read_gold_seen(folder: Path) -> dict[str, dict[str, str]]:
    """Of a student, or of any other model: that knows none.

    Raises
    ------
    DataError
        A student.json that is damaged, or missing where `seen.parquet` says that this is a student.
    """
    home, _ = find_home(folder)
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for place in (home, home / BASE):
        if is_file(place / STUDENT):
            for dataset, known in _read(place / STUDENT).items():
                found[dataset] |= known
        elif is_file(place / SEEN_FILE):
            raise DataError(
                f"{place}: expected {STUDENT} beside {SEEN_FILE}, found none: nobody can tell whose labels the "
                f"student's teacher knew. {HINT}"
            )
    return dict(found)


def resolve(known: GoldSeen, dataset: str, digests: Mapping[str, str]) -> list[str]:
    """Ids of the dataset whose human label is known: by id at home, by their image elsewhere; sorted.

    Parameters
    ----------
    digests
        id -> SHA-256 of the pair's image, "" where there is none.
    """
    images = {digest for pairs in known.values() for digest in pairs.values() if digest}
    return sorted({*known.get(dataset, ())} | {id_ for id_, digest in digests.items() if digest in images})


def digest_ids(ids: Iterable[str]) -> str:
    """64 hex digits for a recipe, "" of none: the guard reads the ids beside it, so another list is another set."""
    text = "\n".join(ids)
    return sha256(text.encode()).hexdigest() if text else ""


def add_gold_seen(plan: EncoderPlan, manifest: Manifest, dataset: str) -> EncoderPlan:
    """The plan with the ids in its details where its model is a student that knows labels of the dataset."""
    model = plan.backbone.model
    if model.architecture != MODEL_TYPE or model.path is None:
        return plan
    digests = {pair.id: pair.image_digest for pair in manifest.pairs}
    ids = resolve(read_gold_seen(model.path), dataset, digests)
    if not ids:
        return plan
    return replace(plan, recipe={**plan.recipe, GOLD_SEEN: digest_ids(ids)}, details={**plan.details, KEY: ids})


def _read(path: Path) -> dict[str, dict[str, str]]:
    document = read_json(path, hint=HINT)
    own, elsewhere = document.get(GOLD_SEEN, {}), document.get(ELSEWHERE, {})
    tables: list[Any] = [own, elsewhere, *(elsewhere.values() if isinstance(elsewhere, dict) else ())]
    if not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{path}: {GOLD_SEEN} and {ELSEWHERE}: expected ids with digests, found something else. {HINT}")
    home = str(document.get("trained_on", {}).get("dataset", ""))
    found = {dataset: dict(known) for dataset, known in elsewhere.items()}
    if own:
        found[home] = found.get(home, {}) | own
    return found
