"""How many real photographs each split of recipe lite2 has, by source: write training-photographs.json beside this.

    MPC_LITE_DATA=FOLDER python book/results/training-photographs.py

Counted as the generator of forgeries draws them: of the recipe's lists and sources, those that are large enough.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from mpc_lite.files import expand, write_atomic
from mpc_lite.forgeries.photographs import Photographs
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

if __name__ == "__main__":
    real = load_recipe("lite2").data.real
    lists = [str(expand(each)) for each in real.lists]
    splits = {}
    for split in ("train", "validation", "test"):
        counts = Counter(photograph.source for photograph in Photographs(split, lists, real.sources).items)
        splits[split] = dict(sorted(counts.items()))
    facts = record(command="python book/results/training-photographs.py", recipe="lite2", splits=splits)
    result = json.dumps({"schema": 1, **facts}, indent=1) + "\n"
    write_atomic(Path(__file__).with_suffix(".json"), result.encode())
