"""What a stage starts from, and whose weights lie where it will write its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mpc_lite.errors import InputError, OtherRun, shown, some
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.network.weights import ENCODER_ONLY, read_facts, weights_sha256
from mpc_lite.recipes.keys import Recipe
from mpc_lite.training.checkpoint import read_state, same_weights
from mpc_lite.training.identity import by_name, identity
from mpc_lite.training.stage import Stage


def check_own(target: Path, recipe: Recipe, state: Path) -> None:
    """InputError unless the weights that an unfinished stage will write over are its own, by what they say themselves.

    They are there without a checkpoint where the run was killed before its first one, or where it was deleted. A
    checkpoint beside them says itself of what run it is; then only the stage is looked at, where they name one.
    """
    facts = read_facts(target)
    written, found = {"stage": state.stem}, {"stage": facts.get("stage", state.stem if state.exists() else None)}
    differing = [key for key in written if found[key] != written[key]]
    if not state.exists():
        # Weights leave out keys that are as if they were not there (`as_dict`), and may have such as ours leaves out.
        written |= by_name(recipe.as_dict())
        found |= by_name(facts["recipe"])
        compared = by_name(json.loads(identity(recipe))["recipe"]).keys() & written.keys()
        compared |= {key for key in found.keys() - written.keys() if not key.startswith("evaluate.")}
        differing += sorted(key for key in compared if found.get(key, ...) != written.get(key, ...))
    if differing:
        told = [
            f"{key} {shown(found.get(key, 'absent'))}, not {shown(written.get(key, 'absent'))}" for key in differing
        ]
        raise InputError(
            f"{target} is of another run or stage ({some(told, 5)}), and {state.stem} would write over it; move it "
            "away, or choose another folder"
        )


def earlier_result(file: Path, stage: str) -> Path:
    """The file that an earlier stage left. InputError: it did not, it has not ended, or another run's file has taken
    its place. Weights without a note or a checkpoint beside them are taken as they are."""
    if not file.is_file():
        raise InputError(f"{file} does not exist; run 'mpc-lite {stage}' with the same --out first, or give --weights")
    done, state = file.with_name(f"{stage}.done"), file.with_name(f"{stage}.state")
    if done.exists():
        same_weights(file, done)
    elif state.exists():
        raise InputError(
            f"{file} is what the stage '{stage}' has learnt so far{_how_far(state)}, which has not ended; go on with "
            f"'mpc-lite {stage}' with the same --out and --resume, or name the file with --weights"
        )
    return file


def _how_far(state: Path) -> str:
    """By a checkpoint; nothing where it is damaged."""
    try:
        found = read_state(state)
        return f" (step {found['step']} of {json.loads(found['recipe'])['recipe'][state.stem]['steps']})"
    except (InputError, ValueError, TypeError, LookupError, RecursionError):
        return ""


def own_start(kind: type[Stage], recipe: Recipe, out: Path) -> str | None:
    """The sha256 of the file that a stage starts from by itself; None where it has none, or it is not there any more.

    InputError where another run's file has taken its place.
    """
    try:
        start = kind.start(recipe, out)
        return weights_sha256(start) if start and Path(start).is_file() else None
    except OtherRun:
        raise
    except InputError:  # missing, or in a folder that nobody names now: whoever resumes does not need it
        return None


def starting_model(recipe: Recipe, weights: str | Path | None) -> MPC:
    """A network of the recipe's size and head: from `weights`, or new from the recipe's seed.

    Weights whose head has learnt nothing (of stage 1, of ImageNet) give their encoder alone, which fits any head; the
    head is new from the seed.

    Raises:
        InputError: weights of another size, or with a head that has learnt and is another one.
    """
    torch.manual_seed(recipe.seed)
    size, head = recipe.model.size, recipe.model.head
    model = MPC.build(size, head)
    if weights is None:
        return model
    network = load_weights(str(weights))
    encoder_only = read_facts(str(weights)).get("stage") in ENCODER_ONLY
    if network.size != size or (network.head != head and not encoder_only):
        raise InputError(
            f"{weights} holds {network.size}/{network.head}, the recipe asks for {size}/{head}; "
            "change model.size and model.head or the weights"
        )
    if not encoder_only:
        return network
    model.encoder.load_state_dict(network.encoder.state_dict())
    return model
