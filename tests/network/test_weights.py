"""Checkpoints: round trip, strictness, atomic writing, damaged files."""

import errno
import hashlib
import json
import os
import sys
import zipfile
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from mpc_lite.errors import InputError
from mpc_lite.files import write_atomic
from mpc_lite.network import weights
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.network.weights import fingerprint, load_strict, pretrained_file, read_facts, save_weights

RECIPE = {"name": "test", "model": {"size": "nano", "head": "5conv"}, "seed": 3}


@pytest.fixture(scope="module")
def model() -> MPC:
    torch.manual_seed(0)
    model = MPC.build("nano", head="5conv")
    model.train().encode(torch.rand(2, 3, 64, 64))  # batch-norm statistics that are not the initial ones
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(path, model, RECIPE, stage="finetune", step=7)
    return path


@pytest.mark.slow
def test_round_trip_is_exact_and_the_recipe_travels_along(model, saved):
    loaded = load_weights(saved)
    assert (loaded.size, loaded.head, loaded.recipe, loaded.training) == ("nano", "5conv", RECIPE, False)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())
    facts = read_facts(saved)
    assert facts.pop("version") and facts.pop("fingerprint") == fingerprint(model)
    assert facts == {"size": "nano", "head": "5conv", "recipe": RECIPE, "stage": "finetune", "step": 7}
    images = torch.rand(1, 3, 50, 40)
    with torch.no_grad():
        torch.testing.assert_close(MPC.from_pretrained(str(saved))(images), model.eval()(images))


def test_facts_are_read_without_a_tensor(saved, monkeypatch):
    asked = []

    @contextmanager
    def watched(path, framework):
        with safe_open(path, framework) as file:
            read = lambda name: asked.append(name) or file.get_tensor(name)  # noqa: E731
            yield SimpleNamespace(metadata=file.metadata, keys=file.keys, get_tensor=read)

    monkeypatch.setattr(weights, "safe_open", watched)
    assert read_facts(saved)["step"] == 7 and not asked
    tensors = weights.read_weights(saved)[1]
    assert asked == list(tensors) and asked


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_folder_whose_name_is_not_utf_8_holds_weights_as_any_other(model, saved, tmp_path):
    folder = tmp_path / os.fsdecode(b"Foto\xe9")
    file = folder / "model.safetensors"
    save_weights(file, model, RECIPE, step=7, stage="finetune")
    assert read_facts(file) == read_facts(saved)
    tensors = weights.read_weights(file)[1]
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    file.write_bytes(b"no weights at all")
    with pytest.raises(InputError, match="is damaged or not a safetensors file"):
        read_facts(file)


def test_equal_content_gives_equal_bytes_whatever_the_memory_format(model, saved, tmp_path):
    path = tmp_path / "again.safetensors"
    digest = save_weights(path, model.to(memory_format=torch.channels_last), RECIPE, step=7, stage="finetune")
    model.to(memory_format=torch.contiguous_format)
    assert path.read_bytes() == saved.read_bytes()
    assert digest == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_loading_draws_no_random_numbers(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_weights(saved)
    assert torch.equal(torch.rand(3), expected)


def test_a_misfit_names_every_tensor_and_changes_nothing(model):
    target = MPC.build("nano", head="4conv")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    tensors = dict(model.state_dict())  # the 5-conv head: one tensor of another shape pair, seven too many
    del tensors["encoder.bn1.bias"], tensors["encoder.stage4.0.branches.3.0.norm1.weight"]
    with pytest.raises(InputError) as error:
        load_strict(target, tensors, source="other.safetensors")
    message = str(error.value)
    for part in (
        "other.safetensors does not fit MPC 'nano' with head '4conv'",
        "2 missing: encoder.bn1.bias, encoder.stage4.0.branches.3.0.norm1.weight",
        "7 unexpected: decoder.classifier.12.weight, decoder.classifier.12.bias, decoder.classifier.12.running_mean, "
        "decoder.classifier.12.running_var, decoder.classifier.12.num_batches_tracked, decoder.classifier.14.weight, "
        "decoder.classifier.14.bias",
        "2 of another shape: decoder.classifier.11.weight (found (16, 32, 1, 1), expected (1, 32, 1, 1)), "
        "decoder.classifier.11.bias (found (16,), expected (1,))",
    ):
        assert part in message
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.mark.slow
@pytest.mark.trust
def test_a_checkpoint_of_another_size_counts_its_misfits_and_names_five_of_each_kind(model, tmp_path):
    """A file that calls itself small but holds nano: hundreds of misfits, and a message that can be read."""
    path = tmp_path / "small.safetensors"
    about = json.dumps({"size": "small", "head": "4conv", "recipe": {}})
    safetensors.torch.save_file(dict(model.state_dict()), path, metadata={"mpc_lite": about})
    with torch.device("meta"):
        expected = MPC.build("small").state_dict()
    with pytest.raises(InputError) as error:
        load_weights(path)
    found = model.state_dict()
    missing = [n for n in expected if n not in found]
    text = str(error.value)
    assert f"{len(missing)} missing: {', '.join(missing[:5])} and {len(missing) - 5} more" in text
    assert len(missing) > 100 and f"{missing[5]}," not in text
    assert len(text.replace(str(tmp_path), "")) < 1000


@pytest.mark.parametrize("keep", [0, 5, 4000, -1])
def test_a_truncated_file_is_called_damaged(saved, tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut\.safetensors is damaged"):
        load_weights(path)


def test_other_files_are_told_apart(model, tmp_path):
    text, pickle, foreign = tmp_path / "a.safetensors", tmp_path / "official.pth", tmp_path / "b.safetensors"
    text.write_text("not a checkpoint, only some words that someone wrote")
    torch.save({"x": torch.zeros(2)}, pickle)
    safetensors.torch.save_file({"x": torch.zeros(2)}, foreign)
    for path, words in (
        (text, "is damaged or not"),
        (pickle, "is a PyTorch pickle"),
        (foreign, "does not say that mpc_lite"),
    ):
        with pytest.raises(InputError, match=words):
            load_weights(path)
    torch.save({"x": torch.zeros(2)}, pickle, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"is a PyTorch pickle.*: mpc-lite convert .*official\.pth --out FILE"):
        load_weights(pickle)
    with zipfile.ZipFile(tmp_path / "weights.zip", "w") as file:  # as a build server or a shared drive packs it
        file.write(foreign, "model.safetensors")
    with pytest.raises(InputError, match=r"weights\.zip is a ZIP archive; unpack it, and give the \.safetensors file"):
        load_weights(tmp_path / "weights.zip")
    torch.save({"x": torch.zeros(2)}, tmp_path / "pretrain.state")
    with pytest.raises(InputError, match=r"pretrain\.state is a checkpoint, from which a training goes on; give a"):
        load_weights(tmp_path / "pretrain.state")
    text.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    with pytest.raises(InputError, match="is a Git LFS pointer, not the weights; fetch them with 'git lfs pull'"):
        load_weights(text)
    about = {"size": "nano", "head": "4conv", "recipe": {"evaluate": {"protocol": "tomorrow"}}, "version": "9.9.9"}
    safetensors.torch.save_file({"x": torch.zeros(2)}, foreign, metadata={"mpc_lite": json.dumps(about)})
    with pytest.raises(InputError, match=r"protocol: .*; mpc_lite 9\.9\.9 wrote it, and this is .*: read it with that"):
        load_weights(foreign)
    facts = {"mpc_lite": '{"size": "huge", "head": "4conv", "recipe": {}}'}
    safetensors.torch.save_file({"x": torch.zeros(2)}, foreign, metadata=facts)
    with pytest.raises(InputError, match="size 'huge'; this version knows nano, small, base"):
        load_weights(foreign)
    for notes in ("[]", "{", '{"size": ["nano"], "head": "4conv", "recipe": {}}'):
        safetensors.torch.save_file({}, foreign, metadata={"mpc_lite": notes})
        with pytest.raises(InputError):
            load_weights(foreign)


def test_names_and_paths(saved, tmp_path, monkeypatch):
    (tmp_path / "lite.safetensors").write_bytes(saved.read_bytes())
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    assert pretrained_file("lite") == tmp_path / "lite.safetensors"
    assert MPC.from_pretrained("lite").head == "5conv"
    with pytest.raises(InputError, match=r"no shipped weights 'lit' \(shipped: lite\)"):
        load_weights("lit")
    with pytest.raises(InputError, match=r"runs/none\.safetensors does not exist"):
        load_weights("runs/none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        load_weights(tmp_path)


@pytest.mark.slow
def test_every_shipped_file_loads_and_is_small():
    for name in weights.pretrained_names():
        assert pretrained_file(name).stat().st_size <= 5_000_000, name
        loaded = load_weights(name)
        with torch.no_grad():
            assert loaded(torch.rand(1, 3, 64, 64)).isfinite().all(), name


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file_and_no_rubbish(tmp_path, monkeypatch, step):
    path = tmp_path / "new" / "model.safetensors"
    write_atomic(path, b"first")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(InputError, match=r"cannot write .*No space left.*earlier file is unchanged"):
        write_atomic(path, b"second")
    monkeypatch.undo()
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
    write_atomic(path, b"third")
    assert path.read_bytes() == b"third" and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "model.safetensors", b"data")
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(InputError, match="Permission denied"):
        write_atomic(locked / "model.safetensors", b"data")


def test_data_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    """A crash between the two would otherwise leave an empty file under the final name."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomic(tmp_path / "x", b"data")
    assert calls == ["fsync", "replace"]
