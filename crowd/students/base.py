"""The model behind cached vectors: found again by digest, so that a probe's folder can hold it. Loads no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentifuse import ConfigError, SentifuseError
from sentifuse.cache.fingerprint import fingerprint
from sentifuse.cache.reader import FeatureReader
from sentifuse.extract.encoder import EncoderPlan, describe_encoder
from sentifuse.extract.gold_seen import GOLD_SEEN
from sentifuse.extract.models.located import LocatedModel, read_file_model, read_folder, read_tiny
from sentifuse.extract.models.source import ModelSource
from sentifuse.extract.models.tiny import TINY
from sentifuse.extract.profile import EncoderEntry
from sentifuse.extract.student_base import copy_base, describe_base
from sentifuse.extract.students import BASE_FIELDS

__all__ = ["ProbeBase", "check_feature", "find_base"]

TINY_SEEDS = 100  # a miniature network is made of a kind and a seed; the record keeps the kind alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeBase:
    """What stands below a probe.

    Attributes
    ----------
    config
        `base` of a student's config.json.
    model
        None where no model of this digest is here any more.
    problem
        Why `extract` could not load the student; "" where it can.
    """

    config: dict[str, Any]
    model: LocatedModel | None
    problem: str

    def copy(self, folder: Path) -> None:
        """Put the model into a folder; nothing where it is not here."""
        if self.model is not None:
            copy_base(self.model, folder)


def check_feature(encoder: str, field: str) -> None:
    """Refuse vectors that no probe can stand on, by their name alone (`ConfigError`)."""
    known = [f"{name}.{own}" for name, own in BASE_FIELDS.items()]
    if f"{encoder}.{field}" not in known:
        raise ConfigError.unknown("vector of an image", f"{encoder}.{field}", known, where="--features")


def find_base(reader: FeatureReader, field: str, *, search: Sequence[Path] = ()) -> ProbeBase:
    """The model that a reader's features were made with.

    Parameters
    ----------
    search
        Folders where a model of the same name is looked for, if it does not lie where it did.

    Raises
    ------
    ConfigError
        The features are answers of students by fold: every image was seen by some of them.
    """
    if "students" in reader.recipe:
        raise ConfigError(
            f"{reader.feature_set.directory}: made by `distil features`, from students by fold; expected features of "
            "one network. Take --features context.vector, or extract the crowd's with a network of its own"
        )
    try:
        plan = _plan(reader, search)
    except (SentifuseError, OSError) as error:
        return ProbeBase(config=_recorded(reader, field), model=None, problem=str(error))
    return ProbeBase(config=describe_base(plan), model=plan.backbone.model, problem="")


def _plan(reader: FeatureReader, search: Sequence[Path]) -> EncoderPlan:
    """The encoder with the very recipe of the features.

    Raises
    ------
    SentifuseError
        It cannot be had here.
    """
    model = _locate(reader, search)
    entry = EncoderEntry(name=reader.encoder, model=model.source, settings=_table(reader.recipe.get("settings")))
    plan = describe_encoder(entry, model, precision="exact", device="cpu")
    # Vectors of half precision are close to those of full precision, which is what `extract` answers from.
    # And what a teacher knew of the dataset's labels is no matter of the network.
    own = {key: reader.recipe[key] for key in ("precision", GOLD_SEEN) if key in reader.recipe}
    if fingerprint({**plan.recipe, **own}) != reader.fingerprint:
        raise ConfigError(f"{reader.feature_set.directory}: made by another release than this; extract again")
    return plan


def _recorded(reader: FeatureReader, field: str) -> dict[str, Any]:
    """`base` of config.json, as far as the feature set itself says."""
    recipe, details = reader.recipe, reader.feature_set.details
    stored, version = _table(recipe.get("model")), recipe.get("version")
    return {
        "encoder": reader.encoder,
        "version": version if isinstance(version, int) else 0,
        "settings": _table(details.get("settings")) or _table(recipe.get("settings")),
        "field": field,
        "model": {
            "kind": "unknown",
            "name": str(_table(details.get("model")).get("source", "")),
            "architecture": str(stored.get("architecture", "")),
            "digest": str(stored.get("digest", "")),
            "file": "",
        },
    }


def _locate(reader: FeatureReader, search: Sequence[Path]) -> LocatedModel:
    """The model with the digest of the recipe."""
    stored, described = _table(reader.recipe.get("model")), _table(reader.feature_set.details.get("model"))
    digest, architecture = stored.get("digest"), str(stored.get("architecture", ""))
    source, path = str(described.get("source", "")), described.get("path")
    kind, _, rest = source.partition(" ")
    name = rest.partition(" (")[0]
    if kind == "tiny" and name in TINY:
        made = (read_tiny(ModelSource(kind="tiny", name=name, seed=seed)) for seed in range(TINY_SEEDS))
        found = next((model for model in made if model.digest == digest), None)
        if found is not None:
            return found
    recorded = Path(str(path)) if path else None
    places = [] if recorded is None else [recorded, *(folder / recorded.name for folder in search)]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise ConfigError(
            f"the model of the features ({source or 'not recorded'}) is not here (looked at "
            f"{', '.join(map(str, places)) or 'no path'}). `sentifuse weights add FILE` puts it there; then train again"
        )
    if place.is_dir():
        model = read_folder(ModelSource(kind="path", name=str(place)), place)
    else:
        model = read_file_model(ModelSource(kind="path", name=str(place), architecture=architecture), place)
    if model.digest != digest:
        raise ConfigError(f"{place}: another model than the one that the features were made with")
    return model


def _table(value: object) -> dict[str, Any]:
    """Features that another program made may say anything, or nothing."""
    return value if isinstance(value, dict) else {}
