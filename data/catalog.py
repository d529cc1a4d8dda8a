"""Which datasets are prepared in an artefacts folder.

Reads cards only.
"""

from pathlib import Path

from sentifuse import DataError
from sentifuse.data.card import FILE_NAME, Card, read_card
from sentifuse.data.prepare import DATASETS_FOLDER


def list_datasets(artifacts: Path) -> list[Card]:
    """The cards of all prepared datasets, by name; none when nothing was prepared yet.

    Raises
    ------
    DataError
        The folder cannot be read, or a card in it is damaged.
    """
    folder = artifacts / DATASETS_FOLDER
    if artifacts.exists() and not artifacts.is_dir():
        raise DataError(f"{artifacts}: expected the artefacts folder, found a file. Name another with --artifacts")
    try:
        if not folder.exists():
            return []
        return [read_card(child) for child in sorted(folder.iterdir()) if (child / FILE_NAME).is_file()]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read: {error.strerror or error}. "
            "Mend the permissions or name another folder with --artifacts"
        ) from error
