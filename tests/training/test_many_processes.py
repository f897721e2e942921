"""Two processes on the CPU (gloo) train as one that accumulates: same images, same weights, one voice."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mpc_lite.data.loader import loader
from mpc_lite.data.stream import Forgeries, datasets
from mpc_lite.network.model import load_weights
from mpc_lite.training.finetune import Finetuning, finetune
from mpc_lite.training.loop import seed_micro_batch, starting_model
from mpc_lite.training.pretrain import Pretraining, pretrain
from tests.forked import forking
from tests.training import many_processes
from tests.training.many_processes import STEPS, STILL, note_gradients, recipe, statistics, uneven

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]

SCRIPT = Path(many_processes.__file__)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


# Two processes of one machine on its CPU, by the part of accelerate that starts one process a GPU.
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


def torchrun(*arguments, launcher=TORCHRUN) -> subprocess.CompletedProcess:
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=900)


def environment() -> dict[str, str]:
    here = os.pathsep.join(map(str, (SCRIPT.parents[2], SCRIPT.parents[1])))  # not another clone
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": here}


def lines(out: Path) -> list[dict]:
    return [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]


def parameters(file: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(file).items() if "running_" not in k and v.is_floating_point()}


@pytest.fixture(scope="module")
def one_thread():
    """Sums in the same order as in the processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of what two processes did, and what each of them saw."""
    folder = tmp_path_factory.mktemp("two")
    with forking():
        done = torchrun(SCRIPT, folder)
    assert done.returncode == 0, done.stderr
    return folder, [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(two, tmp_path_factory, one_thread):
    """One process with two micro-batches to a step; its stage 2 starts where that of the two did."""
    folder, seen = tmp_path_factory.mktemp("one"), {}
    plan = recipe(pretrain__accumulate=2, finetune__accumulate=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Forgeries, "__getitem__", uneven(seen))
        pretrain(plan, folder, device="cpu")
        finetune(plan, folder, weights=two[0] / "uneven" / "stage1.safetensors", device="cpu")
    return folder, seen


def test_the_processes_counts_differ_as_the_test_wants_them_to(two):
    counts = [seen["counts"] for seen in two[1]]
    assert counts == [[0, 1, 1], [2, 2, 1]], "choose other positions in many_processes.uneven"


@pytest.mark.parametrize("file", ["stage1.safetensors", "model.safetensors"])
def test_two_processes_end_with_the_weights_of_one_that_accumulates(two, one, file):
    ours, theirs = parameters(two[0] / "uneven" / file), parameters(one[0] / file)
    start = starting_model(recipe(), None).state_dict()
    assert max((ours[k] - theirs[k]).abs().max() for k in theirs) < 1e-5
    assert max((theirs[k] - start[k]).abs().max() for k in theirs) > 1e-3


def test_logged_losses_are_means_over_all_processes(two, one):
    kept = [{k: v for k, v in x.items() if "seconds" not in k} for x in lines(two[0] / "uneven") if "loss" in x]
    expected = [{k: v for k, v in x.items() if "seconds" not in k} for x in lines(one[0]) if "loss" in x]
    assert len(kept) == 2 * STEPS and all(a == pytest.approx(b, abs=2e-5) for a, b in zip(kept, expected, strict=True))


def test_the_images_are_shared_out_of_one_stream(two, one):
    first, second = (seen["positions of stage 1"] for seen in two[1])
    pairs = [ranks[i : i + 2] for i in range(0, 2 * STEPS, 2) for ranks in (first, second)]
    stream = [p for pair in pairs for p in pair]
    assert stream == list(range(4 * STEPS)) == one[1]["positions"][: 4 * STEPS]


def test_batch_norm_sees_a_micro_batch_and_its_statistics_are_averaged(two, one_thread):
    """A run of two steps whose weights stand still, so that each process's statistics can be had by looking alone."""
    [(before, after)], [(other, other_after)] = (seen["statistics"] for seen in two[1])
    assert all(torch.equal(after[k], other_after[k]) for k in after)
    assert all(torch.allclose(after[k], (before[k] + other[k]) / 2, rtol=1e-6, atol=1e-9) for k in after)
    assert not torch.allclose(before["encoder.bn1.running_mean"], other["encoder.bn1.running_mean"], rtol=1e-2)
    saved = torch.load(two[0] / "stopped" / "pretrain.state")["model"]
    assert all(torch.equal(saved[k], after[k]) for k in after)
    for rank, found in enumerate((before, other)):
        stage = Pretraining(starting_model(STILL, None), STILL)
        stage.prepare_epoch()
        for micro_batch in (rank, 2 + rank):
            seed_micro_batch(STILL.seed, "pretrain", micro_batch)
            positions = [2 * micro_batch, 2 * micro_batch + 1]
            stage.network(next(iter(loader(datasets(STILL)[0], [positions], 0))))
        alone = statistics(stage.model)
        assert all(torch.allclose(found[k], alone[k], rtol=1e-4, atol=1e-6) for k in alone)


def test_validation_is_shared_out_and_gathered(two):
    plan = recipe()
    _, held, n = datasets(plan)
    batches = list(loader(held, [list(range(n))], 0))
    for kind, name in ((Pretraining, "stage1"), (Finetuning, "model")):
        model = load_weights(two[0] / "uneven" / f"{name}.safetensors")
        scores = kind(model, plan).validate(model, batches)
        [logged] = [x["validation"] for x in lines(two[0] / "uneven") if "validation" in x and x["stage"] == kind.name]
        assert logged == pytest.approx(scores, abs=1e-5)


def test_one_process_that_is_asked_to_stop_stops_both(two):
    assert {seen["stopped"] for seen in two[1]} == {
        f"Interrupted: pretrain stopped after step 2 of {STEPS}; the checkpoint is written"
    }
    assert torch.load(two[0] / "stopped" / "pretrain.state")["step"] == 2


def test_a_bad_row_in_one_process_is_told_by_both_and_nothing_is_lost(two):
    (told,) = {seen["bad"] for seen in two[1]}
    assert told.startswith("InputError: row 7 is bad. ") and "--resume goes on" in told
    assert torch.load(two[0] / "bad" / "finetune.state")["step"] == 1


def test_accumulation_within_processes_gives_the_gradients_of_one(two, one_thread, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(torch.optim.AdamW, "step", torch.optim.AdamW.step)
    note_gradients(seen)
    finetune(recipe(finetune__accumulate=4, finetune__steps=1), tmp_path, weights="lite-stage1", device="cpu")
    ours, theirs = (torch.cat([g.flatten() for g in x["gradients"]]) for x in (two[1][0], seen))
    assert torch.equal(ours, torch.cat([g.flatten() for g in two[1][1]["gradients"]]))
    assert (ours - theirs).norm() < 1e-5 * theirs.norm() and theirs.norm() > 0.01


def test_kill_nine_of_one_process_and_resume_gives_the_weights_of_an_unbroken_run(two, tmp_path):
    """The killed one dies in its third step. Both are started again as a user would do it; only one of them prints."""
    killed = torchrun(SCRIPT, tmp_path, "kill")
    assert killed.returncode != 0 and str(-signal.SIGKILL) in killed.stderr
    assert torch.load(tmp_path / "pretrain.state")["step"] == 2
    resume_and_compare(tmp_path, two[0] / "unbroken", many_processes.SMALL)


@pytest.mark.trust
@pytest.mark.parametrize("dead", [0, 1])
def test_who_is_left_says_in_one_line_that_another_process_died_and_ends(tmp_path, dead):
    """Started one by one, as by srun: no launcher ends the other, and either may be the one that is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in (0, 1):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        words = [sys.executable, SCRIPT, tmp_path, "die", dead]
        env = environment() | {name: str(value) for name, value in numbers.items()}
        started.append(subprocess.Popen(list(map(str, words)), env=env, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[1].strip().splitlines() for process in started]
    assert [process.returncode for process in started] == [-signal.SIGKILL if rank == dead else 2 for rank in (0, 1)]
    begins = "error in process 1: " if dead == 0 else "error: "
    assert said[1 - dead][-1].startswith(f"{begins}another process of this run has died")
    assert [line for line in said[1 - dead] if "Traceback" in line or "GLHF" in line] == []
    assert torch.load(tmp_path / "pretrain.state")["step"] == 2


@pytest.mark.trust
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate launch"])
def test_sigterm_to_the_launcher_writes_a_checkpoint_and_the_run_resumes(two, tmp_path, launcher):
    """The launcher hands SIGTERM on and waits: the step at hand is finished and saved, though no checkpoint was due."""
    done = torchrun(SCRIPT, tmp_path, "end", launcher=launcher)
    assert done.returncode != 0
    said = f"Interrupted: pretrain stopped after step 2 of {STEPS}; the checkpoint is written"
    assert [line for line in done.stdout.splitlines() if "Interrupted" in line] == [said, said], done.stderr
    assert torch.load(tmp_path / "pretrain.state")["step"] == 2
    resume_and_compare(tmp_path, two[0] / "unbroken", {**many_processes.SMALL, "pretrain.checkpoint_every": 100})


def resume_and_compare(out: Path, unbroken: Path, values: dict) -> None:
    """Start the command line again, as a user would, and find the weights of the run that nothing stopped."""
    options = [x for key, value in values.items() for x in ("-p", f"{key}={value}")]
    command = ["pretrain", "--recipe", "quickstart", "--profile", "smoke", "--out", out, "--resume", *options]
    done = torchrun("-m", "mpc_lite.cli", *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / "stage1.safetensors")]
    assert done.stderr.count("loading torch") == 1
    ours, theirs = (load_file(f / "stage1.safetensors") for f in (out, unbroken))
    # A checkpoint averages the statistics over the processes, which are linear: at another moment they round otherwise.
    rounded = values["pretrain.checkpoint_every"] != many_processes.SMALL["pretrain.checkpoint_every"]
    different = [k for k in theirs if not torch.equal(ours[k], theirs[k])]
    assert [k for k in different if not (rounded and k.endswith(("running_mean", "running_var")))] == []
    for k in different:
        torch.testing.assert_close(ours[k], theirs[k], rtol=1e-5, atol=1e-6)
    assert [x["step"] for x in lines(out) if "loss" in x] == [1, 2, 3]
