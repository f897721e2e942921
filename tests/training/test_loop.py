"""The loop: it learns, it stops when asked, and a run that was stopped or killed ends with the same weights."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from mpc_lite.contrast.loss import mpc_loss_per_image
from mpc_lite.contrast.views import resize_mask
from mpc_lite.data.augment.on_device import dihedral, jpeg
from mpc_lite.data.manifest import read_manifest
from mpc_lite.data.stream import Forgeries, ManifestImages
from mpc_lite.errors import InputError, ProcessDied
from mpc_lite.neighbours.mscc.training import ClassCenterTraining
from mpc_lite.network.devices import choose_accelerator, choose_device, training_threads
from mpc_lite.network.hrformer import HRFormer
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import PRETRAINED, read_facts, save_weights
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training import pretrain as module
from mpc_lite.training.finetune import Adaptation, Finetuning, adapt, finetune, focal_loss
from mpc_lite.training.finite import Watch
from mpc_lite.training.identity import identity
from mpc_lite.training.loop import Interrupted, Stage, make_scheduler, seed_micro_batch, starting_model, train
from mpc_lite.training.pretrain import ContrastiveStep, Pretraining, minority_cluster, pretrain
from mpc_lite.training.processes import deaths_told
from mpc_lite.training.starts import check_own, own_start
from tests.forked import forking

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
    names = {"within_image", "cross_scale", "cross_modality", "loss", "learning_rate", "seconds", "seconds_left"}
    assert names <= set(first)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_log_of_an_older_version_goes_on_with_the_names_of_this_one(finished, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        pretrain(recipe(), tmp_path, device="cpu")
    log = tmp_path / "log.jsonl"
    text = log.read_text()
    assert '"learning_rate"' in text
    log.write_text(text.replace('"learning_rate"', '"lr"'))
    pretrain(recipe(), tmp_path, resume=True, device="cpu")
    assert log.read_text().startswith(text)
    rates = [
        [x["learning_rate"] for x in lines(out) if "loss" in x and x["stage"] == "pretrain"]
        for out in (tmp_path, finished)
    ]
    assert rates[0] == rates[1] and len(rates[0]) == 4


def start_process(out):
    """Stage 1 of 200 steps in a process of its own, once it has done two of them."""
    # Said in both processes: a number of threads that was set makes other sums than the same number by default.
    threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    code = (
        f"import torch; torch.set_num_threads({threads})\n"
        "from mpc_lite.recipes.load import load_recipe; from mpc_lite.training.pretrain import pretrain\n"
        f"pretrain(load_recipe('quickstart', 'smoke', {LONG!r}), {str(out)!r}, device='cpu')"
    )
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with forking():
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=env)
    for _ in range(6000):
        if (out / "log.jsonl").exists() and any(x["step"] >= 2 for x in lines(out)):
            return process
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.kill()
    pytest.fail("step 2 was not reached within ten minutes")


LONG = {**QUICK, "pretrain.steps": "200", "pretrain.checkpoint_every": "1", "pretrain.validate_every": "200"}


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(tmp_path, number):
    process = start_process(tmp_path)
    process.send_signal(number)
    if number == signal.SIGTERM:
        process.send_signal(number)  # SLURM's, and once more from srun: the same wish
    _, errors = process.communicate(timeout=300)
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.trust
def test_equal_training_gives_equal_files_whatever_the_number_of_workers(tmp_path):
    files = [
        pretrain(recipe(data__workers=n, pretrain__steps="1"), tmp_path / n, device="cpu").read_bytes() for n in "01"
    ]
    assert files[0] == files[1]
    assert "workers" not in read_facts(tmp_path / "1" / "stage1.safetensors")["recipe"]["data"]


@pytest.mark.slow
@pytest.mark.trust
def test_a_killed_loader_worker_is_told_in_one_line_and_the_run_goes_on(tmp_path, monkeypatch):
    read = Forgeries.__getitem__
    plan = recipe(data__workers="1", pretrain__batch="2", pretrain__checkpoint_every="1", pretrain__steps="9")

    def dying(self, position):
        if self.split == "train" and position == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, position)

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="often because memory ran") as told,
    ):
        patch.setattr(Forgeries, "__getitem__", dying)
        pretrain(plan, tmp_path, device="cpu")
    assert "\n" not in str(told.value) and "data.workers" in str(told.value)
    first = torch.load(tmp_path / "pretrain.state", weights_only=True)["step"]
    assert first >= 1
    pretrain(plan, tmp_path, resume=True, device="cpu")
    assert [x["step"] for x in lines(tmp_path) if "loss" in x] == list(range(1, 10))


@pytest.mark.trust
@pytest.mark.parametrize(
    "text",
    [
        "[…/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:5029. This is typically caused by",
        "[…/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:5029: Connection reset by peer. This is typically",
        "[…/gloo/transport/tcp/pair.cc:446] writev [127.0.0.1]:5029: Broken pipe",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    ],
)
def test_what_libraries_say_when_another_process_has_died_is_said_in_our_words(text):
    words = r"another process of this run has died, .* all processes together"
    with pytest.raises(ProcessDied, match=words) as told, deaths_told():
        raise RuntimeError(text)
    assert "\n" not in str(told.value)
    with pytest.raises(RuntimeError, match="Duplicate GPU"), deaths_told():
        raise RuntimeError("ncclInvalidUsage: Duplicate GPU detected")


RAISED = "Caught RuntimeError in DataLoader worker process 1.\nOriginal Traceback (most recent call last):\n  …\n"


@pytest.mark.trust
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DataLoader worker (pid 9) is killed by signal: Killed. ", "was killed, most often because memory ran out"),
        ("DataLoader worker (pid(s) 7, 9) exited unexpectedly", "was killed, most often because memory ran out"),
        (
            "DataLoader worker (pid 9) is killed by signal: Bus error. It is",
            r"was killed, .* shared memory \(/dev/shm;",
        ),
        (
            f"{RAISED}RuntimeError: unable to allocate shared memory(shm) for file </torch_9_1_0>: "
            "No space left on device (28)",
            r"images ended, because shared memory \(/dev/shm; .* ran out",
        ),
        (f"{RAISED}RuntimeError: unable to write to file </torch_9_1>: No space left on device (28)", "/dev/shm"),
        (
            f"{RAISED}RuntimeError: unable to mmap 9 bytes from file </x>: Too many open files (24)",
            r"ulimit -n.*--resume",
        ),
    ],
)
def test_what_became_of_a_loader_s_worker_is_said_as_it_was(text, words):
    with pytest.raises(ProcessDied, match=words) as told, deaths_told():
        raise RuntimeError(text)
    assert "\n" not in str(told.value) and "go on with --resume" in str(told.value)


@pytest.mark.trust
@pytest.mark.parametrize(
    "reason", ["a bug", "Broken pipe", "[enforce fail] can't allocate memory", "exited unexpectedly"]
)
def test_what_a_loader_s_worker_raised_by_itself_stays_what_it_is(reason):
    with pytest.raises(RuntimeError, match=r"^Caught RuntimeError in DataLoader worker") as told, deaths_told():
        raise RuntimeError(f"{RAISED}RuntimeError: {reason}")
    assert str(told.value).endswith(reason)


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.parametrize("what", ["loss", "network"])
def test_nothing_that_is_not_finite_is_saved_and_the_images_of_its_step_are_named(tmp_path, monkeypatch, what):
    """Between two lines of the log (1, 10, 20) step 4 or 6 goes wrong; there is a checkpoint of step 3, 6 is due."""
    plan = toy_manifest(tmp_path, [1] * 9)
    often = {"pretrain.steps": "200", "pretrain.checkpoint_every": "3", "pretrain.validate_every": "200"}
    plan = load_recipe("quickstart", "smoke", {**QUICK, **often, "data.manifest": plan.data.manifest})
    forward, calls, out = ContrastiveStep.forward, [], tmp_path / "out"

    def breaking(self, batch):
        sums = forward(self, batch)
        calls.append(batch)
        if len(calls) == 4 and what == "loss":
            sums["total"] = sums["total"] * float("nan")
        elif len(calls) == 6 and what == "network":  # finite itself, its gradient is not
            weight = next(self.parameters())
            sums["total"] = sums["total"] + (weight - weight.detach()).abs().sum().sqrt() * 0
        return sums

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=f"the {what} is not finite at step"),
    ):
        patch.setattr(ContrastiveStep, "forward", breaking)
        pretrain(plan, out, device="cpu")
    state = torch.load(out / "pretrain.state", weights_only=True)
    assert state["step"] == 3 and all(v.isfinite().all() for v in state["model"].values())
    about = json.loads((out / "pretrain.not-finite.json").read_text())
    step = about["step"]
    assert (about["stage"], about["not finite"]) == ("pretrain", what) and step == (4 if what == "loss" else 6)
    rows = ManifestImages(plan, "train", [s for s in read_manifest(plan.data.manifest) if s.split == "train"])
    batch = plan.pretrain.batch
    assert about["images"] == [rows.names(p)[0] for p in range((step - 1) * batch, step * batch)]
    assert all(os.path.isfile(file) for file in about["images"])
    assert "NaN" not in (out / "log.jsonl").read_text()
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="step 7 of"):
        stop_after(patch, out, 4)
        pretrain(plan, out, resume=True, device="cpu")


@pytest.mark.slow
def test_another_number_of_processes_cannot_resume(tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        pretrain(recipe(), tmp_path, device="cpu")
    state = torch.load(tmp_path / "pretrain.state", weights_only=True)
    assert state["processes"] == 1 and "rng" not in state
    torch.save({**state, "processes": 2}, tmp_path / "pretrain.state")
    with pytest.raises(InputError, match="written by 2 processes together, now there are 1"):
        pretrain(recipe(), tmp_path, resume=True, device="cpu")


def test_random_numbers_of_a_micro_batch_hang_on_seed_stage_and_its_number_alone():
    def drawn(*key):
        seed_micro_batch(*key)
        return torch.rand(4).tolist()

    first = drawn(0, "pretrain", 5)
    torch.rand(99)
    assert drawn(0, "pretrain", 5) == first
    assert all(drawn(*key) != first for key in ((1, "pretrain", 5), (0, "finetune", 5), (0, "pretrain", 6)))


@pytest.mark.parametrize(("given", "size", "expected"), [(None, "nano", 1), ("2", "nano", 2), (None, "small", 2)])
def test_nano_trains_with_one_thread_unless_told_otherwise(monkeypatch, given, size, expected):
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), training_threads(size):
            assert torch.get_num_threads() == expected
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2  # what comes after a training has its threads again
    finally:
        torch.set_num_threads(before)


def test_a_training_enters_its_threads(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("mpc_lite.training.loop.training_threads", lambda size: seen.append(size) or nullcontext())
    pretrain(recipe(pretrain__steps="1"), tmp_path, device="cpu")
    assert seen == ["nano"]


@pytest.mark.slow
def test_another_recipe_cannot_resume(tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        pretrain(recipe(), tmp_path, device="cpu")
    with pytest.raises(InputError, match="another recipe"):
        pretrain(recipe(pretrain__learning_rate="0.5"), tmp_path, resume=True, device="cpu")


@pytest.mark.slow
def test_nano_overfits_eight_images():
    torch.manual_seed(0)
    model = MPC.build("nano").train()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 80, (8, 3, 64, 64), dtype=torch.uint8, generator=generator)
    mask = torch.zeros(8, 64, 64, dtype=torch.uint8)
    mask[:, :, :24] = 1
    image[:, :, :, :24] += torch.randint(0, 170, (8, 3, 64, 24), dtype=torch.uint8, generator=generator)
    stage = Pretraining(model, recipe())
    step = stage.network
    optimizer = torch.optim.AdamW(step.parameters(), 2e-3)
    batch = {"image": image, "mask": mask, "turn": torch.zeros(8, dtype=torch.int64)}
    losses = []
    for _ in range(25):
        loss = step(batch)["total"] / stage.count(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def made_up_batch(size, images=8):
    """Noise with masks of one class, of both and, in the last one, of none that is known; every turn occurs."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(images, size, size, dtype=torch.uint8)
    for i in range(1, images):
        mask[i, i : 2 * i + 3, 5 : 20 + i] = 1
    mask[2], mask[-1] = 1, 255
    mask[3, :, 9:14] = 255
    image = torch.randint(0, 255, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    return {"image": image, "mask": mask, "turn": torch.arange(images)}


@pytest.mark.parametrize("size", [64, 66])
@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_stage_one_counts_the_images_that_its_sums_are_over(size, formulation, monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "mpc_loss_per_image", lambda *a, **k: seen.append(mpc_loss_per_image(*a, **k)) or seen[0]
    )
    stage = Pretraining(MPC.build("nano"), recipe(pretrain__formulation=formulation))
    batch = made_up_batch(size)
    sums = stage.network(batch)
    [(losses, counted)] = seen
    assert stage.count(batch) == counted.sum() and 2 < counted.sum() < 7
    assert all(torch.equal(sums[name], values.sum()) for name, values in losses.items())
    assert sums["total"].item() == pytest.approx(sum(v.sum().item() for v in losses.values()), rel=1e-6)


def test_stage_two_may_add_the_loss_of_stage_one():
    """Mean of the focal loss over pixels plus so many times the contrastive mean over images, of the same maps."""
    model = starting_model(recipe(), None)
    both = Finetuning(model, recipe(finetune__encoder="trained", finetune__contrast=0.5))
    focal = Finetuning(model, recipe(finetune__encoder="trained"))
    masks = torch.zeros(3, 64, 64, dtype=torch.uint8)
    masks[:2, 8:40, 16:48] = 1  # the third image is authentic, and has no contrast
    batch = {
        "image": torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8),
        "mask": masks,
        "turn": torch.zeros(3, dtype=torch.int64),
    }
    sums, count = both.network.eval()(batch), both.count(batch)
    alone = focal.network.eval()(batch)
    assert set(alone) == {"total"}
    maps = model.encode(batch["image"].float() / 255)
    losses, counted = mpc_loss_per_image(maps, maps, masks)
    assert counted.tolist() == [True, True, False]
    expected = alone["total"] / count + 0.5 * sum(values.sum() for values in losses.values()) / 3
    torch.testing.assert_close(sums["total"] / count, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sums["focal"], alone["total"])


def test_a_contrast_needs_an_encoder_that_learns_and_leaves_other_recipes_as_they_were():
    with pytest.raises(InputError, match="encoder is 'frozen'; set it to trained"):
        Finetuning(MPC.build("nano"), recipe(finetune__contrast=0.5))
    assert "contrast" not in recipe().as_dict()["finetune"]
    assert '"contrast"' not in identity(recipe()) and '"real"' not in identity(recipe())
    assert '"contrast": 0.5' in identity(recipe(finetune__encoder="trained", finetune__contrast=0.5))
    assert recipe(finetune__encoder="trained", finetune__contrast=0.5).as_dict()["finetune"]["contrast"] == 0.5


def test_stage_two_counts_the_pixels_that_its_sum_is_over():
    stage = Finetuning(MPC.build("nano"), recipe())
    stage.model.eval()
    batch = made_up_batch(66)
    images, masks = dihedral(batch["image"], batch["mask"], batch["turn"])
    target = resize_mask(masks, (17, 17))[:, None]
    mean = focal_loss(stage.model(images.float() / 255), target, stage.settings.alpha, stage.settings.gamma)
    assert stage.count(batch) == (target != 255).sum() < target.numel()
    assert (stage.network(batch)["total"] / stage.count(batch)).item() == pytest.approx(mean.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Pretraining, Finetuning])
def test_a_step_saves_the_images_whose_quality_comes_along(kind):
    stage = kind(MPC.build("nano"), recipe())
    stage.model.eval()
    batch = made_up_batch(64)
    quality = torch.tensor([30, 0] * 4)
    saved = {**batch, "image": jpeg(batch["image"], quality)}
    with torch.no_grad():
        plain, expected, found = (stage.network(b)["total"] for b in (batch, saved, {**batch, "quality": quality}))
    assert found == expected != plain


def test_the_data_know_the_device_that_trains(tmp_path, monkeypatch):
    def datasets(recipe, stage, device):
        raise InputError(f"{stage} on {device}")

    monkeypatch.setattr("mpc_lite.training.loop.datasets", datasets)
    with pytest.raises(InputError, match="pretrain on cpu"):
        pretrain(recipe(), tmp_path, device="cpu")
    if torch.cuda.is_available():
        with pytest.raises(InputError, match="pretrain on cuda"):
            pretrain(recipe(), tmp_path, device="cuda")


@pytest.mark.slow
def test_a_run_that_saves_its_images_learns_from_other_ones(tmp_path, finished):
    pretrain(recipe(augment__jpeg="{quality: [30, 40], share: 1.0}"), tmp_path, device="cpu")
    saved, plain = (
        [x["loss"] for x in lines(out) if x["stage"] == "pretrain" and "loss" in x] for out in (tmp_path, finished)
    )
    assert len(saved) == len(plain) and saved != plain


def test_batches_without_anything_that_counts_leave_an_attached_zero():
    batch = made_up_batch(64, 4)
    batch["mask"] = torch.full_like(batch["mask"], 255)
    for stage in (Pretraining(MPC.build("nano"), recipe()), Finetuning(MPC.build("nano"), recipe())):
        total = stage.network(batch)["total"]
        total.backward()
        assert stage.count(batch) == 0 and total.item() == 0
        grads = [p.grad for p in stage.network.parameters() if p.requires_grad]
        assert not any(g.any() for g in grads)


def test_terms_left_out_are_neither_logged_nor_looked_at(tmp_path, monkeypatch):
    passes, forward = [], HRFormer.forward
    monkeypatch.setattr(HRFormer, "forward", lambda self, x: passes.append(self.training) or forward(self, x))
    pretrain(recipe(pretrain__terms=["within_image", "cross_scale"], pretrain__steps="1"), tmp_path, device="cpu")
    first = lines(tmp_path)[0]
    assert "cross_modality" not in first and sum(passes) == 1  # only that term needs the second pass
    assert first["loss"] == pytest.approx(first["within_image"] + first["cross_scale"], abs=2e-6)


@pytest.mark.slow
def test_the_whole_network_is_adapted_to_other_images(finished, tmp_path):
    shutil.copy(finished / "model.safetensors", tmp_path)
    plan = {"steps": 2, "batch": 2, "validate_every": 2, "manifest": []}
    with pytest.raises(InputError, match="no section 'adapt'"):
        adapt(recipe(), tmp_path, device="cpu")
    path = adapt(recipe(adapt=plan), tmp_path, device="cpu")
    assert path == tmp_path / "adapted.safetensors" and read_facts(path)["stage"] == "adapt"
    assert {x["stage"] for x in lines(tmp_path)} == {"adapt"}
    before, after = load_file(finished / "model.safetensors"), load_file(path)
    near = {k: (after[k] - before[k]).abs().max() for k in before if k.endswith("weight")}
    assert all(0 < change < 0.01 for change in near.values())  # from there, and everything moves
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="run 'mpc-lite finetune'"):
        adapt(recipe(adapt=plan), tmp_path / "elsewhere", device="cpu")


@pytest.mark.slow
def test_validation_scores_maps_at_the_masks_own_size(finished):
    """Stage 2 brings the map to the mask, stage 1 the mask to the map; images of a batch may differ in size."""
    model = MPC.from_pretrained(finished / "model.safetensors")
    image = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    masks = [torch.zeros(40, 90, dtype=torch.uint8), torch.zeros(128, 30, dtype=torch.uint8)]
    masks[0][5:30, 10:60], masks[1][60:, :] = 1, 1
    batches = [{"image": image, "mask": masks}]
    with torch.no_grad():
        maps = model(image.float() / 255).sigmoid()
        big = [
            torch.nn.functional.interpolate(m[None], size=t.shape, mode="bilinear")[0, 0]
            for m, t in zip(maps, masks, strict=True)
        ]
    expected = np.mean(
        [f1_score(t.flatten(), (m > 0.5).flatten(), zero_division=0) for m, t in zip(big, masks, strict=True)]
    )
    assert Finetuning(model, recipe()).validate(model, batches)["f1"] == pytest.approx(expected, abs=2e-3)
    same = [{"image": image, "mask": [resize_mask(t[None], (16, 16))[0] for t in masks]}]
    stage = Pretraining(model, recipe())
    assert stage.validate(model, batches) == stage.validate(model, same)


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


@pytest.mark.parametrize("choose", [choose_device, lambda device: choose_accelerator(device, "fp32")])
def test_devices_are_checked(choose):
    with pytest.raises(InputError, match="unknown"):
        choose("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA"):
            choose("cuda")


def test_the_accelerator_that_torch_sees_is_taken_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert [choose_device(device).type for device in (None, "auto", "cpu")] == ["meta", "meta", "cpu"]


@pytest.mark.parametrize("device", [None, "auto", "cpu"])
def test_scoring_and_training_take_the_same_device(device):
    assert choose_device(device).type == choose_accelerator(device, "fp32").device.type


def test_the_second_training_of_a_process_may_be_on_another_device(monkeypatch):
    """accelerate keeps the first device of a process unless it is told to forget it."""
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert choose_accelerator(None, "fp32").device.type == "meta"
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    assert choose_accelerator("cpu", "fp32").device.type == "cpu"


@pytest.mark.slow
def test_tensorboard_is_written_when_the_recipe_asks(tmp_path):
    pretrain(recipe(tracker="tensorboard", pretrain__steps="1"), tmp_path, device="cpu")
    assert list(tmp_path.rglob("events.out.tfevents*"))


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.parametrize("first", [0, 5])
def test_a_tracker_whose_disk_is_full_ends_no_training(tmp_path, monkeypatch, first):
    """Its thread would print a traceback, and the training end in a line that names no file."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    write, calls, ended = RecordWriter.write, [], []

    def full(self, data):
        calls.append(data)
        if len(calls) > first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    monkeypatch.setattr(RecordWriter, "write", full)
    monkeypatch.setattr(threading, "excepthook", ended.append)
    with pytest.warns(UserWarning, match=rf"curves in {tmp_path / 'pretrain'} end here: No space .*log\.jsonl goes on"):
        pretrain(recipe(tracker="tensorboard"), tmp_path, device="cpu")
    assert [x["step"] for x in lines(tmp_path) if "loss" in x] == [1, 2, 3, 4] and len(calls) == first + 1
    assert ended == [] and threading.excepthook == ended.append


@pytest.mark.slow
def test_finetune_needs_fitting_weights(tmp_path, finished):
    with pytest.raises(InputError, match="pretrain"):
        finetune(recipe(), tmp_path)
    with pytest.raises(InputError, match="holds nano/4conv, the recipe asks for nano/5conv"):
        finetune(recipe(model__head="5conv"), tmp_path, weights=finished / "model.safetensors")
    with pytest.raises(InputError, match="asks for small/4conv"):
        finetune(recipe(model__size="small"), tmp_path, weights=finished / "stage1.safetensors")


def test_an_encoder_fits_any_head_and_the_head_is_new_from_the_seed(finished):
    file = finished / "stage1.safetensors"
    stored = load_file(file)
    for head in ("4conv", "5conv"):
        model = starting_model(recipe(model__head=head, seed="3"), file)
        torch.manual_seed(3)
        new = MPC.build("nano", head)
        assert model.head == head and all(
            torch.equal(stored[f"encoder.{k}"], v) for k, v in model.encoder.state_dict().items()
        )
        assert all(torch.equal(new.decoder.state_dict()[k], v) for k, v in model.decoder.state_dict().items())
    whole = starting_model(recipe(seed="3"), finished / "model.safetensors").state_dict()
    assert all(torch.equal(v, whole[k]) for k, v in load_file(finished / "model.safetensors").items())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        pretrain(recipe(), tmp_path / "file" / "run", device="cpu")
    with pytest.raises(InputError, match=r"cannot be written: .*null"):
        pretrain(recipe(), tmp_path / "a\0b", device="cpu")


def toy_manifest(folder, labels):
    rows = ["image,mask,label,source,split"]
    for i, label in enumerate(labels):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        if label:
            Image.fromarray(np.pad(np.full((64, 20), 255, np.uint8), ((0, 0), (0, 44)))).save(folder / f"{i}_m.png")
        rows.append(f"{i}.png,{f'{i}_m.png' if label else ''},{label},toy,{'validation' if i < 3 else 'train'}")
    (folder / "m.csv").write_text("\n".join(rows))
    return recipe(data__manifest=str(folder / "m.csv"), pretrain__batch="2", pretrain__checkpoint_every="50")


def test_validation_without_a_tampered_image_is_refused_before_training(tmp_path):
    plan = toy_manifest(tmp_path, [0, 0, 0, 1, 1, 1])
    with pytest.raises(InputError, match="none of the 3 validation images is tampered"):
        pretrain(plan, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "pretrain.done").exists()


def test_regions_that_vanish_at_the_maps_stride_are_told_and_no_stage_is_called_finished(tmp_path):
    plan = toy_manifest(tmp_path, [1, 1, 1, 1, 1, 1])
    for i in range(3):  # the validation rows: one tampered pixel each
        dot = np.zeros((64, 64), np.uint8)
        dot[8, 8] = 255
        Image.fromarray(dot).save(tmp_path / f"{i}_m.png")
    with pytest.raises(InputError, match="stride of 4"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about the mean of nothing
        pretrain(plan, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out" / "pretrain.done").exists()


@pytest.mark.slow
def test_a_bad_row_in_mid_training_keeps_what_was_learnt(tmp_path):
    plan = toy_manifest(tmp_path, [1, 1, 1, 1, 1, 1])
    order = np.random.default_rng([0, 0]).permutation(3)
    last = tmp_path / f"{3 + order[2]}.png"  # read in the second step
    good = last.read_bytes()
    last.write_bytes(good[:200])
    with pytest.raises(
        InputError, match=r"of m\.csv.*with the file replaced, --resume goes on; a list without its row"
    ):
        pretrain(plan, tmp_path / "out", device="cpu")
    assert torch.load(tmp_path / "out" / "pretrain.state", weights_only=True)["step"] == 1
    last.write_bytes(good)
    pretrain(plan, tmp_path / "out", resume=True, device="cpu")
    assert [x["step"] for x in lines(tmp_path / "out") if "loss" in x] == [1, 2, 3, 4]


def test_a_finished_stage_does_not_pretend_to_follow_new_parameters(finished, tmp_path):
    for name in ("pretrain.done", "stage1.safetensors"):
        shutil.copy(finished / name, tmp_path)
    assert pretrain(recipe(), tmp_path, resume=True).exists()
    with pytest.raises(InputError, match="other parameters"):
        pretrain(recipe(pretrain__steps="9"), tmp_path, resume=True)


@pytest.mark.trust
def test_weights_of_another_run_do_not_pass_for_this_ones(finished, tmp_path):
    """Stage 1 of seed 6 in the folder of seed 5."""
    five, six = recipe(seed="5"), recipe(seed="6", pretrain__steps="9", data__workers="1", evaluate__size="64")
    (tmp_path / "pretrain.done").write_text(identity(five))
    model = MPC.from_pretrained(finished / "stage1.safetensors")
    save_weights(tmp_path / "stage1.safetensors", model, six.as_dict(), stage="pretrain")
    for run in (lambda: pretrain(five, tmp_path, resume=True), lambda: finetune(five, tmp_path)):
        with pytest.raises(
            InputError, match=r"of another run than pretrain\.done .*\(.*seed 6, not 5.*\); put b"
        ) as error:
            run()
        assert "pretrain.steps 9, not 4" in str(error.value) and "\n" not in str(error.value)
        assert "workers" not in str(error.value) and "evaluate" not in str(error.value)
    save_weights(tmp_path / "stage1.safetensors", model, five.as_dict(), stage="pretrain")
    assert pretrain(five, tmp_path, resume=True) == Finetuning.start(six, tmp_path)


@pytest.mark.trust
def test_weights_of_another_stage_do_not_pass_for_this_ones(finished, tmp_path):
    """The two files of one run, exchanged."""
    for name in ("pretrain.done", "finetune.done"):
        shutil.copy(finished / name, tmp_path)
    shutil.copy(finished / "stage1.safetensors", tmp_path / "model.safetensors")
    shutil.copy(finished / "model.safetensors", tmp_path / "stage1.safetensors")
    with pytest.raises(InputError, match=r"another run than finetune\.done .*\(stage pretrain, not finetune\)"):
        finetune(recipe(), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"another run than pretrain\.done .*\(stage finetune, not pretrain\)"):
        pretrain(recipe(), tmp_path, resume=True)
    for name in ("finetune.done", "model.safetensors"):
        (tmp_path / name).unlink()
    for note in (None, '{"recipe": 5}', '{"recipe": {}}'):
        (tmp_path / "pretrain.done").write_text(note or (finished / "pretrain.done").read_text())
        with pytest.raises(InputError, match=r"pretrain\.done"):
            finetune(recipe(), tmp_path)


@pytest.mark.trust
def test_other_weights_to_start_from_are_no_resumption(finished, tmp_path):
    own, stage1 = shutil.copy(finished / "stage1.safetensors", tmp_path), finished / "stage1.safetensors"
    for file in ("model.safetensors", "finetune.done"):
        shutil.copy(finished / file, tmp_path)
    assert finetune(recipe(), tmp_path, resume=True, weights=stage1) == tmp_path / "model.safetensors"
    with pytest.raises(
        InputError, match=r"finetune\.done says that this stage began with other weights, not with lite;"
    ):
        finetune(recipe(), tmp_path, resume=True, weights="lite")
    note = json.loads((tmp_path / "finetune.done").read_text())
    assert (note.pop("stage"), len(note.pop("start")), note.pop("given")) == ("finetune", 64, False)
    assert len(note.pop("sha256")) == 64
    assert note.pop("best") == read_facts(finished / "model.safetensors")["validation"]["score"]
    (tmp_path / "finetune.done").write_text(json.dumps(note, sort_keys=True))  # of an older version
    assert note == json.loads(identity(recipe())) and finetune(recipe(), tmp_path, resume=True, weights="lite")

    out = tmp_path / "stopped"
    out.mkdir()
    (out / "stop").touch()
    with pytest.raises(Interrupted):
        finetune(recipe(), out, weights=own, device="cpu")
    with pytest.raises(
        InputError, match=r"finetune\.state says that this stage began with other weights, not with lite2"
    ):
        finetune(recipe(), out, resume=True, weights="lite2", device="cpu")
    ours = load_file(finetune(recipe(), out, resume=True, device="cpu"))  # what it began with counts, named or not
    theirs = load_file(finished / "model.safetensors")
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    told, untold = (json.loads((folder / "finetune.done").read_text()) for folder in (out, finished))
    assert told.pop("sha256") != untold.pop("sha256") and told == {**untold, "given": True}
    with pytest.raises(InputError, match="began with random numbers, not with lite-initial"):
        pretrain(recipe(), finished, resume=True, weights="lite-initial")


@pytest.mark.trust
def test_a_stage_that_has_not_ended_is_none_to_go_on_from(finished, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted, match="step 1 of 4"):
        pretrain(recipe(), tmp_path, device="cpu")
    own = shutil.copy(finished / "stage1.safetensors", tmp_path)
    wanted = r"stage1\.safetensors is .*'pretrain' .* \(step 1 of 4\), which has not ended; go on with .*--weights"
    with pytest.raises(InputError, match=wanted):
        finetune(recipe(), tmp_path, device="cpu")
    assert not (tmp_path / "finetune.done").exists()
    shutil.copy(finished / "model.safetensors", tmp_path)
    (tmp_path / "finetune.state").write_bytes(b"damaged")
    with pytest.raises(InputError, match="'finetune' has learnt so far, which has not ended"):
        Adaptation.start(recipe(), tmp_path)
    (tmp_path / "finetune.state").unlink()
    assert Adaptation.start(recipe(), tmp_path).name == "model.safetensors"
    (tmp_path / "model.safetensors").unlink()
    assert finetune(recipe(), tmp_path, weights=own, device="cpu")  # who names the file means it


@pytest.mark.trust
def test_a_finished_stage_is_not_finished_once_what_it_starts_from_was_replaced(finished, tmp_path):
    for file in ("stage1.safetensors", "model.safetensors", "finetune.done"):
        shutil.copy(finished / file, tmp_path)
    assert finetune(recipe(), tmp_path, resume=True) == tmp_path / "model.safetensors"
    shutil.copy(PRETRAINED / "lite-stage1.safetensors", tmp_path / "stage1.safetensors")
    with pytest.raises(InputError, match=r"finetune\.done .* began with other weights than those it starts from now"):
        finetune(recipe(), tmp_path, resume=True)
    (tmp_path / "stage1.safetensors").unlink()  # who has the result may clear away what led to it
    assert finetune(recipe(), tmp_path, resume=True) == tmp_path / "model.safetensors"
    (tmp_path / "finetune.done").write_text((finished / "finetune.done").read_text().replace("false", '"no"', 1))
    with pytest.raises(InputError, match="damaged"):
        finetune(recipe(), tmp_path, resume=True)


@pytest.mark.trust
def test_no_stage_writes_over_weights_that_are_not_its_own(finished, tmp_path):
    """A neighbour's stage writes model.safetensors too, and neither state nor note of it says that it began here."""
    for file in ("model.safetensors", "finetune.done"):
        shutil.copy(finished / file, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    plan = load_recipe("mscc", "smoke")
    with pytest.raises(InputError, match=r"of another run or stage \(stage finetune, not mscc.*mscc would write over"):
        train(ClassCenterTraining, plan, tmp_path, True, None, "cpu")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    for at_hand in (finished / "model.safetensors", PRETRAINED / "lite-stage1.safetensors", None):
        target = tmp_path / "stage1.safetensors"
        target.write_bytes(at_hand.read_bytes() if at_hand else b"by hand")
        with pytest.raises(InputError, match=r"stage1\.safetensors is (of another run or stage|damaged)"):
            pretrain(recipe(), tmp_path, resume=True, device="cpu")
        assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.trust
def test_weights_of_another_stage_are_not_written_over_from_a_checkpoint_either(finished, tmp_path):
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        finetune(recipe(), tmp_path, weights=finished / "stage1.safetensors", device="cpu")
    before = shutil.copy(finished / "stage1.safetensors", tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"another run or stage \(stage pretrain, not finetune\)"):
        finetune(recipe(), tmp_path, resume=True, device="cpu")
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.trust
def test_a_run_killed_between_its_first_weights_and_its_first_checkpoint_goes_on(finished, tmp_path):
    shutil.copy(finished / "stage1.safetensors", tmp_path)
    shutil.copy(finished / "stage1.safetensors", tmp_path / "model.safetensors")
    check_own(tmp_path / "stage1.safetensors", recipe(), tmp_path / "pretrain.state")
    with pytest.raises(InputError, match="seed 0, not 5"):
        check_own(tmp_path / "stage1.safetensors", recipe(seed="5"), tmp_path / "pretrain.state")
    facts = read_facts(finished / "stage1.safetensors")
    model = MPC.from_pretrained(finished / "stage1.safetensors")
    for said in ({"recipe": {}, "stage": "pretrain"}, {"recipe": facts["recipe"]}):  # too little to be known by
        save_weights(tmp_path / "stage1.safetensors", model, **said)
        with pytest.raises(InputError, match="another run or stage"):
            check_own(tmp_path / "stage1.safetensors", recipe(), tmp_path / "pretrain.state")
    (tmp_path / "pretrain.state").touch()
    check_own(tmp_path / "stage1.safetensors", recipe(), tmp_path / "pretrain.state")  # of an older version
    (tmp_path / "pretrain.state").unlink()
    shutil.copy(finished / "stage1.safetensors", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    ours = load_file(pretrain(recipe(), tmp_path, resume=True, device="cpu"))
    theirs = load_file(finished / "stage1.safetensors")
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.trust
def test_a_stage_whose_own_start_was_replaced_does_not_resume(finished, tmp_path):
    start = shutil.copy(finished / "stage1.safetensors", tmp_path)
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        finetune(recipe(), tmp_path, device="cpu")
    shutil.copy(PRETRAINED / "lite-stage1.safetensors", start)
    with pytest.raises(InputError, match=r"finetune\.state says that .* other weights than those it starts from now"):
        finetune(recipe(), tmp_path, resume=True, device="cpu")
    os.remove(start)  # whoever has moved it need not bring it back
    assert own_start(Finetuning, recipe(), tmp_path) is None
    finetune(recipe(), tmp_path, resume=True, device="cpu")
    assert (tmp_path / "finetune.done").read_bytes() == (finished / "finetune.done").read_bytes()


def test_a_start_that_was_named_is_not_compared_with_the_stages_own(finished, tmp_path):
    shutil.copy(PRETRAINED / "lite-stage1.safetensors", tmp_path / "stage1.safetensors")
    (tmp_path / "stop").touch()
    with pytest.raises(Interrupted):
        finetune(recipe(), tmp_path, weights=finished / "stage1.safetensors", device="cpu")
    assert finetune(recipe(), tmp_path, resume=True, device="cpu").exists()


def test_a_changed_list_of_images_cannot_resume(tmp_path):
    plan = toy_manifest(tmp_path, [1, 1, 1, 1, 1, 1])
    before = identity(plan)
    with open(tmp_path / "m.csv", "a") as file:
        file.write("\n0.png,0_m.png,1,toy,train")
    assert identity(plan) != before


@pytest.mark.slow
def test_pretraining_starts_from_the_recipes_weights_unless_others_are_given(tmp_path, finished, monkeypatch):
    monkeypatch.setenv("MPC_LITE_WEIGHTS", str(finished))
    plan = recipe(
        pretrain__weights="$MPC_LITE_WEIGHTS/stage1.safetensors", pretrain__steps="1", pretrain__learning_rate="1e-12"
    )
    near = {"recipe": None, "given": "lite-stage1"}
    starts = {
        "recipe": load_file(finished / "stage1.safetensors"),
        "given": MPC.from_pretrained("lite-stage1").state_dict(),
    }
    for name, weights in near.items():
        after = load_file(pretrain(plan, tmp_path / name, weights=weights, device="cpu"))
        key = "encoder.conv1.weight"
        assert torch.allclose(after[key], starts[name][key], atol=1e-6)
    monkeypatch.delenv("MPC_LITE_WEIGHTS")
    with pytest.raises(InputError, match="MPC_LITE_WEIGHTS"):
        pretrain(plan, tmp_path / "unset", device="cpu")


def scripted(monkeypatch, scores):
    """Validation that returns the given scores, one after another."""
    left = iter(scores)
    monkeypatch.setattr(Pretraining, "validate", lambda self, model, batches, gather: {"score": next(left)})


def test_the_best_weights_are_kept_not_the_last_and_of_equal_ones_the_later(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.7, 0.7, 0.1])
    path = pretrain(recipe(pretrain__validate_every="1"), tmp_path, device="cpu")
    assert read_facts(path)["step"] == 3 and read_facts(path)["validation"] == {"score": 0.7}


def scored(file, step, score):
    """The same weights, as if they had been the best at that step."""
    facts = {**read_facts(file), "step": step, "validation": {"score": score}}
    model = MPC.from_pretrained(file)
    save_weights(file, model, facts["recipe"], **{key: facts[key] for key in ("stage", "step", "validation")})


@pytest.mark.trust
def test_a_run_whose_best_weights_are_gone_or_older_does_not_go_on(tmp_path, monkeypatch):
    """make deletes its target when it is stopped; a copy of a folder may end before the weights. Later ones are right:
    their steps are done again."""
    plan, whole = recipe(pretrain__validate_every="1", pretrain__checkpoint_every="1"), tmp_path / "whole"
    out = tmp_path / "stopped"
    out.mkdir()
    scripted(monkeypatch, [0.2, 0.7, 0.9, 0.1])
    pretrain(plan, whole, device="cpu")
    scripted(monkeypatch, [0.2, 0.7])
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="step 2 of 4"):
        stop_after(patch, out, 2)
        pretrain(plan, out, device="cpu")
    target = out / "stage1.safetensors"
    for score, said in ((0.2, r"older .* 0\.2, not 0\.7\)"), (None, r"is missing, .* \(validation score 0\.7\)")):
        best = target.read_bytes()
        target.unlink() if score is None else scored(target, 1, score)
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        with pytest.raises(InputError, match=rf"{said}; put back .* own file, or delete pretrain\.state, .* anew"):
            pretrain(plan, out, resume=True, device="cpu")
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before
        target.write_bytes(best)
    scored(target, 3, 0.8)
    scripted(monkeypatch, [0.9, 0.1])
    assert pretrain(plan, out, resume=True, device="cpu").read_bytes() == (whole / target.name).read_bytes()
    assert json.loads((out / "pretrain.done").read_text())["best"] == 0.9


@pytest.mark.trust
def test_no_stage_has_ended_whose_best_weights_are_gone(tmp_path, monkeypatch):
    left, target = [0.7, 0.1], tmp_path / "stage1.safetensors"

    def validate(self, model, batches, gather):
        if len(left) == 1:
            target.unlink()
        return {"score": left.pop(0)}

    monkeypatch.setattr(Pretraining, "validate", validate)
    with pytest.raises(InputError, match=r"is missing, the best weights of the stage 'pretrain'"):
        pretrain(recipe(pretrain__validate_every="2", pretrain__checkpoint_every="4"), tmp_path, device="cpu")
    assert not (tmp_path / "pretrain.done").exists() and (tmp_path / "pretrain.state").exists()


@pytest.mark.trust
def test_weights_older_than_the_note_of_the_end_do_not_pass_for_the_best(finished, tmp_path):
    for name in ("stage1.safetensors", "pretrain.done"):
        shutil.copy(finished / name, tmp_path)
    best = read_facts(tmp_path / "stage1.safetensors")["validation"]["score"]
    scored(tmp_path / "stage1.safetensors", 1, best - 0.125)
    for run in (lambda: pretrain(recipe(), tmp_path, resume=True), lambda: finetune(recipe(), tmp_path, device="cpu")):
        with pytest.raises(
            InputError, match=r"stage1\.safetensors is older than pretrain\.done .* delete pretrain\.done"
        ):
            run()
    assert not (tmp_path / "finetune.done").exists()
    scored(tmp_path / "stage1.safetensors", 4, best)
    assert pretrain(recipe(), tmp_path, resume=True) == tmp_path / "stage1.safetensors"


@pytest.mark.slow
def test_the_official_schedule_steps_with_the_validations(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5] * 8)
    plan = {"pretrain__schedule": {"name": "official"}, "pretrain__learning_rate": "1e-3"}
    official = recipe(**plan, pretrain__steps="8", pretrain__validate_every="1")
    pretrain(official, tmp_path, device="cpu")
    rates = [x["learning_rate"] for x in lines(tmp_path) if "learning_rate" in x]
    assert rates[:5] == [1e-3] * 5 and rates[5:] == [5e-4] * 3


def one_step(tmp_path, name, **overrides):
    pretrain(recipe(pretrain__steps="1", **overrides), tmp_path / name, device="cpu")
    return load_file(tmp_path / name / "stage1.safetensors"), lines(tmp_path / name)[0]["loss"]


def test_accumulation_reads_as_many_images_and_makes_one_step(tmp_path):
    """Two micro-batches of 2: the mean of their losses is logged, and batch norm has seen four passes, not two."""
    _, first = one_step(tmp_path, "a", pretrain__batch="2")
    weights, both = one_step(tmp_path, "b", pretrain__batch="2", pretrain__accumulate="2")
    assert weights["encoder.bn1.num_batches_tracked"] == 4
    assert both != first
    assert [x["step"] for x in lines(tmp_path / "b") if "loss" in x] == [1]


@pytest.mark.slow
def test_clipping_shortens_the_step(tmp_path):
    """AdamW forgets the gradient's length in its first step, unless clipping takes it below the epsilon of 1e-8."""
    free, _ = one_step(tmp_path, "a")
    clipped, _ = one_step(tmp_path, "b", pretrain__clip="1e-9")
    start = starting_model(recipe(), None).state_dict()
    moved = [(w["encoder.conv1.weight"] - start["encoder.conv1.weight"]).abs().mean() for w in (free, clipped)]
    assert moved[1] < 0.2 * moved[0]


@pytest.mark.slow
def test_bf16_reaches_the_convolutions(tmp_path, monkeypatch):
    seen, forward = [], ContrastiveStep.forward

    def spy(self, batch):
        last = self.encoder.convs[0].conv  # the first ones serve both passes
        handle = last.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
        result = forward(self, batch)
        handle.remove()
        return result

    monkeypatch.setattr(ContrastiveStep, "forward", spy)
    one_step(tmp_path, "a", pretrain__precision="bf16")
    one_step(tmp_path, "b")
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no folder with an open file in it")
def test_a_run_whose_folder_was_made_anew_writes_nothing_there(tmp_path, monkeypatch):
    out, look = tmp_path / "run", Watch.look_at_losses

    def look_and_replace(watch, step):
        look(watch, step)
        if step > 1 and not (out / "other").exists():
            out.rename(tmp_path / "gone")
            out.mkdir()
            (out / "other").write_text("of another run")

    monkeypatch.setattr(Watch, "look_at_losses", look_and_replace)
    with pytest.raises(InputError, match="run is not the folder any more that this run began in"):
        pretrain(recipe(pretrain__checkpoint_every="1"), out, device="cpu")
    assert [file.name for file in out.iterdir()] == ["other"]
