"""What `--precision` means for the detector on a device, and which arithmetic computes it. Imports no torch.

The last stage, 84 % of the work, bears half precision well: features keep cosine 0.99999 to float32. So `fast` is that
stage in half precision, and on a GPU the backbone in TF32; the proposals, which the backbone decides, stay (nearly) the
same. `fastest` is the backbone in half precision too: some proposals become others. On a CPU, which has only bfloat16
for that, it would lose many for a tenth of the time and is `fast`; on one without instructions for bfloat16, where
it takes six times as long as float32, both are `exact`.
"""

from sentifuse.extract.precision import BFLOAT16_FLAGS, Precision, bfloat16_flags, check_precision

__all__ = ["arithmetic_of", "choose_arithmetic"]

# What a recipe calls the arithmetics of `arithmetic.py`: by device, since their numbers differ.
ON_CPU = {"fast": "bfloat16 crops"}
ON_GPU = {"fast": "tf32, float16 crops", "fastest": "float16"}


def choose_arithmetic(asked: str, *, device: str) -> Precision:
    """The precision for `--precision asked` on a device ("cpu", "cuda:1"); its `dtype` is for `arithmetic_of`.

    Raises
    ------
    ConfigError
        Unknown precision.
    """
    check_precision(asked)
    if asked == "exact":
        return Precision(asked=asked, dtype="float32")
    if device.startswith("cuda"):
        return Precision(asked=asked, dtype=ON_GPU[asked])
    flags = bfloat16_flags()
    if not flags:
        none = f"{asked} equals exact: this CPU has none of {', '.join(BFLOAT16_FLAGS)}"
        return Precision(asked=asked, dtype="float32", note=none)
    note = f"bfloat16 ({', '.join(flags)}) in the last stage"
    if asked == "fastest":
        note = f"fastest equals fast: {note}; in the backbone too it would cost regions and gain little"
    return Precision(asked=asked, dtype=ON_CPU["fast"], note=note)


def arithmetic_of(dtype: str) -> str:
    """The name in `arithmetic.py` of what a recipe calls "float32", "bfloat16 crops" and so on.

    >>> arithmetic_of("float32"), arithmetic_of("bfloat16 crops"), arithmetic_of("float16")
    ('exact', 'fast', 'fastest')
    """
    if dtype == "float32":
        return "exact"
    return "fast" if dtype in (ON_CPU["fast"], ON_GPU["fast"]) else "fastest"
