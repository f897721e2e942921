"""The borrowed ideas in training: off they change nothing, on they reach the encoder and leave an ordinary MPC."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mpc_lite.errors import InputError
from mpc_lite.neighbours.borrowed_training import Borrowed, BorrowedStep
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe
from mpc_lite.recipes.neighbour_keys import BorrowedSection
from mpc_lite.recipes.stage_keys import FinetuneSection
from mpc_lite.training.finetune import LocalizationStep
from mpc_lite.training.identity import identity
from mpc_lite.training.loop import train


def recipe(**section):
    quick = {"data.validation_images": "4", "data.scenes": "[dead_leaves]", "data.workers": "0", "data.size": "64"}
    given = load_recipe("quickstart", "smoke", quick).as_dict()
    return Recipe(**given, borrowed=BorrowedSection(**{"steps": 2, "batch": 2, "validate_every": 2, **section}))


def batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 64, 64, dtype=torch.uint8)
    mask[:, 8:40, 16:48], mask[:, 50:] = 1, 255
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return {"image": image, "mask": mask, "turn": torch.tensor([0, 3])}


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(9)
    save_weights(tmp_path / "teacher.safetensors", MPC.build("nano"), {}, stage="finetune")
    return str(tmp_path / "teacher.safetensors")


def section(idea, teacher):
    return {"idea": idea, "teacher": teacher if idea == "distillation" else None, "queue": 8}


def test_without_an_idea_it_is_stage_two():
    torch.manual_seed(0)
    model = MPC.build("nano").eval()
    ours = BorrowedStep(model, BorrowedSection()).eval()(batch())
    theirs = LocalizationStep(model, FinetuneSection(encoder="trained")).eval()(batch())
    assert set(ours) == {"focal", "total"} and torch.equal(ours["total"], theirs["total"])


@pytest.mark.slow
@pytest.mark.parametrize("idea", ["distillation", "scale", "views"])
def test_an_idea_adds_its_weight_and_reaches_the_encoder(idea, teacher):
    torch.manual_seed(0)
    step = BorrowedStep(MPC.build("nano"), BorrowedSection(**section(idea, teacher), idea_weight=0.5)).train()
    frozen = [p for p in step.parameters() if not p.requires_grad]
    sums = step(batch())
    names = {"distillation": {"distillation"}, "scale": {"contrast", "equivariance"}, "views": {"equivariance"}}[idea]
    assert set(sums) == {"focal", "total"} | names
    added = sum(sums[n] for n in names)
    assert sums["total"].item() == pytest.approx((sums["focal"] + 0.5 * added).item(), rel=1e-6) and added > 0
    added.backward()
    assert any(p.grad is not None and p.grad.any() for p in step.model.encoder.parameters())
    assert len(frozen) == (len(list(MPC.build("nano").parameters())) if idea == "distillation" else 0)
    assert all(p.grad is None for p in frozen)
    if idea == "distillation":
        assert not step.helper.teacher.training and step.helper.queue.filled.sum() == 2


@pytest.mark.slow
@pytest.mark.parametrize("idea", ["distillation", "scale", "views"])
def test_the_loop_trains_it(idea, teacher, tmp_path):
    path = train(Borrowed, recipe(**section(idea, teacher)), tmp_path / "run", False, None, "cpu")
    assert set(load_file(path)) == set(MPC.build("nano").state_dict())


@pytest.mark.trust
def test_another_teacher_is_another_run(teacher):
    """It was exchanged between stop and resume: the old one taught on, and the results named the new one."""
    plan = recipe(**section("distillation", teacher))
    before = identity(plan)
    assert identity(plan) == before
    torch.manual_seed(1)
    save_weights(Path(teacher), MPC.build("nano"), {}, stage="finetune")
    assert identity(plan) != before and "teacher" not in json.loads(identity(recipe(**section("scale", teacher))))


def test_bad_input():
    with pytest.raises(ValidationError, match="needs a teacher"):
        BorrowedSection(idea="distillation")
    with pytest.raises(ValidationError, match="and no other"):
        BorrowedSection(idea="views", teacher="lite")
    plan = recipe(idea="scale")
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"size": 72})})
    with pytest.raises(InputError, match="multiple of 16"):
        Borrowed(MPC.build("nano"), plan)
