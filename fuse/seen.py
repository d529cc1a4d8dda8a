"""Features that know labels: made by a student whose teacher was trained with human labels of this very dataset.

Such features may be trained on where the labels were of training pairs. A run whose test part the teacher has seen
would measure memory, so it is refused.
"""

from collections.abc import Collection, Mapping

from sentifuse import DataError
from sentifuse.cache.reader import FeatureReader

KEY = "gold_seen_ids"  # in a feature set's details: ids whose human label the teacher was trained or chosen with
SHOWN_IDS = 5


def refuse_seen(readers: Mapping[str, FeatureReader], *, labelled: Collection[str], own: Collection[str]) -> None:
    """Refuse a split whose test part a teacher has seen, without looking at the test part.

    Parameters
    ----------
    readers
        The run's features by encoder.
    labelled
        All pairs of the dataset that have a label under the run's rule.
    own
        The training and validation pairs: what is labelled and not of these is tested.

    Raises
    ------
    DataError
        A labelled pair outside `own` was seen.
    """
    tested = {*labelled} - {*own}
    for encoder, reader in readers.items():
        seen = [id_ for id_ in reader.feature_set.details.get(KEY, ()) if id_ in tested]
        if seen:
            shown = ", ".join(seen[:SHOWN_IDS]) + (", …" if len(seen) > SHOWN_IDS else "")
            raise DataError(
                f"features of {encoder}: expected a student whose teacher saw no label of this split's test part, "
                f"found one that saw {len(seen):,} of them ({shown}). Train with the protocol, seed and fold of the "
                "teacher, or label, distil and run `sentifuse distil features` with a teacher of this split"
            )
