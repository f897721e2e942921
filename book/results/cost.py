"""What the paper's experiments would cost: `python book/results/cost.py book/results/cost.json`.

Counted, not run: `mpc_lite.cost.recipe_cost` for the profile `paper` of the three experiments; of the third once more
in bf16 (variant `corrected`) and with checkpointed activations; and for protocol1's profile `check`, which was
run as well (protocol1-check.json). Needs no data, no weights and no GPU; takes some minutes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mpc_lite.cost.recipe_cost import cost
from mpc_lite.files import FOLDERS, write_atomic
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe

CHECKPOINTED = {"pretrain.checkpoint_activations": True, "finetune.checkpoint_activations": True}
CASES = {  # name: recipe, profile, what else differs
    "check": ("protocol1", "check", {}),
    "experiment 3": ("protocol3", "paper", {}),
    "experiment 3, checkpointed": ("protocol3", "paper", CHECKPOINTED),
    "experiment 3, bf16": ("protocol3", "paper", {"variant": "corrected"}),
    "experiment 1": ("protocol1", "paper", {}),
    "experiment 2": ("protocol2", "paper", {}),
}


def main(target: Path) -> None:
    for variable in FOLDERS:  # epochs as the recipes state them, whatever lies on this machine
        os.environ.pop(variable, None)
    cases = {}
    for name, (recipe, profile, changes) in CASES.items():
        cases[name] = {"changes": changes, **cost(load_recipe(recipe, profile, changes)).as_dict()}
        print(name, flush=True)
    result = {
        "schema": 1,
        **record(
            command=f"python book/results/cost.py {target.as_posix()}", device="none: counted on tensors without values"
        ),
        "cases": cases,
    }
    write_atomic(target, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
