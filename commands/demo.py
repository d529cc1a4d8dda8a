"""`make demo`: the whole job on the embedded sample, each command as one would type it."""

import sys
import time

STEPS = (
    ("data", "prepare", "sample"),
    ("extract", "--dataset", "sample", "--profile", "tiny"),
    ("train", "--head", "text_only"),
    ("evaluate", "--split", "test"),
    ("train", "--head", "image_only"),
    ("evaluate", "--split", "test"),
    ("train", "--head", "itin"),
    ("evaluate", "--split", "test"),
)


def main() -> int:
    """Run the steps one after the other; stops at the first that fails."""
    from sentifuse import cli

    started = time.monotonic()
    for step in STEPS:
        sys.stderr.write(f"\n$ sentifuse {' '.join(step)}\n")
        if code := cli.run([*step, *sys.argv[1:]]):
            return code
    seconds = time.monotonic() - started
    sys.stderr.write(
        f"\nDone in {seconds:.0f} s. The three evaluations above are text alone, image alone, and both fused by ITIN.\n"
        "The sample is drawn and composed by this project and the encoders are random miniatures: the figures show\n"
        "that the job works, not how well it does on real pairs. Next: the README's section on real pairs.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
