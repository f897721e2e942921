"""What a run is called, where it goes, and what is refused before a kernel starts. Kernels: test_kernel.py."""

import errno
import json
import os
import shlex
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mpc_lite.cli import main
from mpc_lite.errors import InputError, ProcessDied
from mpc_lite.recipes.load import assignments
from mpc_lite.reproduce import runner as module
from mpc_lite.reproduce.kernel import KernelDied, KernelStopped
from mpc_lite.reproduce.run import Request, prepare
from mpc_lite.reproduce.runner import find_notebook, notebook_parameters, reproduce
from mpc_lite.reproduce.sweep import run_cell, sweep
from mpc_lite.run_folder import LOCK, locked
from tests.fake_clone import write_notebook


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a notebook that is never run: a kernel that starts fails the test."""

    def started(*_):
        raise AssertionError("a kernel was started")

    write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb")
    monkeypatch.setattr(module, "execute", started)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recorded(clone, monkeypatch):
    """The clone again; what would be executed is written down instead."""
    calls = []
    monkeypatch.setattr(module, "execute", lambda notebook, output, values, *_: calls.append(values))
    return calls


# --- names ----------------------------------------------------------------------------------------------------------


def test_run_folder_is_named_after_what_differs():
    def folder(**given):
        return prepare("quickstart", "smoke", **given).out.as_posix()

    assert folder() == "runs/quickstart/smoke/0"
    assert folder(seed=3) == "runs/quickstart/smoke/3"
    changed = folder(parameters={"pretrain.steps": "9"})
    assert changed.startswith("runs/quickstart/smoke/0-") and len(changed.rpartition("-")[2]) == 8
    assert folder(parameters={"pretrain.steps": 9}) == changed  # the value counts, not how it was written
    assert folder(parameters={"pretrain.steps": "4"}) == folder()  # what the profile says anyway
    assert folder(parameters={"pretrain.steps": "8"}) != changed
    assert folder(device="cpu") != folder()
    both = {"pretrain.steps": "9", "finetune.steps": "8"}
    assert folder(parameters=both) == folder(parameters=dict(reversed(both.items())))
    assert prepare("quickstart", "smoke", root="elsewhere").out.as_posix() == "elsewhere/quickstart/smoke/0"


def test_the_command_repeats_the_run(recorded):
    given = {
        "SEED": "4",
        "DEVICE": "cpu",
        "data.scenes": "[dead_leaves]",
        "pretrain.learning_rate": "3e-4",
        "ROWS": "5",
    }
    out = reproduce(Request("quickstart", "smoke", given))
    run = prepare(
        "quickstart",
        "smoke",
        4,
        "cpu",
        parameters={"data.scenes": ["dead_leaves"], "pretrain.learning_rate": 3e-4},
        ROWS=5,
    )
    assert run.out == out
    words = shlex.split(run.command)
    assert words[:5] == ["mpc-lite", "reproduce", "quickstart", "--profile", "smoke"]
    again = reproduce(Request("quickstart", "smoke", assignments(words[6::2]), root="again"))
    assert again.relative_to("again") == out.relative_to("runs")


def test_values_reach_the_notebook_checked_and_typed(recorded):
    reproduce(
        Request("quickstart", "smoke", {"seed": "4", "pretrain.learning_rate": "3e-4", "ROWS": "7", "SHARE": "1"})
    )
    (values,) = recorded
    assert values["PARAMETERS"] == {"pretrain.learning_rate": 3e-4}
    assert (values["PROFILE"], values["SEED"], values["ROWS"], values["SHARE"]) == ("smoke", 4, 7, 1)
    assert values["RESUME"] is False and values["OUT"].startswith("runs/quickstart/smoke/4-")


def test_a_notebooks_float_is_read_like_a_recipes(recorded):
    reproduce(Request("quickstart", "smoke", {"SHARE": "5e-1"}))
    assert recorded[0]["SHARE"] == 0.5


@pytest.mark.slow
def test_a_table_of_the_paper_is_the_recipe_that_gives_its_numbers(recorded, clone):
    write_notebook(clone / "book" / "reproduce" / "protocol1.ipynb")
    assert find_notebook("table2") == find_notebook("protocol1") == clone / "book" / "reproduce" / "protocol1.ipynb"
    out = reproduce(Request("table2", "smoke", {"SEED": "1"}))
    assert out.as_posix() == "runs/protocol1/smoke/1"
    run = prepare("table3", "smoke", 1)
    assert (run.name, run.out, run.command) == ("protocol1", out, prepare("protocol1", "smoke", 1).command)


def test_a_choice_stands_for_all_that_it_sets(recorded, clone):
    write_notebook(clone / "book" / "reproduce" / "table8.ipynb")
    default = prepare("table8", "smoke")
    assert default.parameters == {} and default.out.name == "0"
    assert prepare("table8", "smoke", parameters={"ablation": "full"}).out == default.out  # the default, written out
    small = prepare("table8", "smoke", parameters={"ablation": "small"})
    assert small.parameters == {"ablation": "small"} and small.recipe.model.size == "small"
    assert shlex.split(small.command)[5:] == ["-p", "ablation=small"]
    # What else differs is measured against the choice, not against the recipe's default.
    with_size = {"ablation": "small", "model.size": "small"}
    assert prepare("table8", "smoke", parameters=with_size).out == small.out
    back = prepare("table8", "smoke", parameters={"ablation": "small", "model.size": "nano"})
    assert back.parameters == {"ablation": "small", "model.size": "nano"} and back.out != small.out

    out = reproduce(Request("table8", "smoke", {"ablation": "small", "pretrain.steps": "9"}))
    (values,) = recorded
    assert values["PARAMETERS"] == {"ablation": "small", "pretrain.steps": 9}
    again = prepare("table8", "smoke", 0, "auto", None, values["PARAMETERS"])  # as the notebook does
    assert again.out == out and again.recipe.model.size == "small"


def test_assignments():
    assert assignments(["a.b=1", "c=x=y", "d="]) == {"a.b": "1", "c": "x=y", "d": ""}
    for wrong, said in [(["steps"], "KEY=VALUE"), (["=3"], "KEY=VALUE"), (["a=1", "a=2"], "given twice")]:
        with pytest.raises(InputError, match=said):
            assignments(wrong)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, said",
    [
        ({"pretrain.stps": "3"}, "did you mean 'pretrain.steps'"),
        ({"pretrain.steps": "many"}, 'pretrain.steps: found "many"'),
        ({"SEDE": "3"}, "has no parameter 'SEDE' (did you mean 'SEED'?)"),
        ({"SEED": "three"}, "SEED is of type int"),
        ({"SEED": "1.5"}, "SEED is of type int"),
        ({"SEED": "true"}, "SEED is of type int"),
        ({"SEED": "-1"}, "seed: found -1"),
        ({"ROWS": "a"}, "ROWS is of type int"),
        ({"SHARE": "half"}, "SHARE is of type float"),
        ({"DEVICE": "gpu"}, "expected one of auto, cpu, cuda"),
        ({"OUT": "here"}, "the run folder"),
        ({"RESUME": "true"}, "--resume"),
        ({"PROFILE": "smoke"}, "--profile"),
        ({"PARAMETERS": "{}"}, "-p KEY=VALUE"),
        ({"profile": "paper"}, "--profile"),
        ({"name": "other"}, "the recipe's name"),
        ({"choice.ablation": "small"}, "-p variant=corrected"),
        ({"tables": "[Table 9]"}, "the recipe itself"),
        ({"SEED": "1", "seed": "2"}, "SEED and seed"),
    ],
)
def test_wrong_parameters_are_refused_before_the_kernel(clone, given, said):
    with pytest.raises(InputError) as error:
        reproduce(Request("quickstart", "smoke", given))
    assert said in str(error.value)
    assert not (clone / "runs").exists()


@pytest.mark.parametrize(
    "key", ["data.manifest", "data.validation", "evaluate.manifests", "pretrain.weights", "evaluate.weights"]
)
def test_files_of_a_recipe_are_looked_for_before_there_is_a_run_folder(recorded, clone, monkeypatch, key):
    wanted = "$MPC_LITE_SETS/casia2.csv"
    given = {key: f"[{wanted}]" if key.endswith("manifests") else wanted}
    monkeypatch.delenv("MPC_LITE_SETS", raising=False)
    with pytest.raises(InputError, match=r"variable MPC_LITE_SETS .* is not set"):
        reproduce(Request("quickstart", "smoke", given))
    monkeypatch.setenv("MPC_LITE_SETS", str(clone))
    if not key.endswith("weights"):  # a name such as `lite` is no file
        with pytest.raises(InputError, match=r"casia2.csv: no such manifest; the scripts of data_scripts/"):
            reproduce(Request("quickstart", "smoke", given))
        assert not (clone / "runs").exists() and not recorded
    (clone / "casia2.csv").touch()
    reproduce(Request("quickstart", "smoke", given))
    assert len(recorded) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_name_that_no_notebook_can_hold_is_refused_before_there_is_a_run_folder(clone):
    name = os.fsdecode(b"Foto\xe9")
    for request, what in (
        (Request("quickstart", "smoke", {"data.photos": name}), r"data\.photos is Foto\\udce9,"),
        (Request("quickstart", "smoke", root=clone / name), r"its parameter OUT is .*Foto\\udce9/"),
    ):
        with pytest.raises(InputError, match=what + r".* rename the folder or the file, or give a link"):
            reproduce(request)
    assert sorted(file.name for file in clone.iterdir()) == ["book"]


def test_a_notebook_without_the_common_parameters_is_refused(clone):
    path = write_notebook(clone / "book" / "reproduce" / "quickstart.ipynb", parameters="SEED: int = 0")
    with pytest.raises(InputError, match="lacks PROFILE, DEVICE, OUT, RESUME, PARAMETERS"):
        reproduce(Request("quickstart"))
    assert notebook_parameters(path) == {"SEED": "int"}


def test_an_earlier_run_is_kept_unless_told(recorded, clone):
    out = reproduce(Request("quickstart", "smoke"))
    (out / "model.safetensors").write_text("precious")
    with pytest.raises(InputError, match=r"holds a run already; go on with --resume, or .* --force"):
        reproduce(Request("quickstart", "smoke"))
    with pytest.raises(InputError, match="exclude each other"):
        reproduce(Request("quickstart", "smoke"), resume=True, force=True)
    assert (out / "model.safetensors").read_text() == "precious"
    (out / "stop").touch()  # left by a process that was killed
    reproduce(Request("quickstart", "smoke"), resume=True)
    assert recorded[-1]["RESUME"] is True and (out / "model.safetensors").exists() and not (out / "stop").exists()
    reproduce(Request("quickstart", "smoke"), force=True)
    assert recorded[-1]["RESUME"] is False and not (out / "model.safetensors").exists()


@pytest.mark.trust
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ProcessDied("a process that reads images was killed, most often …; go on"),
            "a process that reads images was killed",
        ),
        (KernelDied("the notebook's kernel died, often …"), "the notebook's kernel died"),
    ],
)
def test_a_cell_of_which_a_process_died_will_be_tried_again_and_one_with_a_mistake_not(
    clone, monkeypatch, error, reason
):
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(log_event=lambda *_: None))
    monkeypatch.setattr(module, "execute", lambda *_: (_ for _ in ()).throw(error))
    request = Request("quickstart", "smoke")
    order = {"request": request, "out": str(prepare("quickstart", "smoke").out), "key": "k", "topic": "t"}
    order |= {"cwd": str(clone), "environment": {}}
    answer = run_cell(order)
    assert (answer["status"], answer["reason"]) == ("died", reason)
    monkeypatch.setattr(module, "execute", lambda *_: (_ for _ in ()).throw(InputError("row 3: no mask")))
    (clone / order["out"] / "notebook.ipynb").touch()
    answer = run_cell(order)
    assert (answer["status"], answer["reason"]) == ("failed", "row 3: no mask")  # without the way on of one run


@pytest.mark.trust
@pytest.mark.parametrize(
    "error",
    [InputError("cannot write m: No space left on device"), OSError(errno.ENOSPC, "No space left on device", "m")],
)
def test_the_way_on_is_told_where_a_first_start_that_failed_left_anything(clone, monkeypatch, capsys, error):
    """As on a full disk, before the first checkpoint: the same command again would be refused."""
    out, left = prepare("quickstart", "smoke").out, []

    def failing(*_):
        for name in left:
            (out / name).mkdir()
        raise error

    monkeypatch.setattr(module, "execute", failing)
    words = ["reproduce", "quickstart", "--profile", "smoke"]
    way = f"; when that is mended, go on with: mpc-lite {shlex.join(words)} --resume\n"
    assert main(words) == 2 and "go on with" not in capsys.readouterr().err
    left.append("test")  # images that the notebook drew
    assert main(words) == 2 and capsys.readouterr().err.endswith(way)
    assert main(words) == 2 and "holds a run already; go on with --resume" in capsys.readouterr().err
    left.clear()
    assert main([*words, "--resume"]) == 2 and capsys.readouterr().err.endswith(way)


@pytest.mark.trust
def test_no_run_is_deleted_for_one_that_cannot_begin(recorded, clone, monkeypatch):
    """--force, with a manifest or weights that are gone, or for a sweep without its scheduler."""
    monkeypatch.chdir(clone)
    for key, name, words in (
        ("data.manifest", "own.csv", "own.csv: no such manifest"),
        ("pretrain.weights", "own.safetensors", r"own.safetensors does not exist"),
    ):
        Path(name).touch()
        request = Request("quickstart", "smoke", {key: name})
        (reproduce(request) / "model.safetensors").write_text("precious")
        Path(name).unlink()
        with pytest.raises(InputError, match=words):
            reproduce(request, force=True)
        with pytest.raises(InputError, match=words):
            sweep(replace(request, over={"SEED": ["0"]}), force=True)
    for seed in "01":
        (reproduce(Request("quickstart", "smoke", {"SEED": seed})) / "model.safetensors").write_text("precious")

    @contextmanager
    def unreachable(*_):
        raise InputError("no scheduler answers")
        yield

    monkeypatch.setattr("mpc_lite.reproduce.sweep.connected", unreachable)
    with pytest.raises(InputError, match="no scheduler answers"):
        sweep(Request("quickstart", "smoke", over={"SEED": ["0", "1"]}), force=True)
    kept = list((clone / "runs").rglob("model.safetensors"))
    assert len(kept) == 4 and all(file.read_text() == "precious" for file in kept)


@pytest.mark.trust
@pytest.mark.parametrize("kept", [None, "pretrain.state", "results.json"])
def test_an_earlier_run_is_deleted_only_for_one_that_got_somewhere(recorded, clone, monkeypatch, kept):
    """--force, and then whatever only the notebook finds: photographs that are gone, no GPU, a damaged list."""
    out = reproduce(Request("quickstart", "smoke"))
    (out / "model.safetensors").write_text("precious")

    def failing(notebook, output, *_):
        assert not (out / "model.safetensors").exists()
        output.write_text("the error")
        if kept:
            (out / kept).touch()
        raise InputError("photos: ph is not a folder")

    monkeypatch.setattr(module, "execute", failing)
    with warnings.catch_warnings(record=True) as told, pytest.raises(InputError, match="ph is not a folder"):
        warnings.simplefilter("always")
        reproduce(Request("quickstart", "smoke"), force=True)
    back = [str(warning.message) for warning in told]
    assert back == (
        [] if kept else [f"the new run left no checkpoint: the earlier one is back in {out}, beside failed.ipynb"]
    )
    assert (out / "model.safetensors").exists() == (kept is None)
    assert (out / "failed.ipynb").exists() == (kept is None)
    for ending in (KernelStopped("stopped"), KernelDied("the kernel died")) if kept is None else ():
        monkeypatch.setattr(module, "execute", lambda *_, ending=ending: (_ for _ in ()).throw(ending))
        # Resumed, the earlier run that is back would pass for the new one.
        back, way = "the earlier one is back", "; start anew with: .* --force$"
        with pytest.warns(UserWarning, match=back), pytest.raises(type(ending), match=way):
            reproduce(Request("quickstart", "smoke"), force=True)
    monkeypatch.setattr(module, "execute", lambda *_: None)
    reproduce(Request("quickstart", "smoke"), force=True)
    assert {file.name for file in out.iterdir()} == {LOCK}


def test_the_process_that_waits_for_a_run_does_not_hold_torch():
    code = "import sys, mpc_lite.reproduce.sweep, mpc_lite.reproduce.runner; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_nothing_to_resume_is_said(clone):
    with pytest.raises(InputError, match="nothing to resume"):
        reproduce(Request("quickstart", "smoke", {"SEED": "7"}), resume=True)


@pytest.mark.trust
def test_a_run_that_goes_on_is_neither_resumed_nor_deleted(clone):
    """Held as by another process: this one is not the kernel of the run that holds it."""
    out = prepare("quickstart", "smoke").out
    with locked(out):
        (out / "model.safetensors").touch()
        for given in ({}, {"resume": True}, {"force": True}):
            with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on "):
                reproduce(Request("quickstart", "smoke"), **given)
        with pytest.raises(InputError, match="in use by"):
            sweep(Request("quickstart", "smoke", over={"SEED": ["0", "1"]}), force=True)
        assert (out / "model.safetensors").exists()


# --- where the notebook is ------------------------------------------------------------------------------------------


def test_the_notebook_is_found_from_any_folder_of_the_clone(clone, monkeypatch, tmp_path_factory):
    expected = clone / "book" / "reproduce" / "quickstart.ipynb"
    (clone / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(clone / "deep" / "er")
    assert find_notebook("quickstart") == expected
    monkeypatch.chdir(tmp_path_factory.mktemp("outside"))
    for book in (clone, clone / "book"):
        assert find_notebook("quickstart", book) == expected


def test_outside_a_clone_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site-packages" / "mpc_lite" / "reproduce.py"))
    with pytest.raises(InputError, match=r"--book PATH/TO/CLONE/book"):
        find_notebook("quickstart")
    with pytest.raises(InputError, match="no such folder"):
        find_notebook("quickstart", tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no folder reproduce/"):
        find_notebook("quickstart", tmp_path)


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells owners otherwise")
def test_a_notebook_that_another_user_put_above_is_passed_over(monkeypatch, tmp_path):
    """A notebook is a program; on a machine of many, anybody may put a book into /tmp."""
    write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "env" / "packages" / "mpc_lite" / "reproduce" / "runner.py"))
    owner = (tmp_path / "book").stat().st_uid
    for user in (owner, 0):
        monkeypatch.setattr(module.os, "geteuid", lambda user=user: user)
        assert find_notebook("quickstart").parent == tmp_path / "book" / "reproduce"
    if os.getuid() == 0:  # what a superuser put there is trusted
        os.chown(tmp_path / "book" / "reproduce", 65534, -1)
    monkeypatch.setattr(module.os, "geteuid", lambda: 65533)
    with pytest.raises(InputError, match=r"no folder book/reproduce here or above that is yours \(.* another user's"):
        find_notebook("quickstart")
    assert find_notebook("quickstart", tmp_path / "book").is_file()


@pytest.mark.slow
def test_recipe_and_notebook_must_both_be_there(clone):
    with pytest.raises(InputError, match=r"no recipe 'quikstart' .did you mean 'quickstart'"):
        reproduce(Request("quikstart"))
    write_notebook(clone / "book" / "reproduce" / "orphan.ipynb")
    with pytest.raises(InputError, match="the notebook is there, but the package has no recipe 'orphan'"):
        reproduce(Request("orphan"))
    (clone / "book" / "reproduce" / "quickstart.ipynb").unlink()
    with pytest.raises(InputError, match=r"quickstart\.ipynb is not; notebooks here are orphan"):
        find_notebook("quickstart", clone)


# --- seconds --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_counts_its_training_before(tmp_path):
    sessions = [("pretrain", 2.0), ("pretrain", 5.0), ("pretrain", 1.0), ("pretrain", 3.0), ("finetune", 0.5)]
    lines = [json.dumps({"stage": s, "step": i, "steps": 9, "seconds": t}) for i, (s, t) in enumerate(sessions)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    assert prepare("quickstart", "smoke", out=tmp_path, resume=True).earlier == 5.0 + 3.0 + 0.5
    assert prepare("quickstart", "smoke", out=tmp_path).earlier == 0
