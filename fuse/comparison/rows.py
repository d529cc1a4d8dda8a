"""The numbers of a table: each row's means with their intervals, and its paired difference to the baseline.

Knows runs that were measured; trains nothing, reads no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sentifuse import ConfigError
from sentifuse.fuse.comparison.measured import Measured, take
from sentifuse.fuse.measure.paired import Comparison, compare_predictions, correct, groups_of, pool, verdict
from sentifuse.fuse.measure.statistics import Spread, bootstrap, spread

MEASURES = ("accuracy", "f1_weighted", "f1_macro", "balanced_accuracy")
MIN_RUNS = 3  # of a t-interval: with two, it is ±12.7 standard errors wide, by a spread that two values hardly tell
Groups = Mapping[str, str] | None  # id -> near-duplicates, where the protocol keeps them together


def by_row(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Row → its runs by seed and fold, rows in the order of their first run."""
    rows: dict[str, list[Measured]] = {}
    for one in measured:
        rows.setdefault(one.row, []).append(one)
    return {row: sorted(runs, key=lambda one: one.place) for row, runs in rows.items()}


def summarise(runs: Sequence[Measured], groups: Groups, *, is_pooled: bool | None = None) -> dict[str, Any]:
    """What one row says.

    Where each run has its own random split a measure is the mean over the runs, with sd and Nadeau and Bengio's
    t-interval, cut at 0 and 1; fewer than three runs have none. With folds, and where all runs have one split, it is
    that of all answers together with a bootstrap interval over pairs or groups (a t-interval over runs of one split
    would leave out that the test part is small); sd is over folds or runs.

    Parameters
    ----------
    is_pooled
        Which of the two; a table says it for all its rows, see `has_pooled_rows`. None: what these runs alone call for.

    Returns
    -------
    dict
        n_runs, n_pairs (of all test parts together), n_different (pairs), parameters, seconds (mean, sd), threads,
        interval ("t" or "bootstrap"), unit, ratio (test to train, as the t-interval has it), over_pairs (low, high:
        the accuracy's bootstrap interval, of these trained heads on other pairs), and of every measure value, sd, low,
        high.
    """
    pooled = pool([one.predictions for one in runs])
    document = runs[0].run.document
    ratio = test_to_train(runs)
    is_pooled = has_pooled_rows([runs]) if is_pooled is None else is_pooled
    seconds = spread([float(one.run.document["timings"]["fit_s"]) for one in runs])
    result: dict[str, Any] = {
        "n_runs": len(runs),
        "n_pairs": len(pooled.ids),
        "n_different": len({*pooled.ids}),
        "parameters": document["parameters"],
        "seconds": {"mean": seconds.mean, "sd": seconds.sd},
        "threads": sorted({int(one.run.document.get("threads", 0)) for one in runs}),
        "interval": "bootstrap" if is_pooled else "t",
        "ratio": None if is_pooled else ratio,
    }
    ends = bootstrap(
        pooled.labels,
        pooled.predicted,
        len(pooled.classes),
        groups=groups_of(pooled.ids, groups),
        measures=MEASURES if is_pooled else ("accuracy",),
    )
    drawn = ends["accuracy"]
    result["unit"] = f"{drawn.units:,} {drawn.unit if groups is not None else 'pairs'}"
    result["over_pairs"] = {"low": drawn.low, "high": drawn.high}
    for measure in MEASURES:
        over = spread([float(one.metrics[measure]) for one in runs], test_to_train=ratio)
        if is_pooled:
            found = ends[measure]
            result[measure] = {"value": found.estimate, "sd": over.sd, "low": found.low, "high": found.high}
        else:
            low, high = _possible(over) if len(runs) >= MIN_RUNS else (None, None)
            result[measure] = {"value": over.mean, "sd": over.sd, "low": low, "high": high}
    return result


def has_pooled_rows(rows: Iterable[Sequence[Measured]]) -> bool:
    """Whether the runs of a table have folds, or one test part all of them: their answers are then taken together."""
    runs = [one for found in rows for one in found]
    return any(one.fold > 0 for one in runs) or len({one.place for one in runs}) < 2 or test_to_train(runs) == 0


def _possible(over: Spread) -> tuple[float | None, float | None]:
    """The ends of an interval of a share, which lies between 0 and 1."""
    return None if over.low is None else max(0.0, over.low), None if over.high is None else min(1.0, over.high)


def test_to_train(runs: Sequence[Measured]) -> float:
    """Size of the test part over that of the training part where the test part differs from run to run, else 0."""
    if len({frozenset(one.predictions.ids) for one in runs}) < 2:
        return 0.0
    sizes = [len(one.predictions.ids) / int(one.run.document["samples"]["train"]["n"]) for one in runs]
    return sum(sizes) / len(sizes)


def compare_rows(a: Sequence[Measured], b: Sequence[Measured], groups: Groups, **options: Any) -> Comparison | None:
    """The paired comparison of two rows on the seeds, folds and pairs that both have; None where there are none.

    Parameters
    ----------
    options
        Those of `paired.compare_heads`.
    """
    of_b = {one.place: one.predictions for one in b}
    pairs = []
    for one in a:
        if one.place not in of_b:
            continue
        other = of_b[one.place]
        both = {*other.ids}
        common = [id_ for id_ in one.predictions.ids if id_ in both]
        if common:
            pairs.append((take(one.predictions, common), take(other, common)))
    if not pairs:
        return None
    return compare_predictions([one for one, _ in pairs], [other for _, other in pairs], groups=groups, **options)


def differences(
    rows: Mapping[str, Sequence[Measured]], *, baseline: str, claim: str | None, groups: Groups
) -> dict[str, dict[str, Any]]:
    """Every row against the baseline: row → everything of `Comparison`, verdict, is_claim, over_runs.

    The one claim that was named beforehand keeps its p-value; all others are corrected together (Holm). `over_runs` is
    the mean ± sd of the runs' own differences in accuracy: how much another training would change it.

    Raises
    ------
    ConfigError
        The baseline or the claimed row is not in the table.
    """
    for what, name in (("--baseline", baseline), ("--claim", claim)):
        if name is not None and name not in rows:
            raise ConfigError.unknown("row", name, rows, where=what)
    if claim == baseline:
        raise ConfigError(f"--claim {claim}: expected another row than the baseline. Name one with --baseline")
    found = {}
    for row, runs in rows.items():
        comparison = None if row == baseline else compare_rows(runs, rows[baseline], groups)
        if comparison is not None:
            found[row] = comparison
    others = [row for row in found if row != claim]
    found |= dict(zip(others, correct([found[row] for row in others]), strict=True))
    return {
        row: comparison.to_json()
        | {
            "baseline": baseline,
            "is_claim": row == claim,
            "is_significant": comparison.is_significant,
            "verdict": verdict(comparison, row, baseline),
            "over_runs": _over_runs(rows[row], rows[baseline]),
        }
        for row, comparison in found.items()
    }


def _over_runs(a: Sequence[Measured], b: Sequence[Measured]) -> dict[str, Any]:
    of_b = {one.place: float(one.metrics["accuracy"]) for one in b}
    common = [one for one in a if one.place in of_b]
    values = [float(one.metrics["accuracy"]) - of_b[one.place] for one in common]
    found = spread(values, test_to_train=test_to_train(common))
    return {"n": found.n, "mean": found.mean, "sd": found.sd, "low": found.low, "high": found.high}


def notes_on_rows(rows: Mapping[str, Sequence[Measured]]) -> list[str]:
    """What to know before two rows are set side by side: rows that lack seeds, folds or pairs which others have."""
    places = {place for runs in rows.values() for place in (one.place for one in runs)}
    notes = []
    for row, runs in rows.items():
        lacking = sorted(places - {one.place for one in runs})
        if lacking:
            named = ", ".join(f"seed {seed}" + (f" fold {fold}" if fold else "") for seed, fold in lacking[:5])
            notes.append(f"{row} lacks {len(lacking)} of {len(places)} runs ({named}{', …' if lacking[5:] else ''})")
    lacking_classes = {
        one.place: one.metrics.get("absent", {}).get("labels", []) for runs in rows.values() for one in runs
    }
    for label in dict.fromkeys(label for absent in lacking_classes.values() for label in absent):
        n = sum(label in absent for absent in lacking_classes.values())
        notes.append(
            f"no test pair is labelled {label} in {n} of {len(places)} test parts: macro averages leave it out"
        )
    everyone = {row: {(one.place, id_) for one in runs for id_ in one.predictions.ids} for row, runs in rows.items()}
    union = set().union(*everyone.values())
    for row, pairs in everyone.items():
        at_its_places = {pair for pair in union if pair[0] in {one.place for one in rows[row]}}
        if n := len(at_its_places - pairs):
            notes.append(
                f"{row} gives no answer to {n:,} of {len(at_its_places):,} test pairs for lack of a feature; its means "
                "are over the others, its paired differences over the pairs that both answer"
            )
    return notes
