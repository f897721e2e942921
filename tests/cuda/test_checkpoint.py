"""A run that began on a GPU goes on on the CPU, and back."""

import json

import pytest
import torch

from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import finetune
from mpc_lite.training.loop import Interrupted
from mpc_lite.training.pretrain import pretrain

pytestmark = pytest.mark.cuda

SMALL = {"data.scenes": "[dead_leaves]", "data.validation_images": 4, "data.authentic_share": 0.0}
STEPS = {"pretrain.steps": 4, "finetune.steps": 4}


@pytest.mark.parametrize("first", ["gpu", "cpu"])
def test_a_checkpoint_goes_from_device_to_device(device, first, tmp_path):
    recipe = load_recipe("lite-gpu", "smoke", {**SMALL, **STEPS})
    places = [device.type, "cpu", device.type] if first == "gpu" else ["cpu", device.type, "cpu"]
    for train, stage in ((pretrain, "pretrain"), (finetune, "finetune")):
        for number, place in enumerate(places[:2], start=1):
            (tmp_path / "stop").touch()  # asks for a stop after one step
            with pytest.raises(Interrupted):
                train(recipe, tmp_path, resume=number > 1, device=place)
            state = torch.load(tmp_path / f"{stage}.state", map_location="cpu", weights_only=True)
            assert state["step"] == number
            assert {int(of["step"]) for of in state["optimizer"]["state"].values()} == {number}
        train(recipe, tmp_path, resume=True, device=places[2])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [(line["stage"], line["step"]) for line in lines if "loss" in line]
    assert steps == [(stage, i) for stage in ("pretrain", "finetune") for i in range(1, 5)]
    weights = MPC.from_pretrained(tmp_path / "model.safetensors").state_dict()
    assert all(value.isfinite().all() and value.device.type == "cpu" for value in weights.values())


def test_the_device_asked_for_is_the_one_that_trains(device):
    """Also when a run before it in this process was on the other one: accelerate remembers its first device."""
    from mpc_lite.network.devices import choose_accelerator

    for place in (device.type, "cpu", device.type):
        assert choose_accelerator(place, "fp32").device.type == place
