"""The cost of a recipe: sums that must hold between its numbers, epochs from manifests, and the text."""

import json

import pytest
import torch

from mpc_lite.cost.recipe_cost import (
    PEAK,
    Cost,
    cost,
    counting,
    duration,
    epoch_entries,
    format_cost,
    scaled,
    stage_cost,
)
from mpc_lite.errors import InputError
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.pretrain import Pretraining

pytestmark = pytest.mark.slow

CONV1 = 2 * 32 * 32 * 32 * (6 * 9)  # nano at 64 pixels: the only layer whose input needs no gradient


def quickstart(**overrides):
    plain = {"data.size": 64, "pretrain.batch": 2, "finetune.batch": 4, "pretrain.max_pixels": 100}
    return load_recipe("quickstart", overrides=plain | {k.replace("__", "."): v for k, v in overrides.items()})


@pytest.fixture(scope="module")
def plain() -> Cost:
    """Three stages: the first in bf16, the others in fp32; the third with forgeries of its own, which never end."""
    return cost(quickstart(pretrain__precision="bf16", data__epoch=500, adapt__manifest=[], adapt__steps=5))


def test_parameters_and_what_learns(plain):
    assert plain.parameters == {"encoder": 574_657, "head": 44_225}
    assert [s.name for s in plain.stages] == ["pretrain", "finetune", "adapt"]
    assert [s.learning for s in plain.stages] == [574_657, 44_225, 618_882]
    for stage in plain.stages:
        assert stage.memory["gradients"] == 4 * stage.learning
        assert stage.memory["moments of AdamW"] == 8 * stage.learning
    weights = plain.stages[0].memory["weights"]
    assert 4 * sum(plain.parameters.values()) < weights < plain.weights_file < plain.stages[1].checkpoint
    assert plain.stages[1].checkpoint < plain.stages[0].checkpoint < 4 * weights


@pytest.mark.parametrize("encoder", ["frozen", "official", "trained"])
def test_arithmetic_of_stage_2(plain, encoder):
    """Forward through both; backward through the head, or through all but the gradient of the image."""
    E, H = plain.forward_flops["encoder"], plain.forward_flops["head"]
    stage = plain.stages[1]
    if encoder != "frozen":
        stage = stage_cost(Finetuning, quickstart(finetune__encoder=encoder))
    assert stage.flops == 4 * (3 * E + 3 * H - CONV1 if encoder == "trained" else E + 3 * H)
    assert stage.learning == (618_882 if encoder == "trained" else 44_225)


def test_arithmetic_of_stage_1(plain):
    """Two passes forward and backward, their common beginning once, and the loss; of the second pass the coarse ends
    need no gradient."""
    E, recipe = plain.forward_flops["encoder"], quickstart()
    with torch.device("meta"), torch.no_grad(), counting.flop_counter() as shared:
        MPC.build("nano").encoder.begin(torch.empty(1, 3, 64, 64))
    passes = 2 * (3 * E - CONV1) - (3 * shared.get_total_flops() - CONV1)
    assert 0.2 * E < shared.get_total_flops() < E
    found = plain.stages[0].flops / 2 - counting.loss_flops(recipe)
    assert 0.9 * passes < found < passes
    # Without the second pass's term every gradient there is belongs to the first.
    recipe = quickstart(pretrain__terms=["within_image", "cross_scale"])
    found = stage_cost(Pretraining, recipe).flops / 2 - counting.loss_flops(recipe)
    assert found - (3 * E - CONV1) in (0, E)


def test_accumulation_costs_arithmetic_and_no_memory(plain):
    once, thrice = (
        plain.stages[0],
        stage_cost(Pretraining, quickstart(pretrain__precision="bf16", pretrain__accumulate=3)),
    )
    assert thrice.flops == 3 * once.flops and thrice.memory == once.memory
    assert thrice.batch * thrice.accumulate == 6


def test_checkpointed_activations_trade_memory_for_arithmetic(plain):
    recipe = quickstart(pretrain__precision="bf16", pretrain__checkpoint_activations=True)
    once, again = plain.stages[0], stage_cost(Pretraining, recipe)
    E = plain.forward_flops["encoder"]
    assert sum(again.memory.values()) < 0.8 * sum(once.memory.values())
    # Two images, two passes: at most all once more; the stem and the projections are not, and in nano they are half.
    assert once.flops + 0.4 * 4 * E < again.flops < once.flops + 4 * E


def test_hours_by_hand(plain):
    first, second, third = plain.stages
    seconds = first.flops / (312e12 * 0.3)
    assert first.hours(1000) == pytest.approx(1000 * seconds / 3600)
    assert first.as_dict()["steps_per_epoch"] == 250  # two images each
    assert first.as_dict()["hours_per_epoch"] == pytest.approx(250 * seconds / 3600)
    assert second.as_dict()["hours_per_epoch"] == pytest.approx(125 * second.flops / (19.5e12 * 0.3) / 3600)
    assert third.as_dict()["hours_per_epoch"] is None
    assert third.as_dict()["hours"] == third.hours(5) == pytest.approx(5 * third.flops / (19.5e12 * 0.3) / 3600)
    assert PEAK == {"bf16": 312e12, "fp32": 19.5e12}


# ------------------------------------------------------------------------------------------------------- epochs, stages


@pytest.fixture
def manifest(tmp_path):
    """Twenty tampered rows, five of them of the source IMD."""
    for name in ("a.png", "m.png"):
        (tmp_path / name).touch()  # rows are counted, not read
    rows = [f"a.png,m.png,1,{'IMD' if i < 5 else 'CASIAv2'},train" for i in range(20)]
    rows = ["image,mask,label,source,split", *rows, "a.png,m.png,1,IMD,validation"]
    (tmp_path / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "list.csv"


@pytest.mark.filterwarnings("ignore:the manifests give an epoch of 20")
def test_entries_of_an_epoch(manifest, monkeypatch):
    assert epoch_entries(quickstart()) is None
    assert epoch_entries(quickstart(data__epoch=7)) == 7
    assert epoch_entries(quickstart(data__epoch=7, data__manifest=str(manifest))) == 20
    assert epoch_entries(quickstart(data__manifest=str(manifest), data__repeats={"IMD": 3})) == 15 + 3 * 5
    assert epoch_entries(quickstart(data__epoch=7, data__manifest=str(manifest.parent / "none.csv"))) == 7
    monkeypatch.delenv("MPC_LITE_SETS", raising=False)
    away = quickstart(data__epoch=7, data__manifest="$MPC_LITE_SETS/list.csv")
    assert epoch_entries(away) == 7
    monkeypatch.setenv("MPC_LITE_SETS", str(manifest.parent))
    assert epoch_entries(away) == 20
    manifest.write_text("image,mask\nx.png,\n", encoding="utf-8")
    with pytest.raises(InputError):
        epoch_entries(away)


def test_a_third_stage_has_an_epoch_of_its_own(manifest):
    def entries(path: str) -> int | None:
        return epoch_entries(quickstart(data__epoch=7, adapt__manifest=path, adapt__steps=5), "adapt")

    assert entries(str(manifest)) == 20
    assert entries("none.csv") is None


def test_a_recipe_that_only_scores_has_no_stages(plain):
    found = cost(quickstart(evaluate__weights="lite"))
    assert found.stages == () and found.forward_flops == plain.forward_flops
    assert "forward pass" in format_cost(found) and "assumed" not in format_cost(found)


# ----------------------------------------------------------------------------------------------------------------- text


def test_the_text_fits_a_terminal_and_names_its_assumptions(plain):
    text = format_cost(plain)
    assert max(map(len, text.splitlines())) <= 100
    expected = ("574,657", "79.9 MFLOP", "adapt", "unknown", "500", "312 TFLOP/s bf16", "19.5 TFLOP/s fp32", "A800")
    for part in (*expected, "30% of its published peak", "assumed, not measured", "Reading images"):
        assert part in text, part
    data = json.loads(json.dumps(plain.as_dict()))
    assert [stage["name"] for stage in data["stages"]] == ["pretrain", "finetune", "adapt"]
    assert data["assumptions"]["utilisation_measured"] is False
    assert data["stages"][0]["memory_total"] == sum(plain.stages[0].memory.values())


def test_numbers_for_people():
    assert [scaled(n, "B") for n in (0, 999, 999.6, 12_345, 5.4e8)] == [
        "0.00 B",
        "999 B",
        "1.00 kB",
        "12.3 kB",
        "540 MB",
    ]
    assert [duration(h) for h in (0.0002, 0.017, 3.25, 1234.5)] == ["0.720 s", "1.02 min", "3.25 h", "1,234 h"]
