"""CTMWA's step beside the algorithm taken literally and beside a plain supervised step, in one process and one run.

First it is shown that the literal step computes the same numbers; then both are timed, and where the time goes. Rows
with MKL use torch's own linear layers instead of ours: what is left of the gain is the algorithm's alone.
"""

import time
from collections.abc import Callable
from typing import Any

import clock
import heads_literal
import torch
from output import say

from sentifuse.fuse.heads import ctmwa_fast
from sentifuse.fuse.heads.ctmwa_fast import FastBilevelStep
from sentifuse.fuse.heads.ctmwa_network import BACKBONE, WEIGHT_NETS, CtmwaNetwork, TranslationWeights
from sentifuse.fuse.heads.ctmwa_step import BilevelStep, StepSettings, Vectors, parameters_of, plain_step
from sentifuse.fuse.layers import linear

TEXT, IMAGE, EMBEDDING, CLASSES, BATCH = 768, 512, 512, 3, 64
SMALL = (48, 32, 16)  # widths of a quick run and of the proof
RATES = {"inner": 3e-3, "outer": 5e-4, "weights": 5e-4}
DROPOUT = 0.3
TRANSLATION = TranslationWeights(text_cycle=0.05, image_cycle=0.05, text_from_image=2.0, image_from_text=0.2)
# What a fast step calls, and the line of its account that this belongs to.
PHASES = {
    "run_pass": "virtual and real pass",
    "weighted": "combining gradients",
    "factorise": "combining gradients",
    "run_network": "meta pass",
    "deltas": "back-passes to the layers' outputs",
    "inner_products": "meta-gradient",
    "step_with": "Adam",
    "form": "forming the real gradient",
    "real_step": "clipping and SGD",
}


def measure(rounds: int, *, is_quick: bool) -> dict[str, Any]:
    """Times, ratios and accounts; prints them."""
    difference = difference_to_literal()
    say(f"\nCTMWA, 3 steps of the literal algorithm and of ours in float64: largest difference {difference:.1e}")
    widths = SMALL if is_quick else (TEXT, IMAGE, EMBEDDING)
    variants, literal = build_variants(widths)
    found = clock.best_of({name: repeated(call) for name, call in variants.items()}, rounds)
    times = {name: {kind: 1e3 * seconds for kind, seconds in best.items()} for name, best in found.items()}
    plain, slow = times["plain step"]["cpu_s"], times["literal"]["cpu_s"]
    say(f"{'':<22} processor ms   wall ms   literal/this   this/plain   ({'/'.join(map(str, widths))}, batch 64)")
    for name, taken in times.items():
        say(
            f"{name:<22} {taken['cpu_s']:12.1f} {taken['wall_s']:9.1f} {slow / taken['cpu_s']:14.2f} "
            f"{taken['cpu_s'] / plain:12.2f}"
        )
    literal_split, fast_split = split_literal(literal, rounds), split_fast(widths, rounds)
    show_accounts(literal_split, fast_split)
    return {
        "speedup_over_literal": slow / times["three masks"]["cpu_s"],
        "speedup_shared_mask": slow / times["shared mask"]["cpu_s"],
        "speedup_no_dropout": slow / times["no dropout"]["cpu_s"],
        "speedup_over_literal_mkl": slow / times["three masks, MKL"]["cpu_s"],
        "speedup_shared_mask_mkl": slow / times["shared mask, MKL"]["cpu_s"],
        "plain_steps": times["three masks"]["cpu_s"] / plain,
        "plain_steps_shared_mask": times["shared mask"]["cpu_s"] / plain,
        "plain_steps_no_dropout": times["no dropout"]["cpu_s"] / plain,
        "plain_steps_mkl": times["three masks, MKL"]["cpu_s"] / times["plain step, MKL"]["cpu_s"],
        "plain_steps_shared_mask_mkl": times["shared mask, MKL"]["cpu_s"] / times["plain step, MKL"]["cpu_s"],
        "largest_difference_to_literal": difference,
        "widths": list(widths),
        "processor_ms": {name: taken["cpu_s"] for name, taken in times.items()},
        "wall_ms": {name: taken["wall_s"] for name, taken in times.items()},
        "literal_split_ms": literal_split,
        "reference_split_ms": heads_literal.REFERENCE_MS,
        "split_ms": fast_split,
    }


def difference_to_literal() -> float:
    """Three steps from the same start, without dropout, in float64."""
    torch.manual_seed(0)
    text, image, embedding = SMALL
    literal = heads_literal.LiteralStep(text, image, embedding, CLASSES, p=0.0, rates=RATES)
    literal.network.double(), literal.weight_nets.double()
    network, step, _ = build(FastBilevelStep, SMALL, 0.0)
    network.double()
    literal.copy_from(network)
    for seed in range(3):
        batch, meta = vectors(SMALL, seed, torch.float64), vectors(SMALL, 10 + seed, torch.float64)
        literal(batch, meta)
        step(batch, meta)
    return literal.largest_difference(network)


def build_variants(widths: tuple[int, int, int]) -> tuple[dict[str, Callable[[], Any]], heads_literal.LiteralStep]:
    batch, meta = vectors(widths, 0), vectors(widths, 1)
    text, image, embedding = widths
    literal = heads_literal.LiteralStep(text, image, embedding, CLASSES, p=DROPOUT, rates=RATES)
    _, readable, _ = build(BilevelStep, widths, DROPOUT)
    _, three, _ = build(FastBilevelStep, widths, DROPOUT)
    _, shared, _ = build(FastBilevelStep, widths, DROPOUT, share=True)
    _, without, _ = build(FastBilevelStep, widths, 0.0)
    network, step, settings = build(BilevelStep, widths, DROPOUT)
    return {
        "literal": lambda: literal(batch, meta),
        "readable": lambda: readable(batch, meta),
        "three masks": lambda: three(batch, meta),
        "shared mask": lambda: shared(batch, meta),
        "no dropout": lambda: without(batch, meta),
        "plain step": lambda: plain_step(network, settings, step.optimiser, batch),
        "three masks, MKL": through_mkl(lambda: three(batch, meta)),
        "shared mask, MKL": through_mkl(lambda: shared(batch, meta)),
        "plain step, MKL": through_mkl(lambda: plain_step(network, settings, step.optimiser, batch)),
    }, literal


def through_mkl(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same with torch's own linear layers, which the literal step uses too."""

    def run() -> Any:
        kept = linear._is_there
        linear._is_there = lambda: False  # type: ignore[assignment]  # a cached function, replaced for one measurement
        try:
            return call()
        finally:
            linear._is_there = kept

    return run


def build(
    step_class: type[BilevelStep], widths: tuple[int, int, int], dropout: float, *, share: bool = False
) -> tuple[CtmwaNetwork, BilevelStep, StepSettings]:
    torch.manual_seed(0)
    text, image, embedding = widths
    network = CtmwaNetwork(text, image, embedding=embedding, class_count=CLASSES, weight_net_width=128)
    settings = StepSettings(
        translation=TRANSLATION,
        inner_learning_rate=RATES["inner"],
        dropout=dropout,
        share_masks=share,
        part_clip=2.0,
    )
    optimiser = torch.optim.SGD(
        list(parameters_of(network, BACKBONE).values()), lr=RATES["outer"], momentum=0.9, weight_decay=2e-4, fused=True
    )
    weights = list(parameters_of(network, WEIGHT_NETS).values())
    weight_optimiser = torch.optim.Adam(weights, lr=RATES["weights"], betas=(0.5, 0.999), weight_decay=2e-4)
    return network, step_class(network, settings, optimiser, weight_optimiser), settings


def vectors(widths: tuple[int, int, int], seed: int, dtype: torch.dtype = torch.float32) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(CLASSES, (BATCH,), generator=generator) for _ in range(3)]
    return Vectors(
        text=torch.randn(BATCH, widths[0], generator=generator).to(dtype),
        image=torch.randn(BATCH, widths[1], generator=generator).to(dtype),
        labels=labels[0],
        text_labels=labels[1],
        image_labels=labels[2],
    )


def repeated(call: Callable[[], Any]) -> Callable[[], Any]:
    """As `clock.best_of` wants it."""

    def once() -> list[Any]:
        call()
        return []

    return once


def split_literal(literal: heads_literal.LiteralStep, rounds: int) -> dict[str, float]:
    batch, meta = vectors((literal.network.text_encoder.in_features, _image_width(literal), 0), 0), None
    meta = vectors((batch.text.shape[1], batch.image.shape[1], 0), 1)
    best: dict[str, float] = {}
    for _ in range(rounds):
        literal.seconds = dict.fromkeys(heads_literal.REFERENCE_MS, 0.0)
        literal(batch, meta)
        best = {phase: min(best.get(phase, taken), taken) for phase, taken in literal.seconds.items()}
    return {phase: 1e3 * taken for phase, taken in best.items()}


def _image_width(literal: heads_literal.LiteralStep) -> int:
    return literal.network.text_to_image.output.out_features


def split_fast(widths: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """The same of our step with three masks, by the functions that it calls; the best of several steps each."""
    _, step, _ = build(FastBilevelStep, widths, DROPOUT)
    batch, meta = vectors(widths, 0), vectors(widths, 1)
    seconds: dict[str, float] = {}
    inside: list[str] = []

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if inside:  # a part of another part is its time
                return call(*arguments, **options)
            inside.append(name)
            started = time.process_time()
            result = call(*arguments, **options)
            seconds[PHASES[name]] = seconds.get(PHASES[name], 0.0) + time.process_time() - started
            inside.pop()
            return result

        return run

    kept = {name: getattr(ctmwa_fast, name) for name in PHASES if hasattr(ctmwa_fast, name)}
    of_classes = {"deltas": ctmwa_fast.Recorded, "run_pass": FastBilevelStep}
    originals = {name: getattr(owner, name) for name, owner in of_classes.items()}
    try:
        for name, call in kept.items():
            setattr(ctmwa_fast, name, timed(name, call))
        for name, owner in of_classes.items():
            setattr(owner, name, timed(name, originals[name]))
        best: dict[str, float] = {}
        for _ in range(rounds):
            seconds.clear()
            started = time.process_time()
            step(batch, meta)
            seconds["the rest"] = time.process_time() - started - sum(seconds.values())
            best = {phase: min(best.get(phase, taken), taken) for phase, taken in seconds.items()}
    finally:
        for name, call in kept.items():
            setattr(ctmwa_fast, name, call)
        for name, owner in of_classes.items():
            setattr(owner, name, originals[name])
    return {phase: 1e3 * taken for phase, taken in best.items()}


def show_accounts(literal: dict[str, float], fast: dict[str, float]) -> None:
    reference = heads_literal.REFERENCE_MS
    total, of_reference = sum(literal.values()), sum(reference.values())
    say("\nwhere the literal step's processor time goes, beside the authors' program (measured elsewhere):")
    for phase, taken in literal.items():
        say(
            f"  {phase:<28} {taken:8.1f} ms {taken / total:6.1%}   authors {reference[phase]:5d} ms "
            f"{reference[phase] / of_reference:6.1%}"
        )
    say("and ours, with three masks:")
    for phase, taken in fast.items():
        say(f"  {phase:<34} {taken:8.1f} ms {taken / sum(fast.values()):6.1%}")
