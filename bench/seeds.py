"""Heads × seeds on a prepared and extracted dataset: mean ± sd of the test metrics and the paired difference.

python bench/seeds.py --dataset mvsa_single --heads itin,itin:context_only,logreg --seeds 0 1 2 3 4
"""

import argparse
from pathlib import Path

import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--dataset", default="mvsa_single")
    parser.add_argument("--heads", default="itin,logreg,text_only,image_only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for itin")
    arguments = parser.parse_args()
    heads = arguments.heads.split(",")
    results = table.run_heads(arguments.artifacts, arguments.dataset, heads, arguments.seeds, arguments.set)
    for line in table.summarise(results):
        table.say(line)
    document: dict[str, object] = {"dataset": arguments.dataset, "seeds": arguments.seeds, "heads": results}
    for base in heads[1:]:
        difference = table.paired_difference(results, heads[0], base)
        document[f"{heads[0]}_minus_{base}"] = difference
        table.say(
            f"{heads[0]} − {base}: {difference['mean']:+.4f}, 95 % interval over seeds "
            f"[{difference['low']:+.4f}, {difference['high']:+.4f}]"
        )
    table.write(arguments.artifacts, f"seeds_{arguments.dataset}.json", document)


if __name__ == "__main__":
    main()
