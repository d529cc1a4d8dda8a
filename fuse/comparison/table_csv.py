"""The numbers of a comparison as one long CSV table: one number per line, for a spreadsheet or a script."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from sentifuse.fuse.comparison.rows import MEASURES


def to_csv(document: Mapping[str, Any]) -> str:
    """One line per row and number, fractions of 1; `kind` parts what was measured from what was published.

    Columns: kind (measured, subset, gap, missing, difference, published), name, of (subset, kind and rate, or source),
    measure, value, sd, low, high, n, differs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("kind", "name", "of", "measure", "value", "sd", "low", "high", "n", "differs"))
    for name, row in document["rows"].items():
        for measure in MEASURES:
            found = row[measure]
            numbers = (found["value"], found["sd"], found["low"], found["high"])
            writer.writerow(("measured", name, "", measure, *numbers, row["n_runs"], ""))
        writer.writerow(
            ("measured", name, "", "seconds", row["seconds"]["mean"], row["seconds"]["sd"], "", "", row["n_runs"], "")
        )
    for name, found in document["differences"].items():
        ends = (found["difference"], found["over_runs"]["sd"], found["low"], found["high"])
        writer.writerow(("difference", name, found["baseline"], "accuracy", *ends, found["n"], found["verdict"]))
    for block in document["subsets"]:
        for name, subsets in block["rows"].items():
            for subset, found in subsets.items():
                numbers = (found.get("accuracy"), "", found.get("low"), found.get("high"))
                writer.writerow(("subset", name, subset, "accuracy", *numbers, found["n"], ""))
        for name, gap in block.get("gap", {}).items():
            if gap is not None:
                numbers = (gap["difference"], "", gap["low"], gap["high"])
                writer.writerow(("gap", name, "leaked less not_leaked", "accuracy", *numbers, gap["groups"], ""))
    for block in document["missing"]:
        for name, cells in block["rows"].items():
            for cell in cells:
                of = f"{block['missing']} {cell['rate']:g}"
                numbers = (cell["accuracy"], cell["sd"], "", "")
                writer.writerow(("missing", name, of, "accuracy", *numbers, cell["n_runs"], ""))
    for one in document["published"]:
        for measure in ("accuracy", "f1"):
            if one[measure] is not None:
                row = ("published", one["system"], one["title"], measure, one[measure], "", "", "", "")
                writer.writerow((*row, "; ".join(one["differs"])))
    return text.getvalue()
