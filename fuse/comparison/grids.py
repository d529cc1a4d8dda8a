"""The tables of a comparison as words in cells: what Markdown, LaTeX and the terminal then only have to draw.

Values in percent, differences in points. Computes nothing but these.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sentifuse.data.protocols import FOLDED, PUBLISHED
from sentifuse.fuse.comparison.rows import MIN_RUNS
from sentifuse.fuse.measure.resampling import TITLES
from sentifuse.fuse.tables import Grid, percent, points, probability

MARK = "†"
LISTED = (*PUBLISHED, "given")  # protocols whose test parts are lists, the same for every seed
HEADINGS = TITLES | {"balanced_accuracy": "balanced"}  # the widest table of all
FAMILY_TITLES = {
    "annotated": "Where text and image labels agree, soften, contradict",
    "duplicates": "Where a near-duplicate was in training",
    "predicted": "Where the text-only and the image-only head agree or contradict",
}


def grids_of(document: Mapping[str, Any]) -> list[Grid]:
    """All tables of a comparison, the measured ones first, and published ones last."""
    found = [_main(document)]
    if document["differences"]:
        found.append(_differences(document))
    found += [_subsets(block) for block in document["subsets"]]
    found += [_missing(block) for block in document["missing"]]
    if document["published"]:
        found.append(_published(document))
    if document["ablations"]:
        found.append(_ablations(document))
    return found


def heading_of(document: Mapping[str, Any]) -> str:
    """One line: what was compared on what."""
    seeds, folds = document["seeds"], document["folds"]
    over = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))})"
    if folds != [0]:
        over += f", {len(folds)} folds"
    return (
        f"{document['dataset']}, protocol {document['protocol']}, rule {document['rule']}, "
        f"target {document['target']}, profile {document['profile']}, {over}"
    )


def estimate(found: Mapping[str, Any]) -> str:
    """Value ± sd [interval], as far as they are known."""
    text = percent(found["value"])
    if found["sd"] is not None:
        text += f" ± {percent(found['sd'])}"
    if found["low"] is not None:
        text += f" [{percent(found['low'])}, {percent(found['high'])}]"
    return text


def _main(document: Mapping[str, Any]) -> Grid:
    rows = []
    has_both = any(row["interval"] == "t" for row in document["rows"].values())
    for name, row in document["rows"].items():
        cells = [estimate(row[measure]) if measure != "balanced_accuracy" else "" for measure in HEADINGS]
        cells[-1] = percent(row["balanced_accuracy"]["value"])
        pairs = (_ends(row["over_pairs"]),) if has_both else ()
        rows.append((name, str(row["n_runs"]), cells[0], *pairs, *cells[1:], f"{row['seconds']['mean']:.1f}"))
    first, *others = (f"{title}, %" for title in HEADINGS.values())
    return Grid(
        title=f"Measured on {document['dataset']}",
        headings=("head", "runs", first, *(("over pairs",) if has_both else ()), *others, "seconds"),
        rows=tuple(rows),
        notes=(_how(document), *document["notes"]),
    )


def _how(document: Mapping[str, Any]) -> str:
    rows: Mapping[str, Mapping[str, Any]] = document["rows"]
    units = _by_row({name: row["unit"] for name, row in rows.items()})
    counts = {row["n_runs"] for row in rows.values()}
    if all(row["interval"] == "bootstrap" for row in rows.values()):
        what = "fold" if document["folds"] != [0] else "run"
        how = f"all {what}s' answers together ± sd over {what}s [95 % bootstrap interval over {units}]"
        if counts == {1}:
            how = f"a single run [95 % bootstrap interval over {units}], another training may differ by more"
        elif 1 in counts:
            how += "; a single run has no sd, and another training may differ by more"
    else:
        ratios = {name: f"{row['ratio']:.3f}" for name, row in rows.items() if row["ratio"]}  # 0: of a single run
        ratio = f", test/train = {_by_row(ratios)}" if ratios else ""
        how = (
            f"mean ± sd over runs [95 % t-interval of the mean; Nadeau and Bengio{ratio}]; "
            f"over pairs: 95 % bootstrap interval of these trained heads' accuracy, {units}"
        )
        if min(counts) < MIN_RUNS:
            how += f"; no interval from fewer than {MIN_RUNS} runs: too few to tell the spread"
    threads = sorted({n for row in rows.values() for n in row["threads"]})
    on = f", {'/'.join(map(str, threads))} thread{'s' if threads != [1] else ''}" if threads else ""
    return f"Cells: {how}. Balanced: balanced accuracy. Seconds: mean time of a training{on}."


def _by_row(said: Mapping[str, str]) -> str:
    """What most rows say, the first of equals; and behind it, by name, the rows that say otherwise.

    >>> _by_row({"itin": "60 pairs", "logreg": "60 pairs", "gmu": "58 pairs"})
    '60 pairs (gmu: 58 pairs)'
    """
    common = Counter(said.values()).most_common(1)[0][0]
    others = [f"{name}: {text}" for name, text in said.items() if text != common]
    return common + (f" ({', '.join(others)})" if others else "")


def _differences(document: Mapping[str, Any]) -> Grid:
    rows = []
    for name, found in document["differences"].items():
        corrected = "claimed beforehand" if found["is_claim"] else probability(found["p_adjusted"])
        interval = _gap(found)
        p, pairwise = probability(found["p"]), probability(found["mcnemar"]["p_exact"])
        over = found["over_runs"]
        again = "–" if over["low"] is None or over["n"] < MIN_RUNS else _gap(over | {"difference": over["mean"]})
        rows.append((name, interval, p, corrected, pairwise, _verdict(found), again))
    drawn = _by_row(
        {
            name: f"{found['n']:,}, drawn as {found['units']:,} {found['unit']}"
            for name, found in document["differences"].items()
        }
    )
    n_corrected = sum(not found["is_claim"] for found in document["differences"].values())
    return Grid(
        title=f"Accuracy against {document['baseline']}, paired",
        headings=("head", "points [95 %]", "p", "p after Holm", "p by McNemar", "verdict", "over runs [95 %]"),
        rows=tuple(rows),
        notes=(
            f"Test answers that both heads gave: {drawn}; p: sign-flip test; "
            f"Holm's correction for {n_corrected} comparison{'s' if n_corrected != 1 else ''}"
            + (
                f", without {document['claim']}, which was named beforehand."
                if document["claim"]
                else "; none was claimed beforehand."
            )
            + " McNemar's exact test takes all answers for independent and is not corrected.",
            "Interval, tests and verdict are of these trained heads, on other pairs. Over runs: the mean of the runs' "
            f"own differences with its t-interval, which tells of {_others(document['protocol'])}, too.",
        ),
    )


def _others(protocol: str) -> str:
    """What another run of a protocol would be: where the lists are given, a seed changes no test part."""
    if protocol not in LISTED:
        return "other trainings on other splits"
    lists = "these very folds" if protocol in FOLDED else "this one test part"
    return f"other trainings with {lists}"


def _verdict(found: Mapping[str, Any]) -> str:
    if not found["is_significant"]:
        return "not distinguishable"
    return "better" if found["difference"] > 0 else "worse"


def _subsets(block: Mapping[str, Any]) -> Grid:
    counts = {
        name: _by_row({row: f"{found[name]['n']:,}" for row, found in block["rows"].items()})
        for name in block["subsets"]
    }
    names = [name for name in counts if any(found[name]["n"] for found in block["rows"].values())]
    empty = [f"no pair: {block['subsets'][name]}." for name in counts if name not in names]
    rows = []
    gaps = {row: gap for row, gap in block.get("gap", {}).items() if gap is not None}
    for row, found in block["rows"].items():
        last = (_gap(gaps[row]) if row in gaps else "–",) if gaps else ()
        rows.append((row, *(_of_subset(found[name]) for name in names), *last))
    meanings = "; ".join(f"{name}: {block['subsets'][name]}" for name in names)
    how = "; difference over groups of near-duplicates" if gaps else ""
    reasons = [
        f"{row}: no interval of the difference: {gap['reason']}." for row, gap in gaps.items() if gap.get("reason")
    ]
    return Grid(
        title=FAMILY_TITLES[block["family"]],
        headings=("head", *(f"{name} (n = {counts[name]})" for name in names), *(("points [95 %]",) if gaps else ())),
        rows=tuple(rows),
        notes=(f"Accuracy, %, of all runs together [95 % bootstrap{how}]. {meanings}.", *reasons, *empty),
    )


def _ends(found: Mapping[str, Any]) -> str:
    return "–" if found["low"] is None else f"[{percent(found['low'])}, {percent(found['high'])}]"


def _gap(found: Mapping[str, Any]) -> str:
    """Points with their interval; `–` for one that cannot be told."""
    ends = "–" if found["low"] is None else f"[{points(found['low'])}, {points(found['high'])}]"
    return f"{points(found['difference'])} {ends}"


def _of_subset(found: Mapping[str, Any]) -> str:
    if not found["n"]:
        return "–"
    ends = "" if found["low"] is None else f" [{percent(found['low'])}, {percent(found['high'])}]"
    return percent(found["accuracy"]) + ends


def _missing(block: Mapping[str, Any]) -> Grid:
    kind = block["missing"]
    rows = []
    for row, cells in block["rows"].items():
        by_rate = {cell["rate"]: cell for cell in cells}
        rows.append((row, *(percent(by_rate[rate]["accuracy"]) if rate in by_rate else "–" for rate in block["rates"])))
    what = "text or image, by lot," if kind == "random" else f"the {kind}"
    return Grid(
        title=f"Accuracy when {what} is missing",
        headings=("head", *(f"{rate:g}" for rate in block["rates"])),
        rows=tuple(rows),
        notes=("Accuracy, %, mean over runs, by the share of test pairs that lack it; heads use their masks.",),
    )


def _published(document: Mapping[str, Any]) -> Grid:
    letters: dict[str, str] = {}
    sources: dict[str, str] = {}
    rows = []
    for one in document["published"]:
        for difference in one["differs"]:
            letters.setdefault(difference, _letter(len(letters)))
        sources.setdefault(one["title"], one["source"])
        ours = document["rows"].get(one["ours"])
        rows.append(
            (
                one["system"],
                _as_published(one["accuracy"]),
                _as_published(one["f1"]),
                f"{one['ours']}: {percent(ours['accuracy']['value'])}" if ours else "–",
                one["title"],
                ", ".join(letters[difference] for difference in one["differs"]),
            )
        )
    return Grid(
        title=f"Published on {document['dataset']}: not measured here",
        headings=("system", f"accuracy{MARK}, %", f"F1{MARK}, %", "ours, accuracy, %", "source", "differs in"),
        rows=tuple(rows),
        notes=(
            f"{MARK} as published, measured under other conditions: no ranking with the numbers above.",
            *(f"({letter}) {difference}" for difference, letter in letters.items()),
            *(f"{title}: {source}" for title, source in sources.items()),
        ),
    )


def _as_published(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}{MARK}"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"a{number}"


def _ablations(document: Mapping[str, Any]) -> Grid:
    rows = []
    for one in document["ablations"]:
        there = ", ".join(f"{dataset} {points(value)}" for dataset, value in one["published"].items())
        ours = f"{points(one['difference'])} [{points(one['low'])}, {points(one['high'])}]"
        rows.append((one["ours"], one["full"], ours, there + MARK, one["title"]))
    return Grid(
        title="What the published ablations cost, in points of accuracy",
        headings=("variant", "less", "here [95 %]", f"published{MARK}", "source"),
        rows=tuple(rows),
        notes=(
            f"{MARK} as published, on other features, splits and partly other data; one split, no interval. Here: "
            "paired interval, no test and no claim.",
        ),
    )
