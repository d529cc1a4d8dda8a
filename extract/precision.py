"""What `exact`, `fast` and `fastest` mean for a network on a device. Reads processor flags; imports no torch.

`exact` is float32. `fast` is the fastest arithmetic that keeps every feature within cosine 0.9999 of float32, by
measurement; `fastest` is half precision whatever it does. Smallest cosine to float32, with autocast:

    features                                             bfloat16    float16
    tokens, MiniLM: 14,700 word pieces of 512 tweets     0.99989     0.999997
    context, MobileNetV2: 96 photographs                 0.989       0.99994
    regions, grid of MobileNetV2: their 36 cells each    0.695       0.962

So only `tokens` keeps the bound, in float16. A CPU is fast in bfloat16 (texts 2.7 times, images 2 times) but slow in
float16, hence `fast` equals `exact` there and says so. What was not measured on real weights stays exact.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sentifuse import ConfigError

__all__ = [
    "BFLOAT16_FLAGS",
    "PRECISIONS",
    "Precision",
    "bfloat16_flags",
    "check_precision",
    "choose_precision",
    "cpu_flags",
]

PRECISIONS = ("exact", "fast", "fastest")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The arithmetic that will be used: `dtype` goes into the fingerprint, `note` to the user."""

    asked: str
    dtype: str  # "float32", "float16" or "bfloat16"; of an encoder with parts, what else tells its numbers apart
    note: str = ""


def choose_precision(asked: str, *, device: str, keeps_float16: bool) -> Precision:
    """The arithmetic for `--precision asked` on a device ("cpu", "cuda", "cuda:1").

    Parameters
    ----------
    keeps_float16
        Whether the encoder's features were measured to keep cosine 0.9999 in float16.

    Raises
    ------
    ConfigError
        Unknown precision.
    """
    check_precision(asked)
    if asked == "exact":
        return Precision(asked=asked, dtype="float32")
    is_cuda = device.startswith("cuda")
    if asked == "fast":
        if is_cuda and keeps_float16:
            return Precision(asked=asked, dtype="float16")
        on_cpu = "a CPU is fast only in bfloat16, which does not keep features within cosine 0.9999"
        why = "float16 was not shown to keep its features within cosine 0.9999" if is_cuda else on_cpu
        return Precision(asked=asked, dtype="float32", note=f"fast equals exact: {why}")
    if is_cuda:
        return Precision(asked=asked, dtype="float16")
    flags = bfloat16_flags()
    if flags:
        return Precision(asked=asked, dtype="bfloat16", note=f"bfloat16 ({', '.join(flags)})")
    return Precision(
        asked=asked, dtype="float32", note=f"fastest equals exact: this CPU has none of {', '.join(BFLOAT16_FLAGS)}"
    )


def check_precision(asked: str) -> None:
    """Refuse a value of --precision that there is not."""
    if asked not in PRECISIONS:
        raise ConfigError.unknown("precision", asked, PRECISIONS, where="--precision")


def bfloat16_flags() -> tuple[str, ...]:
    """Which instructions for bfloat16 this processor has; without any, bfloat16 is slower than float32."""
    return tuple(flag for flag in BFLOAT16_FLAGS if flag in cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """Feature flags of the processor; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    lines = [line for line in text.splitlines() if line.startswith("flags")]
    return frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()
