"""The command line as its users meet it: what commands write, what they say, and the exit codes scripts rely on."""

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.cli import main, with_home
from mpc_lite.cli.options import loading
from mpc_lite.data.manifest import read_manifest, write_manifest
from mpc_lite.training.signals import ending
from tests.fake_clone import write_notebook

COMMANDS = ["reproduce", "synth", "pretrain", "finetune", "adapt", "neighbour", "evaluate"]
COMMANDS += ["score", "robustness", "predict", "check", "convert", "calibrate", "export", "info", "doctor"]
TINY = ["-p", "pretrain.steps=2", "-p", "finetune.steps=2", "-p", "data.size=32", "-p", "data.validation_images=4"]


@pytest.fixture(scope="module")
def forgeries(tmp_path_factory):
    """(manifest, how many images) made by `mpc-lite synth`."""
    out = tmp_path_factory.mktemp("forgeries")
    assert main(["synth", "--out", str(out), "--n", "6", "--seed", "1", "--size", "64"]) == 0
    return out / "manifest.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny run of both stages, by the commands themselves."""
    out = tmp_path_factory.mktemp("run")
    words = ["--recipe", "quickstart", "--profile", "smoke", "--out", str(out), "--device", "cpu", *TINY]
    assert main(["pretrain", *words]) == 0
    assert main(["finetune", *words]) == 0
    return out


# --- help, mistakes, exit codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown and f"mpc-lite {command} " in shown.split("Examples")[1]


@pytest.mark.parametrize("number", ["", "0", "1", "abc"])
def test_a_number_of_a_process_left_in_the_environment_silences_nothing(number, capsys, monkeypatch, tmp_path, trained):
    monkeypatch.setenv("RANK", number)
    assert main(["check", "gone.csv"]) == 2
    assert "error: gone.csv: cannot be read, no such file" in capsys.readouterr().err
    shutil.copytree(trained, tmp_path / "run")
    words = ["--recipe", "quickstart", "--profile", "smoke", "--out", str(tmp_path / "run"), "--device", "cpu", *TINY]
    assert main(["finetune", *words, "--resume"]) == 0
    assert capsys.readouterr().out.endswith("model.safetensors\n")


def test_what_one_process_alone_cannot_read_is_told_by_it(capsys, monkeypatch, tmp_path):
    """The others wait for it, and do not know why it ended."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["pretrain", "--recipe", "only-there.yaml", "--out", str(tmp_path)]) == 2
    assert "error in process 1: recipe" in capsys.readouterr().err


def test_help_lists_every_command_and_is_fast(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {command} " in shown for command in COMMANDS)
    assert "130 interrupted (143 by SIGTERM, 129 by SIGHUP)" in " ".join(shown.split())
    names = ("torch", "matplotlib", "cv2", "papermill", "dask")
    heavy = f"import sys, mpc_lite.cli; print([m for m in {names} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="file names are UTF-8 in Python on Windows")
def test_garbage_is_collected_again_once_the_modules_are_loaded():
    with pytest.raises(ImportError), loading():
        assert not gc.isenabled()
        import_module("mpc_lite.no_such_module")
    assert gc.isenabled() and gc.get_freeze_count()
    frozen = gc.get_freeze_count()
    made_later = [[] for _ in range(1000)]
    with loading():
        assert len(made_later) == 1000
    assert gc.get_freeze_count() == frozen  # what a process made itself is searched


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_while_modules_load_ends_the_process_and_breaks_no_import():
    """An exception out of the middle of torch's import has ended in an abort."""
    with ending() as asked:
        before = signal.getsignal(signal.SIGTERM)
        with loading():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) not in (signal.SIG_DFL, signal.default_int_handler)
        assert signal.getsignal(signal.SIGTERM) is before
        assert asked == []
    ignored = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with ending(), loading():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, ignored)


def test_where_file_names_are_not_utf_8_it_is_said():
    plain = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment, said in ((plain, True), ({**plain, "PYTHONUTF8": "1"}, False)):
        words = [sys.executable, "-m", "mpc_lite.cli", "check", "no.csv"]
        text = subprocess.run(words, env=environment, capture_output=True, text=True).stderr
        assert ("set PYTHONUTF8=1" in text) == said and "no.csv" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, said",
    [
        (["frobnicate"], "No such command"),
        (["reproduce"], "Missing argument"),
        (["reproduce", "quikstart"], "did you mean 'quickstart'"),
        (["reproduce", "quickstart", "-p", "pretrain.stps=3"], "did you mean 'pretrain.steps'"),
        (["reproduce", "quickstart", "-p", "SEED=three"], "SEED is of type int"),
        (["reproduce", "quickstart", "-p", "SEED"], "expected KEY=VALUE"),
        (["reproduce", "quickstart", "--sweep", "SEED"], "expected KEY=VALUE,VALUE"),
        (["reproduce", "quickstart", "--sweep", "SEED=0,three"], "SEED is of type int"),
        (["reproduce", "quickstart", "--sweep", "pretrain.stps=3"], "did you mean 'pretrain.steps'"),
        (["reproduce", "quickstart", "--collect", "--force"], "--collect runs nothing"),
        (["reproduce", "quickstart", "--collect"], "nothing to collect"),
        (["info", "quickstart", "--profile", "tiny"], "no profile 'tiny'"),
        (["synth", "--out", "x", "--n", "0"], "--n"),
        (["synth", "--out", "x", "--n", "1", "--split", "middle"], "middle"),
        (["pretrain", "--recipe", "quickstart", "--out", "x", "--device", "gpu"], "gpu"),
        (["finetune", "--recipe", "quickstart", "--out", "x"], "stage1.safetensors does not exist"),
        (["adapt", "--recipe", "quickstart", "--out", "x"], "quickstart has no section 'adapt'"),
        (["evaluate", "--weights", "nothing", "--manifest", "x.csv"], "nothing"),
        (["check", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(words, said, capsys, tmp_path, monkeypatch):
    write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    output = capsys.readouterr()
    assert said in output.err and "Traceback" not in output.err and output.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["info", "lite", "e\u202e.yaml"], ["info", "--\x1b[31m\u202e"], ["\u202e\x1b[31m"]])
def test_a_word_of_the_call_does_not_turn_or_colour_the_message(words, capsys):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "Usage: " in told and r"\u202e" in told and not {"\u202e", "\x1b"} & set(told)
    assert told.endswith("\n") and len(told.splitlines()) == 4


def test_a_bug_keeps_its_traceback_and_has_its_own_code(monkeypatch, capsys):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("mpc_lite.recipes.load.load_recipe", broken)
    assert main(["info", "quickstart"]) == 70
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "ZeroDivisionError: a bug" in shown

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mpc_lite.recipes.load.load_recipe", interrupted)
    assert main(["info", "quickstart"]) == 130


@pytest.mark.parametrize(
    "words, named",
    [
        (["predict", "", "--out", "o"], "argument 2 is empty"),
        (["predict", "a.png", "", "--out", "o"], "argument 3 is empty"),
        (["predict", "a.png", "--out", ""], "--out is empty"),
        (["predict", "a.png", "--out="], "--out is empty"),
        (["synth", "--out", "o", "--n", "1", "--photos", ""], "--photos is empty"),
        (["score", "", "--manifest", "m.csv"], "argument 2 is empty"),
        (["evaluate", "--pairs", "photos", "", "--maps", "m"], "argument 4 is empty"),
        (["check", ""], "argument 2 is empty"),
        ([""], "argument 1 is empty"),
    ],
)
def test_an_empty_argument_is_neither_the_folder_here_nor_left_out(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    assert main(words) == 2
    assert f"error: {named}, expected a name or a value" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("command", ["synth", "score", "pretrain", "finetune", "adapt", "neighbour"])
def test_every_command_that_reads_pictures_takes_more_pixels(command, capsys):
    main([command, "--help"])
    assert "--max-pixels" in capsys.readouterr().out


@pytest.mark.trust
@pytest.mark.parametrize("option", ["--pairs a b", "--manifest a.csv", "--split test", "--weights=lite"])
def test_an_option_of_which_only_the_last_would_count_is_refused_twice(option, capsys):
    assert main(["evaluate", *option.split(), *option.split()]) == 2
    assert "is given 2 times, and one is taken; run the command for each" in capsys.readouterr().err


PIPES = pytest.mark.skipif(sys.platform == "win32", reason="pipes that break and /dev/full are of Unix")


def shell(words, folder, output):
    """A command whose standard output is a pipe that nobody reads, a full disk, or closed."""
    line = f"{sys.executable} -m mpc_lite.cli {words} {output}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True)


@PIPES
@pytest.mark.trust
@pytest.mark.parametrize(
    "output, code, said",
    [
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        (">&-", 0, ""),
        ("> /dev/full", 2, "error: standard output took no more (No space left on device); what was written to files"),
    ],
)
def test_an_output_that_takes_no_more_ends_no_work(output, code, said, tmp_path):
    if "full" in output and not os.path.exists("/dev/full"):
        pytest.skip("a disk that is always full is a thing of Linux")
    for name in "abc":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / f"{name}.png")
    done = shell("predict a.png b.png c.png --out found", tmp_path, output)
    assert done.returncode == code and said in done.stderr and bool(done.stderr) == bool(said)
    assert len((tmp_path / "found" / "predictions.jsonl").read_text().splitlines()) == 3
    assert len(list((tmp_path / "found").glob("*.png"))) == 9


@PIPES
@pytest.mark.trust
def test_a_window_that_was_closed_is_no_error_of_what_goes_on(tmp_path):
    """As after `disown`: what the command still says has no reader, and the next one of a script shall begin."""
    import pty

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    ours, theirs = pty.openpty()
    os.close(ours)
    command = [sys.executable, "-m", "mpc_lite.cli", "predict", "a.png", "--out", "found"]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, check=False)
    os.close(theirs)
    assert done.returncode == 0 and len(list((tmp_path / "found").glob("*.png"))) == 3


@PIPES
@pytest.mark.trust
def test_a_picture_is_read_where_standard_error_is_closed(tmp_path):
    """It takes the number of standard error then, and what keeps libtiff silent put nothing in its place."""
    values = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    done = shell("predict a.tif --out found", tmp_path, "2>&-")
    assert done.returncode == 0 and '"error": null' in (tmp_path / "found" / "predictions.jsonl").read_text()


@pytest.mark.trust
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 5 TB")])
def test_a_lack_of_memory_is_one_line(monkeypatch, tmp_path, capsys, error):
    monkeypatch.setattr("mpc_lite.forgeries.synth.write_set", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["synth", "--out", str(tmp_path / "s"), "--n", "2"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the memory does not suffice (") and told.count("\n") == 1


@pytest.mark.trust
@pytest.mark.parametrize(
    "error", [ImportError("no _core in pydantic", name="pydantic._core"), SystemError("pydantic-core")]
)
def test_a_package_of_others_that_is_broken_is_one_line(monkeypatch, capsys, error):
    monkeypatch.setattr("mpc_lite.cli.app", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["doctor"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: a package cannot be imported (") and told.count("\n") == 1
    monkeypatch.setattr("mpc_lite.cli.app", lambda *_, **__: (_ for _ in ()).throw(ImportError("x", name="mpc_lite.y")))
    assert main(["doctor"]) == 70  # ours is a fault of the program


@pytest.mark.trust
def test_a_tilde_in_an_option_is_the_home_folder(monkeypatch, tmp_path):
    """Shells leave it in --out=~/found, and a folder called ~ was made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("~photos").mkdir()
    words = ["predict", "~/a.jpg", "--out=~/found", "--json", "~", "~photos", "--photographs=a ~ b", "-p", "x=~/y"]
    given, home = list(map(with_home, words)), str(tmp_path / "home")
    assert given[1:5] == [os.path.join(home, "a.jpg"), f"--out={home}/found", "--json", home]
    assert given[5:] == ["~photos", "--photographs=a ~ b", "-p", "x=~/y"]  # a recipe's values are read as such


@PIPES
@pytest.mark.trust
def test_results_are_written_before_the_table_is_printed(forgeries, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("a disk that is always full is a thing of Linux")
    words = f"score {forgeries.parent / 'masks'} --manifest {forgeries} --json result.json"
    done = shell(words, tmp_path, "> /dev/full")
    assert "standard output took no more" in done.stderr
    assert json.loads((tmp_path / "result.json").read_text())["protocol"] == "mpc"


# --- commands -------------------------------------------------------------------------------------------------------


def test_synth_repeats_itself_and_passes_check(forgeries, tmp_path, capsys):
    assert main(["synth", "--out", str(tmp_path), "--n", "6", "--seed", "1", "--size", "64"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "manifest.csv")
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) > 6
    assert all((tmp_path / f).read_bytes() == (forgeries.parent / f).read_bytes() for f in files)
    assert main(["check", str(forgeries)]) == 0


def test_synth_writes_over_nothing(tmp_path, capsys):
    (tmp_path / "manifest.csv").write_text("image,mask,label,source\n")
    assert main(["synth", "--out", str(tmp_path), "--n", "1", "--size", "32"]) == 2
    shown = capsys.readouterr().err
    assert "found manifest.csv" in shown and "choose another folder" in shown
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.csv"]
    assert (tmp_path / "manifest.csv").read_text() == "image,mask,label,source\n"


def test_synth_takes_photographs_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name in range(40):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(tmp_path / "mine" / f"{name}.png")
    words = ["--n", "3", "--size", "32", "--photos", str(tmp_path / "mine"), "--split", "train"]
    assert main(["synth", "--out", str(tmp_path / "out"), *words]) == 0
    assert {s.source.rpartition("-")[0] for s in read_manifest(tmp_path / "out" / "manifest.csv")} == {"photos-mine"}


@pytest.mark.trust
def test_synth_lists_photographs_it_cannot_read_and_goes_on(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name in range(12):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(tmp_path / "mine" / f"{name}.png")
    (tmp_path / "mine" / "12.jpg").write_text("<!DOCTYPE html><html>403</html>")
    for name in range(13, 40):
        (tmp_path / "mine" / f"{name}.jpg").write_text("not an image")
    words = ["--n", "4", "--size", "32", "--photos", str(tmp_path / "mine"), "--split", "train"]
    assert main(["synth", "--out", str(tmp_path / "out"), *words]) == 1
    shown = capsys.readouterr().err
    assert "of 40 photographs in" in shown and "belong to the split 'train'" in shown
    assert ".jpg: cannot be read as an image (no format that is read here)" in shown and "Warning" not in shown
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 4


@pytest.mark.trust
def test_synth_takes_the_place_of_a_set_that_was_killed(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000009.png").touch()
    for name in (".unfinished", "manifest.csv"):
        (tmp_path / name).touch()
    assert main(["synth", "--out", str(tmp_path), "--n", "2", "--size", "32"]) == 0
    assert len(list((tmp_path / "images").iterdir())) == 2 == len(read_manifest(tmp_path / "manifest.csv"))
    (tmp_path / ".unfinished").touch()
    (tmp_path / "mine.txt").touch()  # whose is that?
    assert main(["synth", "--out", str(tmp_path), "--n", "2", "--size", "32"]) == 2


@pytest.mark.trust
def test_check_prints_notes_and_still_exits_with_0(forgeries, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "m.png")
    (tmp_path / "m.csv").write_text("image,mask,label,source\na.png,m.png,1,mine\n")
    assert main(["check", str(tmp_path / "m.csv")]) == 0
    assert "note: 1 masks mark more than half" in capsys.readouterr().out


def test_check_lists_bad_rows_and_exits_with_1(forgeries, tmp_path, capsys):
    rows = forgeries.read_text().splitlines()
    bad = forgeries.with_name("bad.csv")
    bad.write_text("\n".join([*rows, rows[1].replace("images/", "images/lost-")]) + "\n")
    assert main(["check", str(bad)]) == 1
    assert "row 8 of bad.csv" in capsys.readouterr().out


def test_info_shows_the_resolved_recipe_and_the_size(capsys):
    assert main(["info", "quickstart", "--profile", "smoke", "-p", "pretrain.steps=7"]) == 0
    shown = capsys.readouterr().out
    assert "profile: smoke" in shown and "steps: 7" in shown
    from mpc_lite.network.model import MPC

    count = sum(p.numel() for p in MPC.build("nano", "4conv").parameters())
    assert f"{count:,} parameters" in shown


@pytest.mark.slow
def test_a_single_run_does_without_dask(tmp_path):
    """`None` in sys.modules makes an import fail, as where the package is not installed."""
    write_notebook(tmp_path / "book" / "reproduce" / "quickstart.ipynb", "raise NotImplementedError('got here')")
    code = "import sys; sys.modules.update(dict.fromkeys(['dask', 'distributed']))\n"
    code += "from mpc_lite.cli import main; main(['reproduce', 'quickstart', '--profile', 'smoke'])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stderr
    assert "NotImplementedError: got here" in shown and "ModuleNotFoundError" not in shown


def test_info_tells_the_cost(monkeypatch, capsys):
    monkeypatch.setattr("mpc_lite.cost.recipe_cost.cost", lambda recipe: recipe.pretrain.steps)
    monkeypatch.setattr("mpc_lite.cost.recipe_cost.format_cost", "{} steps cost much".format)
    assert main(["info", "quickstart", "--profile", "smoke", "--cost", "-p", "pretrain.steps=7"]) == 0
    assert capsys.readouterr().out == "7 steps cost much\n"


@pytest.mark.slow
def test_both_stages_train_and_show_progress(trained, capsys):
    assert (trained / "stage1.safetensors").is_file() and (trained / "model.safetensors").is_file()
    stages = [json.loads(line)["stage"] for line in (trained / "log.jsonl").read_text().splitlines()]
    assert stages == sorted(stages, reverse=True) and set(stages) == {"pretrain", "finetune"}
    words = ["--recipe", "quickstart", "--profile", "smoke", "--out", str(trained), "--device", "cpu", *TINY]
    assert main(["pretrain", *words]) == 2  # an earlier run is not overwritten
    assert "resume it or choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_the_user_chose(given, policy, monkeypatch, capsys):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    says = "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    program = f"import os, sys, mpc_lite.cli; mpc_lite.cli.main(['--help']); {says}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"{policy} False"


@pytest.mark.slow
@pytest.mark.trust
def test_opencv_says_nothing_when_it_begins(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    call = [sys.executable, "-m", "mpc_lite.cli", "synth", "--n", "1", "--size", "64", "--out", str(tmp_path / "set")]
    done = subprocess.run(call, env={**environment, "OPENCV_IPP": "disabled"}, capture_output=True, text=True)
    assert done.returncode == 0 and "WARN" not in done.stderr


@pytest.mark.slow
def test_evaluate_prints_a_table_and_writes_json(trained, forgeries, tmp_path, capsys):
    words = ["--weights", str(trained / "model.safetensors"), "--manifest", str(forgeries), "--device", "cpu"]
    json_file, maps = tmp_path / "scores.json", tmp_path / "maps"
    assert main(["evaluate", *words, "--protocol", "permuted", "--json", str(json_file), "--maps", str(maps)]) == 0
    table = json.loads(json_file.read_text())
    assert table["protocol"] == "permuted" and 0 <= table["average"]["f1"] <= 1
    assert f"{table['average']['f1']:.3f}" in capsys.readouterr().out
    assert len(list(maps.glob("*.png"))) == 6
    assert main(["evaluate", *words, "--protocol", "permutted"]) == 2
    # The kept maps are enough: no weights, the same figures.
    again = ["evaluate", "--manifest", str(forgeries), "--protocol", "permuted", "--maps", str(maps)]
    assert main([*again, "--json", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == {**table, "weights": None}
    assert main(again[:-2]) == 2 and "--weights, or --maps" in capsys.readouterr().err
    # Those of another network, or for another list, do not take their place.
    other = tmp_path / "other.csv"
    write_manifest(other, read_manifest(forgeries)[1:])
    for option, value in (("--weights", "lite2"), ("--manifest", str(other))):
        changed = list(words)
        changed[words.index(option) + 1] = value
        assert main(["evaluate", *changed, "--maps", str(maps)]) == 2
        which = "network" if option == "--weights" else "manifest, or of this one before a change"
        assert f"maps holds 6 maps of another {which}, and they would be deleted" in capsys.readouterr().err
    assert main([*again, "--json", str(tmp_path / "kept.json")]) == 0


@pytest.mark.slow
def test_folders_of_pairs_are_scored_without_a_manifest(trained, forgeries, tmp_path, capsys):
    tampered = [s for s in read_manifest(forgeries) if s.label][:2]
    for name in ("photos", "masks", "maps"):
        (tmp_path / name).mkdir()
    for k, sample in enumerate(tampered):
        shutil.copy(sample.image, tmp_path / "photos" / f"{k}{sample.image.suffix}")
        shutil.copy(sample.mask, tmp_path / "masks" / f"{k}_gt.png")
        shutil.copy(sample.mask, tmp_path / "maps" / f"{k}.png")  # what a perfect detector would have written
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "alone.png")
    pairs = ["--pairs", str(tmp_path / "photos"), str(tmp_path / "masks")]
    weights, file = ["--weights", str(trained / "model.safetensors"), "--device", "cpu"], tmp_path / "table.json"
    capsys.readouterr()
    assert main(["evaluate", *pairs, *weights, "--json", str(file)]) == 1  # one photograph has no mask
    said, table = capsys.readouterr().out, json.loads(file.read_text())
    assert "2 pairs of image and mask: 2 by ending _gt; files left out: 1" in said
    assert "alone.png: no mask of this name in masks" in said
    assert table["pairs"]["paired"] == {"ending _gt": 2} and table["sets"]["photos"]["n"] == 2
    assert str(tmp_path) not in file.read_text()
    (tmp_path / "photos" / "alone.png").unlink()
    two = ["--protocol", "mpc", "--protocol", "permuted"]
    assert main(["score", str(tmp_path / "maps"), *pairs, *two, "--json", str(file)]) == 0
    both = json.loads(file.read_text())["protocols"]
    assert [both[name]["sets"]["photos"]["f1"] for name in ("mpc", "permuted")] == [1.0, 1.0]
    assert "sha256" in both["mpc"]["manifest"] and both["mpc"]["pairs"]["n"] == 2
    assert main(["evaluate", *weights]) == 2 and "either --manifest CSV or --pairs" in capsys.readouterr().err
    assert main(["evaluate", *pairs, *weights, "--manifest", str(forgeries)]) == 2


@pytest.mark.slow
def test_evaluate_leaves_bad_rows_out_and_exits_with_1(trained, forgeries, tmp_path, capsys):
    rows = forgeries.read_text().splitlines()
    bad = forgeries.with_name("lost.csv")
    bad.write_text("\n".join([*rows, rows[1].replace("images/", "images/lost-")]) + "\n")
    words = ["--weights", str(trained / "model.safetensors"), "--manifest", str(bad), "--device", "cpu"]
    assert main(["evaluate", *words, "--json", str(tmp_path / "scores.json")]) == 1
    assert len(json.loads((tmp_path / "scores.json").read_text())["errors"]) == 1
    assert "1 rows left out" in capsys.readouterr().out


@pytest.mark.slow
def test_predict_goes_on_after_a_bad_photo_and_exits_with_1(trained, forgeries, tmp_path, capsys):
    good = str(read_manifest(forgeries)[0].image)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    words = ["--out", str(tmp_path / "found"), "--weights", str(trained / "model.safetensors"), "--device", "cpu"]
    assert main(["predict", str(broken), good, *words]) == 1
    output = capsys.readouterr()
    assert "broken.jpg" in output.err and "score 0." in output.out
    lines = [json.loads(line) for line in (tmp_path / "found" / "predictions.jsonl").read_text().splitlines()]
    assert [bool(line["error"]) for line in lines] == [True, False]
    assert main(["predict", good, *words, "--report"]) == 0
    report = tmp_path / "found" / "report.html"
    assert f"report: {report}" in capsys.readouterr().out and "1 photograph," in report.read_text()


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_asked_to_stop_writes_a_checkpoint_and_says_by_what(tmp_path, number, code):
    """As a terminal or a job does it: the signal goes to the whole group, data loader workers included."""
    words = [
        "pretrain",
        "--recipe",
        "quickstart",
        "--profile",
        "smoke",
        "--out",
        "run",
        *TINY[4:],
        "-p",
        "data.workers=1",
    ]
    words += ["-p", "pretrain.steps=10000", "-p", "pretrain.validate_every=10000"]
    command = [sys.executable, "-m", "mpc_lite.cli", *words]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log, end = tmp_path / "run" / "log.jsonl", time.monotonic() + 300
    while not (log.exists() and log.read_text()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, number)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == code, shown
    assert "--resume" in shown and "Traceback" not in shown
    assert (tmp_path / "run" / "pretrain.state").is_file()


@pytest.mark.trust
@pytest.mark.parametrize(
    "call",
    [
        ["evaluate", "--weights", "LONG", "--manifest", "m.csv"],
        ["evaluate", "--weights", "LONG.safetensors", "--manifest", "m.csv"],
        ["evaluate", "--weights", "hf://LONG", "--manifest", "m.csv"],
        ["evaluate", "--weights", "lite", "--manifest", "LONG"],
        ["evaluate", "--weights", "lite", "--manifest", "m.csv", "--split", "LONG"],
        ["check", "LONG"],
        ["convert", "LONG", "--out", "o.safetensors"],
        ["reproduce", "LONG"],
        ["reproduce", "quickstart", "--profile", "LONG"],
        ["pretrain", "--recipe", "quickstart", "--out", "LONG"],
        ["info", "quickstart", "-p", "LONG"],
        ["info", "protocol1", "-p", "variant=LONG"],
    ],
)
def test_a_word_of_thousands_of_letters_is_one_short_message(call, forgeries, tmp_path, monkeypatch, capsys):
    words = [word.replace("LONG", "a" * 3000).replace("m.csv", str(forgeries)) for word in call]
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and len(message) < 1000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trust
def test_synth_that_is_stopped_says_so(tmp_path):
    words = ["synth", "--out", "set", "--n", "10000", "--size", "32"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mpc_lite.cli", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 300
    while not (tmp_path / "set" / ".unfinished").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    second = subprocess.run(process.args, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 2 and f"in use by process {process.pid}" in second.stderr
    process.terminate()
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 143, shown
    assert shown == "synth stopped; set is unfinished, and the same command begins it anew\n"
    assert not (tmp_path / "set" / ".lock.json").exists() and (tmp_path / "set" / ".unfinished").exists()
    assert not (tmp_path / "set" / "manifest.csv").exists()  # of a part of the set


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_synth_that_is_stopped_while_it_reads_a_picture_says_so(monkeypatch, tmp_path, capsys):
    """Readers take whatever a decoder raises for a damaged picture; the wish to stop is none."""

    def forge(*_):
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    monkeypatch.setattr("mpc_lite.forgeries.synth.forge", forge)
    assert main(["synth", "--out", str(tmp_path / "set"), "--n", "1"]) == 143
    assert capsys.readouterr().err.startswith("synth stopped; ")


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_command_that_is_ended_within_a_write_leaves_nothing_half_written(monkeypatch, tmp_path, capsys, name, code):
    def end(*_):
        assert [file.suffix for file in tmp_path.iterdir()] == [".tmp"]
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(1)

    monkeypatch.setattr("mpc_lite.files.os.fsync", end)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["export", "--out", str(tmp_path / "lite.onnx")]) == code
    assert capsys.readouterr().err == "interrupted\n" and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder in which a process works")
def test_a_working_folder_that_was_deleted_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("error: the working folder is not there (")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG])
def test_a_disk_that_refuses_is_told_in_one_line(monkeypatch, tmp_path, capsys, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "runs/here")

    monkeypatch.setattr("mpc_lite.forgeries.synth.write_set", refuse)
    assert main(["synth", "--out", str(tmp_path), "--n", "1"]) == 2
    message = capsys.readouterr().err
    assert os.strerror(number) in message and "runs/here" in message and "Traceback" not in message


@pytest.mark.slow
def test_weights_with_a_random_head_are_used_and_called_that(tmp_path, forgeries, capsys):
    graph = str(tmp_path / "stage1.onnx")
    assert main(["export", "--weights", "lite-stage1", "--out", graph]) == 0
    assert "only the encoder of lite-stage1 has learnt; its head is random" in capsys.readouterr().err
    photo = next((forgeries.parent / "images").glob("*.png"))
    assert main(["predict", str(photo), "--out", str(tmp_path), "--weights", graph, "--backend", "onnx"]) == 0
    assert "only the encoder of " in capsys.readouterr().err
    photo = next((forgeries.parent / "images").glob("*.png"))
    for weights, noted in (("lite-stage1", True), ("lite", False)):
        assert main(["predict", str(photo), "--out", str(tmp_path / weights), "--weights", weights]) == 0
        assert ("only the encoder of lite-stage1 has learnt; its head is random" in capsys.readouterr().err) == noted


def test_files_to_convert_and_to_export_are_found_by_the_one_rule_of_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a.pth", "a.json"):
        (tmp_path / name).write_text("no weights, no table")
    calls = ["convert", "~/a.pth", "--out", "a.safetensors"], ["export", "--results", "~/a.json", "--out", "a.onnx"]
    for call in calls:
        assert main(call) == 2
        told = capsys.readouterr().err
        assert str(tmp_path) in told and "No such file" not in told and "not exist" not in told
