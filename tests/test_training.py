"""The loop: it learns, it stops when asked, and a run that was stopped or killed ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from mpc_lite.config import InputError, load_recipe
from mpc_lite.finetune import Finetuning, finetune
from mpc_lite.model import MPC
from mpc_lite.pretrain import ContrastiveStep, minority_cluster, pretrain
from mpc_lite.training import Interrupted, Stage, choose_accelerator, make_scheduler

QUICK = {"data.validation_images": "4", "data.scenes": "[dead_leaves]", "data.authentic_share": "0"}


def recipe(**overrides):
    return load_recipe("quickstart", "smoke", {**QUICK, **{k.replace("__", "."): v for k, v in overrides.items()}})


def lines(out):
    return [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run of both stages."""
    out = tmp_path_factory.mktemp("run")
    pretrain(recipe(), out, device="cpu")
    finetune(recipe(), out, device="cpu")
    return out


def test_both_stages_write_weights_and_a_log(finished):
    steps = [(x["stage"], x["step"]) for x in lines(finished) if "loss" in x]
    assert steps == [("pretrain", i) for i in range(1, 5)] + [("finetune", i) for i in range(1, 5)]
    first = lines(finished)[0]
    assert {"within_image", "cross_scale", "cross_modality", "loss", "lr", "seconds", "seconds_left"} <= set(first)
    assert any("validation" in x for x in lines(finished))
    assert MPC.from_pretrained(finished / "model.safetensors").size == "nano"


def test_frozen_stage_two_leaves_every_encoder_tensor_alone(finished):
    before, after = (load_file(finished / f"{x}.safetensors") for x in ("stage1", "model"))
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder."))
    assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith("decoder."))


def test_official_stage_two_lets_statistics_drift_but_no_weight(finished):
    before = load_file(finished / "stage1.safetensors")
    stage = Finetuning(MPC.from_pretrained(finished / "stage1.safetensors"), recipe(finetune__encoder="official"))
    stage.prepare_epoch()
    batch = {
        "image": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8),
        "turn": torch.zeros(2, dtype=torch.int64),
    }
    batch["mask"] = torch.zeros(2, 64, 64, dtype=torch.uint8)
    stage.network(batch)["total"].backward()
    after = stage.model.state_dict()
    drift = [k for k in before if k.startswith("encoder.") and not torch.equal(before[k], after[k])]
    assert drift and all("running_" in k or "num_batches" in k for k in drift)
    assert all(p.grad is None for p in stage.model.encoder.parameters())


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_stopped_run_resumes_to_the_same_weights(finished, tmp_path, stage):
    train = {"pretrain": pretrain, "finetune": finetune}[stage]
    start = None if stage == "pretrain" else finished / "stage1.safetensors"
    (tmp_path / "stop").touch()  # asks before the first step ends
    with pytest.raises(Interrupted, match="step 1 of 4"):
        train(recipe(), tmp_path, weights=start, device="cpu")
    assert not (tmp_path / "stop").exists()
    with pytest.raises(InputError, match="earlier run"):
        train(recipe(), tmp_path, weights=start, device="cpu")
    path = train(recipe(), tmp_path, resume=True, weights=start, device="cpu")
    ours, theirs = load_file(path), load_file(finished / path.name)
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert [x["step"] for x in lines(tmp_path) if "loss" in x] == [1, 2, 3, 4]
    assert train(recipe(), tmp_path, resume=True, weights=start, device="cpu") == path  # finished: nothing to do


def start_process(out):
    """Stage 1 of 200 steps in a process of its own, once it has done two of them."""
    code = (
        "from mpc_lite.config import load_recipe; from mpc_lite.pretrain import pretrain\n"
        f"pretrain(load_recipe('quickstart', 'smoke', {LONG!r}), {str(out)!r}, device='cpu')"
    )
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=env)
    for _ in range(1200):
        if (out / "log.jsonl").exists() and any(x["step"] >= 2 for x in lines(out)):
            return process
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.kill()
    pytest.fail("step 2 was not reached within two minutes")


LONG = {**QUICK, "pretrain.steps": "200", "pretrain.checkpoint_every": "1", "pretrain.validate_every": "200"}


def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(tmp_path):
    process = start_process(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Interrupted: pretrain stopped after step" in errors
    assert (tmp_path / "pretrain.state").exists()


def stop_after(monkeypatch, out, steps):
    """Ask for a stop while step number `steps` of the next run is being computed."""
    forward, calls = ContrastiveStep.forward, []

    def counting(self, batch):
        calls.append(1)
        if len(calls) == steps:
            (out / "stop").touch()
        return forward(self, batch)

    monkeypatch.setattr(ContrastiveStep, "forward", counting)


def test_kill_nine_and_resume_gives_the_weights_of_an_unbroken_run(tmp_path, monkeypatch):
    """The killed run goes on for three steps; a run that never broke has the same state at that step."""
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.mkdir()
    process = start_process(broken)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = torch.load(broken / "pretrain.state", weights_only=True)["step"]
    assert 1 <= reached < 100
    long = load_recipe("quickstart", "smoke", LONG)
    states = []
    for out, steps in ((broken, 3), (whole, reached + 3)):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            out.mkdir(exist_ok=True)
            stop_after(patch, out, steps)
            pretrain(long, out, resume=out is broken, device="cpu")
        states.append(torch.load(out / "pretrain.state", weights_only=True))
    assert states[0]["step"] == states[1]["step"] == reached + 3
    ours, theirs = (s["model"] for s in states)
    assert [k for k in theirs if not torch.equal(ours[k], theirs[k])] == []
    ours, theirs = (s["optimizer"]["state"] for s in states)
    assert all(torch.equal(ours[i][k], theirs[i][k]) for i in theirs for k in theirs[i])


def test_another_recipe_cannot_resume(tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        pretrain(recipe(), tmp_path, device="cpu")
    with pytest.raises(InputError, match="another recipe"):
        pretrain(recipe(pretrain__learning_rate="0.5"), tmp_path, resume=True, device="cpu")


def test_nano_overfits_eight_images():
    torch.manual_seed(0)
    model = MPC.build("nano").train()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 80, (8, 3, 64, 64), dtype=torch.uint8, generator=generator)
    mask = torch.zeros(8, 64, 64, dtype=torch.uint8)
    mask[:, :, :24] = 1
    image[:, :, :, :24] += torch.randint(0, 170, (8, 3, 64, 24), dtype=torch.uint8, generator=generator)
    step = ContrastiveStep(model, recipe())
    optimizer = torch.optim.AdamW(step.parameters(), 2e-3)
    batch = {"image": image, "mask": mask, "turn": torch.zeros(8, dtype=torch.int64)}
    losses = []
    for _ in range(25):
        loss = step(batch)["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_smaller_of_two_clusters_is_marked():
    embedding = torch.nn.functional.one_hot(torch.tensor([0] * 30 + [1] * 10), 4).numpy().astype("float32")
    assert minority_cluster(embedding).tolist() == [0] * 30 + [1] * 10


def rates(stage_name, plan, scores):
    class Plain(Stage):
        name, settings = stage_name, getattr(recipe(**plan), stage_name)

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], Plain.settings.learning_rate)
    scheduler, seen = make_scheduler(optimizer, Plain), []
    for score in scores:
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(score) if stage_name == "pretrain" and score is not None else scheduler.step()
    return seen


def test_schedules():
    base = {"finetune__learning_rate": "1.0", "finetune__steps": "100"}
    plan = {**base, "finetune__schedule": {"name": "cosine", "warmup": 10, "floor": 0.0}}
    seen = rates("finetune", plan, [None] * 100)
    assert seen[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert seen[55] == pytest.approx(0.5) and seen[-1] < 1e-3 and all(a >= b for a, b in pairwise(seen[10:]))
    # The released cosine swings: back at the top after 40 validations.
    plan = {**base, "finetune__schedule": {"name": "official", "period": 20}}
    seen = rates("finetune", plan, [None] * 41)
    assert seen[20] == pytest.approx(1e-8, abs=1e-6) and seen[40] == pytest.approx(1.0, rel=1e-3)
    # The plateau halves after more than three validations without a better score.
    plan = {"pretrain__learning_rate": "1.0", "pretrain__schedule": {"name": "official"}}
    assert rates("pretrain", plan, [0.5] * 7)[4:] == [1.0, 0.5, 0.5]


def test_devices_are_checked():
    with pytest.raises(InputError, match="unknown"):
        choose_accelerator("tpu", "fp32")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA"):
            choose_accelerator("cuda", "fp32")


def test_bf16_trains(tmp_path):
    pretrain(recipe(pretrain__precision="bf16", pretrain__steps="1"), tmp_path, device="cpu")
    assert lines(tmp_path)[0]["loss"] > 0


def test_tensorboard_is_written_when_the_recipe_asks(tmp_path):
    pretrain(recipe(tracker="tensorboard", pretrain__steps="1"), tmp_path, device="cpu")
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_finetune_needs_fitting_weights(tmp_path, finished):
    with pytest.raises(InputError, match="pretrain"):
        finetune(recipe(), tmp_path)
    with pytest.raises(InputError, match="nano/4conv"):
        finetune(recipe(model__head="5conv"), tmp_path, weights=finished / "stage1.safetensors")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        pretrain(recipe(), tmp_path / "file" / "run", device="cpu")
