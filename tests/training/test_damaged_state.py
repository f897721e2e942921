"""What a run keeps for its next half, damaged: one line that says what to delete, or the same run; never another."""

import hashlib
import io
import json
import math
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.checkpoint import read_done, restore, store, write_done
from mpc_lite.training.identity import identity
from mpc_lite.training.progress import read_log
from tests.training.test_log import log

pytestmark = pytest.mark.trust


def learner(seed):
    torch.manual_seed(seed)
    model = nn.Linear(40, 40)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    model(torch.ones(1, 40)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3)}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The recipe and the bytes of a checkpoint."""
    file, recipe = tmp_path_factory.mktemp("state") / "pretrain.state", load_recipe("quickstart", "smoke")
    store(file, recipe, 1, 7, 0.5, **learner(0))
    return recipe, file.read_bytes()


def other_zip():
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("readme.txt", "no checkpoint")
        return buffer.getvalue()


def saved(value):
    with io.BytesIO() as buffer:
        torch.save(value, buffer)
        return buffer.getvalue()


def packed(data):
    """The same records, compressed: a few bytes may become any number."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for record in whole.infolist():
                file.writestr(record.filename, whole.read(record))
        return buffer.getvalue()


def with_entry(value):
    return lambda data: saved({**torch.load(io.BytesIO(data), weights_only=True), "more": value})


def with_moment(value):
    def change(data):
        state = torch.load(io.BytesIO(data), weights_only=True)
        state["optimizer"]["state"][0]["exp_avg"] = value
        return saved(state)

    return change


@pytest.mark.parametrize(
    "change",
    [
        packed,
        with_entry(bytearray(9)),  # whose length may be any number
        with_entry([[[0] * 2000] * 2000]),  # one list that is there again and again
        with_moment(torch.zeros(1).expand(40, 40)),  # one number that says it is many
        with_moment(torch.zeros(1)),
        with_moment(torch.zeros(40, 40, dtype=torch.int64)),
        with_moment("many"),
    ],
)
def test_a_state_that_would_take_or_write_more_than_it_holds_is_refused(state, tmp_path, change):
    """A fused step writes as far as the weight is long; torch compares no shapes."""
    recipe, data = state
    (tmp_path / "pretrain.state").write_bytes(change(data))
    with pytest.raises(InputError, match=r"pretrain\.state is damaged, or no checkpoint of a training run"):
        restore(tmp_path / "pretrain.state", recipe, 1, 9, **learner(0))


FOREIGN = {
    "empty": b"",
    "text": b"step 7\n",
    "a pickle": pickle.dumps({"step": 7}),
    "another zip": other_zip(),
    "another file of torch": saved({"step": 7}),
    "a list of torch": saved([1, 2]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_checkpoint_is_told_in_one_line(tmp_path, state, name):
    file = tmp_path / "pretrain.state"
    file.write_bytes(FOREIGN[name])
    with pytest.raises(InputError, match=r"state is damaged, or no checkpoint .* delete it, and --resume") as told:
        restore(file, state[0], 1, 9, **learner(1))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("part", ["model", "companion"])
def test_a_state_with_other_window_positions_is_told_before_they_are_used(tmp_path, state, part):
    """A network reads its bias where these numbers say, and what lies elsewhere is another network's, or nobody's."""
    teacher = nn.Module()
    teacher.register_buffer("relative_position_index", torch.arange(9))
    parts = {**learner(0), "companion": teacher}
    if part == "model":
        parts["model"].register_buffer("relative_position_index", torch.arange(9))
    file = tmp_path / "pretrain.state"
    store(file, state[0], 1, 7, 0.5, **parts)
    assert restore(file, state[0], 1, 9, **parts)[0] == 7
    content = torch.load(file, weights_only=True)
    content[part]["relative_position_index"] -= 3
    file.write_bytes(saved(content))
    with pytest.raises(InputError, match="is damaged") as told:
        restore(file, state[0], 1, 9, **parts)
    assert "\n" not in str(told.value)


def test_parts_that_do_not_fit_are_told_in_one_line(tmp_path, state):
    content = torch.load(io.BytesIO(state[1]), weights_only=True)
    wrong = [{"step": "7"}, {"model": {}}, {"optimizer": {"state": 1}}, {"scheduler": []}, {"best": None}]
    wrong += [
        {"start": 5},
        {"stage": None},
        {"step": -1},
        {"step": 10},
        {"step": True},
        {"best": math.nan},
        {"best": math.inf},
    ]
    wrong += [{"scheduler": {**content["scheduler"], "last_epoch": far}} for far in ("7", None, math.nan, True)]
    groups = content["optimizer"]["param_groups"]
    wrong += [
        {"optimizer": {**content["optimizer"], "param_groups": [{**groups[0], "lr": lr}]}} for lr in ("1", math.inf)
    ]
    wrong += [{"optimizer": {**content["optimizer"], "param_groups": []}}]
    weight = content["model"]["weight"]
    wrong += [{"model": {**content["model"], "weight": w}} for w in (weight.double(), weight.int(), weight * math.nan)]
    for change in wrong:
        (tmp_path / "pretrain.state").write_bytes(saved({**content, **change}))
        with pytest.raises(InputError, match="is damaged"):
            restore(tmp_path / "pretrain.state", state[0], 1, 9, **learner(1))


@pytest.mark.slow
def test_no_flipped_or_missing_byte_makes_another_run(tmp_path, state):
    """Bits turn in 150 places and 40 lengths are cut: refused, or restored to the bit (padding between members)."""
    recipe, whole = state
    rng, file, refused = np.random.default_rng(0), tmp_path / "pretrain.state", 0
    expected = learner(0)["model"].state_dict()
    damaged = [whole[: int(n)] for n in rng.integers(0, len(whole), 40)]
    for place in rng.integers(0, len(whole), 150):
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
    for content in damaged:
        file.write_bytes(content)
        parts = learner(1)
        try:
            assert restore(file, recipe, 1, 9, **parts) == (7, 0.5, None, True)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        assert all(torch.equal(v, expected[k]) for k, v in parts["model"].state_dict().items())
    assert refused > 100


def test_a_checkpoint_of_another_stage_is_refused_and_one_of_an_older_version_goes_on(tmp_path, state):
    (tmp_path / "finetune.state").write_bytes(state[1])
    with pytest.raises(InputError, match=r"finetune\.state is a checkpoint of the stage pretrain; put back its own"):
        restore(tmp_path / "finetune.state", state[0], 1, 9, **learner(1))
    content = torch.load(io.BytesIO(state[1]), weights_only=True)
    older = {name: value for name, value in content.items() if name not in ("stage", "start")}
    (tmp_path / "finetune.state").write_bytes(saved(older))
    assert restore(tmp_path / "finetune.state", state[0], 1, 9, **learner(1), weights="lite")[:2] == (7, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": 5},
        {"recipe": {}},
        {"recipe": {"model": 1, "data": {}}},
        {"manifests": None},
        {"stage": "finetune"},
        {"start": 5},
        {"start": []},
        {"best": "0.5"},
        {"best": None},
        {"best": math.nan},
        {"more": "deep"},
    ],
)
def test_only_what_it_writes_passes_for_a_note_of_the_end(tmp_path, state, change):
    file = tmp_path / "pretrain.done"
    write_done(file, state[0], None, False, 0.5)
    read_done(file, state[0], tmp_path / "gone")
    note = {**json.loads(file.read_text()), **change}
    note["sha256"] = hashlib.sha256(
        json.dumps({k: v for k, v in note.items() if k != "sha256"}, sort_keys=True).encode()
    ).hexdigest()  # as of another program that keeps a digest
    file.write_text(json.dumps(note).replace('"deep"', "[" * 900 + "]" * 900))
    with pytest.raises(InputError, match="is damaged, or no note of a finished stage; delete it"):
        read_done(file, state[0], tmp_path / "gone")


def test_a_flipped_bit_in_a_note_of_the_end_is_damage_and_not_another_recipe(tmp_path, state):
    file, rng = tmp_path / "pretrain.done", np.random.default_rng(0)
    write_done(file, state[0], None, False, 0.5)
    whole = file.read_bytes()
    places = [
        *rng.integers(0, len(whole), 100),
        *(whole.index(b'"sha256"') + np.arange(70)),
        whole.index(b'"best"') + 2,
    ]
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
        with pytest.raises(InputError, match="is damaged, or no note of a finished stage; delete it"):
            read_done(file, state[0], tmp_path / "gone")
    for unknown in ({"sha256"}, {"best", "sha256"}):  # to older versions
        file.write_text(json.dumps({key: value for key, value in json.loads(whole).items() if key not in unknown}))
        read_done(file, state[0], tmp_path / "gone")


# --- the log --------------------------------------------------------------------------------------------------------

LINE = json.dumps({"stage": "pretrain", "step": 1, "steps": 40, "loss": 1.0, "seconds": 2.0}).encode() + b"\n"
NO_LINES = [
    b"\xff\xfe\x00\n",
    b"[1]\n",
    b"{}\n",
    b'{"stage": "pretrain", "step": "1", "steps": 40}\n',
    b'{"stage": "pretrain", "step": 1, "steps": 40, "seconds": "x"}\n',
    b'{"stage": "pretrain", "step": 1, "steps": 40, "validation": "high"}\n',
    b'{"stage": "pretrain", "step": 1, "steps": 40, "seconds": 1' + b"0" * 400 + b"}\n",
    b'{"stage": "pretrain", "step": 1, "steps": 1' + b"0" * 400 + b"}\n",
    b'{"stage": "pretrain", "step": 1, "steps": 40, "validation": {"f1": 1' + b"0" * 400 + b"}}\n",
    LINE[:-9] + b"\n",
    b"\0" * 20 + b"\n",
]


@pytest.mark.parametrize("line", NO_LINES)
def test_a_damaged_log_is_told_with_its_line_and_read_without_it(tmp_path, line):
    file = tmp_path / "log.jsonl"
    file.write_bytes(LINE + line + LINE)
    assert [entry["loss"] for entry in read_log(file)] == [1.0, 1.0]
    with pytest.raises(InputError, match=r"log\.jsonl: line 2 is damaged, or .* delete the file") as told:
        log(tmp_path, first=1)
    assert "\n" not in str(told.value) and file.read_bytes() == LINE + line + LINE


@pytest.mark.parametrize("cut", [b"", LINE[:9], b"\0\0", b"\xff"])
def test_a_line_that_a_kill_cut_off_goes(tmp_path, cut):
    file = tmp_path / "log.jsonl"
    file.write_bytes(LINE + cut)
    log(tmp_path, first=1)
    assert file.read_bytes() == LINE


def test_numbers_of_an_earlier_log_that_are_no_json_go(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes(
        LINE.replace(b"1.0", b"NaN")
        + b'{"stage": "x", "step": 1, "steps": 2, "validation": {"f1": Infinity, "iou": 0.5}}'
    )
    assert "loss" not in read_log(file)[0] and read_log(file)[1]["validation"] == {"iou": 0.5}
    log(tmp_path, first=1)
    assert b"NaN" not in file.read_bytes() and b"Infinity" not in file.read_bytes()


def test_a_folder_of_the_logs_name_is_named_not_the_run_folder(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(InputError, match=r"log\.jsonl cannot be read: Is a directory; .*Move it away"):
        log(tmp_path)


# --- as a user meets them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, content", [("pretrain.state", b""), ("pretrain.done", b""), ("log.jsonl", b"\xff{\n")])
def test_the_command_says_what_to_delete_and_exits_with_2(tmp_path, capsys, name, content):
    """Empty files looked like Ctrl-C, which a job that is put back into its queue would repeat for ever."""
    words = ["pretrain", "--recipe", "quickstart", "--profile", "smoke", "--out", str(tmp_path), "--resume"]
    words += ["--device", "cpu"]
    (tmp_path / name).write_bytes(content)
    assert main(words) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("error: ") and name in told[-1] and "delete" in told[-1] and len(told) <= 2


def test_a_note_of_the_end_without_the_weights_is_told(tmp_path, capsys):
    recipe = load_recipe("quickstart", "smoke")
    (tmp_path / "pretrain.done").write_text(identity(recipe))
    words = ["pretrain", "--recipe", "quickstart", "--profile", "smoke", "--out", str(tmp_path), "--resume"]
    assert main(words) == 2
    assert "stage1.safetensors is missing; delete pretrain.done" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_not_waited_for(state, tmp_path):
    """As what an archive or a shared disk may hold by the names of a run; a device would fill the memory."""
    for name in ("pretrain.state", "pretrain.done", "log.jsonl"):
        os.mkfifo(tmp_path / name)
    reads = {
        "pretrain.state": lambda file: restore(file, state[0], 1, 9, **learner(1)),
        "pretrain.done": lambda file: read_done(file, state[0], file.with_name("gone")),
        "log.jsonl": lambda file: log(file.parent),
    }
    for name, read in reads.items():
        with pytest.raises(InputError, match="a pipe or a device"):
            read(tmp_path / name)
