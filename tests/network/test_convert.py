"""Conversion of official checkpoints, on files built in their documented layouts (the real ones may not be shipped)."""

import hashlib
import io
import json
import os
import re
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network import convert as module
from mpc_lite.network.convert import convert, read_official, summary
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.network.weights import read_facts
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.loop import starting_model
from tests.network.test_hrformer import GOLDEN

# Names and shapes of the released code's own stage-2 network, not of ours.
OFFICIAL = {k: tuple(v) for k, v in json.loads((GOLDEN / "hrformer_base_state_dict.json").read_text()).items()}
HEADS = {  # a few names of each unused part of HRFormer's classification network
    "incre_modules.0.0.conv1.weight": (32, 78, 1, 1),
    "incre_modules.3.0.downsample.1.num_batches_tracked": (),
    "downsamp_modules.2.3.running_mean": (1024,),
    "final_layer.0.weight": (2048, 1024, 1, 1),
    "classifier.weight": (1000, 2048),
    "classifier.bias": (1000,),
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def stage2(base, tmp_path_factory) -> Path:
    """A stage-2 file as a GPU writes it: every storage says that it lived on cuda:0."""
    path = tmp_path_factory.mktemp("official") / "weights.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(base.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def stage1(base, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("official") / "stage1.pth"
    torch.save(base.encoder.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def constants(base) -> dict[str, torch.Tensor]:
    """The official names, each tensor one stored number, so that a file of them has only a megabyte."""
    own = base.state_dict()
    return {
        name: own[name] if name.endswith("_index") else torch.tensor(n % 97 + 1, dtype=own[name].dtype).expand(shape)
        for n, (name, shape) in enumerate(OFFICIAL.items())
    }


@pytest.fixture
def cfg_node(monkeypatch):
    """The class of yacs that HRFormer's training configuration has: a dictionary with attributes of its own."""

    class CfgNode(dict):
        def __init__(self, **entries):
            super().__init__(entries)
            self.__dict__.update(__immutable__=True, __deprecated_keys__=set(), __renamed_keys__={})

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    for name in ("yacs", "yacs.config"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["yacs.config"].CfgNode = CfgNode
    return CfgNode


def bare(tensors: dict) -> dict:
    return {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}


def save(path: Path, state, **options) -> Path:
    torch.save(state, path, **options)
    return path


# --- the layouts ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stage_2_file_computes_what_the_released_network_computes(base, stage2, tmp_path):
    out = tmp_path / "official.safetensors"
    facts = convert(stage2, out)
    model = MPC.from_pretrained(str(out))
    assert (model.size, model.head, model.recipe) == ("base", "4conv", {})
    theirs = base.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in model.state_dict().items())
    golden = np.load(GOLDEN / "hrformer_base.npz")
    images = torch.from_numpy(np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32))
    with torch.no_grad():
        expected = torch.from_numpy(golden["logits"])
        assert (model(images) - expected).norm() / expected.norm() < 1e-5
    source = {"file": "weights.pth", "bytes": stage2.stat().st_size, "sha256": sha256(stage2), "known": None}
    stored = {"source": source, "layout": "stage2", "stage": "finetune", "loaded": 2264}
    stored |= {"unused": [], "initialised": [], "size": "base", "head": "4conv"}
    assert facts == stored | {"out": {"file": str(out), "sha256": sha256(out)}}
    assert read_facts(out).items() >= {**stored, "recipe": {}}.items()
    localizer = Localizer.from_pretrained(str(out), device="cpu")
    assert (localizer.mode, localizer.size) == ("stretch", 512)  # the paper's way


@pytest.mark.slow
def test_the_two_heads_are_told_apart_by_one_shape(constants, tmp_path):
    with torch.device("meta"):
        head = {f"decoder.{n}": t for n, t in MPC.build("base", "5conv").decoder.state_dict().items()}
    assert tuple(head[module.HEAD_KEY].shape) == (64, 128, 1, 1)
    five = {n: t for n, t in constants.items() if n.startswith("encoder.")}
    five |= {n: torch.tensor(3, dtype=t.dtype).expand(t.shape) for n, t in head.items()}
    assert len(five) == 2271
    model, facts = read_official(save(tmp_path / "five.pth", five))
    assert (model.head, facts["loaded"], facts["initialised"]) == ("5conv", 2271, [])
    assert (model.state_dict()["decoder.classifier.14.bias"] == 3).all()
    model, facts = read_official(save(tmp_path / "four.pth", constants))
    assert (model.head, facts["loaded"], facts["unused"], facts["initialised"]) == ("4conv", 2264, [], [])
    assert all(torch.equal(tensor, constants[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_a_stage_1_file_gives_the_encoder_and_says_that_the_head_is_new(base, stage1, tmp_path):
    out, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    facts = convert(stage1, out)
    assert torch.equal(torch.rand(2), expected)  # the caller's random numbers are as if nothing had happened
    convert(stage1, again)
    assert sha256(out) == sha256(again)
    assert (facts["layout"], facts["stage"], facts["loaded"]) == ("stage1", "pretrain", 2236)
    assert facts["initialised"] == [name for name in OFFICIAL if name.startswith("decoder.")]
    ours, theirs = load_weights(out).encoder.state_dict(), base.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    recipe = load_recipe("quickstart", None, {"model.size": "base"})
    assert starting_model(recipe, out).size == "base"
    said = summary(facts)
    assert "not in the file, newly initialised: decoder.classifier.0.weight, " in said
    assert f"a start for training, not a detector: mpc-lite finetune --weights {out}" in said


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_the_imagenet_file_lacks_the_projections_and_has_heads_to_spare(constants, cfg_node, tmp_path, zipped):
    network = {n: t for n, t in bare(constants).items() if not n.startswith("convs.")}
    network |= {name: torch.zeros(()).expand(shape) for name, shape in HEADS.items()}
    config = cfg_node(MODEL=cfg_node(TYPE="hrt", DEPTHS=[[2], [2, 2]]), AMP_OPT_LEVEL="O1")
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    state = {"model": network, "optimizer": optimizer, "max_accuracy": 82.8, "epoch": 299, "config": config}
    path = save(tmp_path / "hrt_base.pth", state, _use_new_zipfile_serialization=zipped)
    model, facts = read_official(path)
    assert (facts["layout"], facts["stage"], facts["loaded"]) == ("imagenet", "initial", 2236 - 24)
    assert facts["unused"] == [*HEADS, "optimizer", "max_accuracy", "epoch", "config"]
    projections = [n for n in facts["initialised"] if n.startswith("encoder.")]
    assert projections == [n for n in OFFICIAL if n.startswith("encoder.convs.")] and len(projections) == 24
    assert facts["initialised"][24:] == [n for n in OFFICIAL if n.startswith("decoder.")]
    ours = model.encoder.state_dict()
    assert all(torch.equal(ours[n], t) for n, t in network.items() if n not in HEADS)
    assert 0.04 < ours["convs.0.conv.weight"].std() < 0.08  # PyTorch's uniform start, 1/sqrt(3·78), and no zeros
    said = summary({**facts, "size": "base", "head": "4conv", "out": {"file": "x", "sha256": "y"}})
    unused = "incre_modules (2 tensors), downsamp_modules, final_layer, classifier (2 tensors), optimizer, max_accuracy"
    assert f"in the file, not used: {unused}, epoch, config\n" in said
    assert "newly initialised: encoder.convs.0.conv.weight, encoder.convs.0.bn.weight, " in said
    assert "mpc-lite pretrain --weights x" in said


# --- files that do not fit ------------------------------------------------------------------------------------------


def set_item(name, value):
    return lambda state: {**state, name: value}


NAN = torch.tensor(float("nan")).expand(64)
MISFITS = {
    "missing": (lambda s: {n: t for n, t in s.items() if n != "bn1.bias"}, "1 missing: bn1.bias"),
    "foreign": (set_item("extra.weight", torch.zeros(1)), "1 unexpected: extra.weight"),
    "head of another stage": (set_item("decoder.x", torch.zeros(1)), "1 unexpected: decoder.x"),
    "shape": (set_item("bn1.bias", torch.zeros(32)), r"bn1.bias \(found \(32,\), expected \(64,\)\)"),
    "half": (set_item("bn1.bias", torch.zeros(64).half()), r"bn1.bias \(found torch.float16 .*expected torch.float32"),
    "sparse": (set_item("bn1.bias", torch.zeros(64).to_sparse()), r"bn1.bias \(found torch.float32 torch.sparse_coo"),
    "nan": (set_item("bn1.bias", NAN), r"1 tensors cannot be used: bn1.bias \(found NaN"),
    "number": (set_item("epoch", 3), "no tensors: epoch"),
    "windows": (
        set_item("stage2.0.branches.0.0.attn.attn.relative_position_index", torch.full((49, 49), 400)),
        r"relative_position_index \(found other positions",
    ),
    "list": (lambda s: list(s.values()), "found a list"),
    "training state": (
        lambda s: {"step": 3, "best": 0.5, "model": {"encoder.a": torch.zeros(1)}},
        "11.weight is missing",
    ),
    "projections": (lambda s: {"model": s | {"classifier.bias": NAN}}, r"also convs\.0\.bn\.bias, "),
    "foreign classifier": (
        lambda s: {"model": {n: t for n, t in s.items() if not n.startswith("convs.")} | {"fc.bias": NAN}},
        "1 unexpected: fc.bias",
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_named_and_nothing_is_written(name, constants, tmp_path):
    change, words = MISFITS[name]
    path = save(tmp_path / "odd.pth", change(bare(constants)))
    with pytest.raises(InputError, match=f"odd.pth(.|\n)*{words}(.|\n)*expected the HRFormer-B checkpoint"):
        convert(path, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == [path]


def under(key, **beside):
    return lambda state: {key: state, **beside}


def prefixed(prefix):
    return lambda state: {prefix + name: value for name, value in state.items()}


WRAPPERS = {
    "DataParallel": [prefixed("module.")],
    "torch.compile": [prefixed("_orig_mod.")],
    "both": [prefixed("_orig_mod."), prefixed("module.")],
    "state_dict": [under("state_dict", epoch=3, optimizer={})],
    "model": [under("model", epoch=3)],
    "a training state of DataParallel": [prefixed("module."), under("model", epoch=3)],
    "twice": [under("state_dict"), under("model")],
    "Lightning": [prefixed("model."), under("state_dict", epoch=3)],
    "Lightning, compiled": [prefixed("net._orig_mod."), under("state_dict", epoch=3)],
    "an averaged model": [prefixed("module."), lambda state: {"n_averaged": torch.tensor(3), **state}],
    "an encoder compiled alone": [
        lambda state: {n.replace("encoder.", "encoder._orig_mod."): value for n, value in state.items()}
    ],
}


@pytest.mark.trust
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("layout", ["stage1", "stage2"])
def test_what_others_put_around_the_weights_is_taken_off(wrapper, layout, constants):
    state = inner = bare(constants) if layout == "stage1" else dict(constants)
    for wrap in WRAPPERS[wrapper]:
        state = wrap(state)
    found, tensors, beside = module.sort_tensors(Path("x.pth"), state)
    assert found == layout and list(tensors) == list(inner)
    assert all(tensors[name] is inner[name] for name in inner)
    assert beside == [name for name in ("epoch", "optimizer", "n_averaged") if name in state]


def test_names_that_would_become_one_are_not_unwrapped(constants):
    name = next(iter(constants))
    with pytest.raises(InputError, match=re.escape("module." + name[:8])):
        module.sort_tensors(Path("x.pth"), {"module." + name: 0, "module._orig_mod." + name: 1})


@pytest.mark.parametrize("head", [None, (32, 128, 1, 1)])
def test_a_head_that_is_neither_of_the_two_is_refused(head, constants, tmp_path):
    state = {n: t for n, t in constants.items() if n != module.HEAD_KEY}
    if head:
        state[module.HEAD_KEY] = torch.zeros(head)
    found = re.escape(str(head or "missing"))
    with pytest.raises(InputError, match=rf"11\.weight is {found}; expected \(1, 128, 1, 1\) \(4conv\) or \(64, 128"):
        read_official(save(tmp_path / "odd.pth", state))


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.mkdir, eval, torch.hub.load])
def test_a_malicious_pickle_is_refused_and_not_run(function, zipped, tmp_path):
    made = tmp_path / "made"
    attack = Attack(function, f"__import__('os').mkdir({str(made)!r})" if function is eval else str(made))
    state = {"conv1.weight": torch.zeros(1), "epoch": attack}
    path = save(tmp_path / "evil.pth", state, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"evil\.pth asks for \S*(mkdir|eval|load) while it is read; expected"
    ) as error:
        read_official(path)
    assert "weights_only" not in str(error.value) and error.value.__cause__ is None  # PyTorch's advice is not ours
    assert not made.exists()


def repacked(path: Path, change) -> Path:
    """A zip file written anew: `change` is given its records, [(name, content)], and the archive to write to."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        change(records, archive)
    return path


def compress(records, archive):
    for name, content in records:
        longer = bytes(2**24) if name.endswith("data/0") else content
        archive.writestr(name, longer, zipfile.ZIP_DEFLATED)


def lay_on_one_another(records, archive):
    for name, content in records:
        archive.writestr(name, content)
    entries = archive.filelist  # what becomes the directory at the end
    entries += [next(e for e in entries if e.filename.endswith("data/0"))] * 100


@pytest.mark.trust
@pytest.mark.parametrize(
    ("change", "words"),
    [(compress, "holds compressed records, and torch.save"), (lay_on_one_another, "bytes, and its records [0-9]+;")],
)
def test_records_longer_than_their_file_are_refused_unread(change, words, tmp_path, monkeypatch):
    path = repacked(save(tmp_path / "bomb.pth", {"encoder.x": torch.zeros(1000)}), change)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=words):
        read_official(path)


@pytest.mark.trust
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("depth", [20, 60])  # their texts would be megabytes, or an exabyte that is hashed before
def test_tuples_that_hold_themselves_twice_again_and_again_are_refused_unread(depth, zipped, tmp_path):
    names = 60
    for _ in range(depth):
        names = (names, names)
    path = save(tmp_path / "deep.pth", {"x": names}, _use_new_zipfile_serialization=zipped)  # nothing is hashed yet
    with pytest.raises(InputError, match=r"deep\.pth holds tuples within tuples, of [0-9]+ places in all; expected"):
        read_official(path)


@pytest.mark.trust
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}])
@pytest.mark.parametrize("key", [3, ("a",), None, 10**400])
def test_names_that_are_no_texts_are_refused(wrap, key, tmp_path):
    path = save(tmp_path / "odd.pth", wrap({"encoder.x": torch.zeros(1), key: torch.zeros(1)}))
    with pytest.raises(InputError, match=r"odd\.pth has entries whose names are no texts"):
        read_official(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0, 3, 40, 400, 2000, -1])
def test_a_truncated_file_is_called_damaged(zipped, keep, tmp_path):
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(1000)}, buffer, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "cut.pth"
    path.write_bytes(buffer.getvalue()[:keep])
    size = path.stat().st_size
    with pytest.raises(InputError, match=rf"cut\.pth \({size} bytes\) is damaged.*stage1_weights.pth has 179812573"):
        read_official(path)


def test_a_checkpoint_of_our_own_is_no_trained_network(tmp_path):
    """Of stage 1, its head is random; the layout is that of a whole network of the released code."""
    model = MPC.build("base", "4conv")
    state = {"stage": "pretrain", "step": 3, "recipe": "{}", "optimizer": {}, "model": model.state_dict()}
    torch.save(state, tmp_path / "pretrain.state")
    with pytest.raises(
        InputError, match=r"is a checkpoint of a training by mpc_lite, which goes on from it with --resume"
    ):
        read_official(tmp_path / "pretrain.state")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "stage2.pth")
    with pytest.raises(InputError, match=r"cannot read .*a pipe or a device"):
        read_official(tmp_path / "stage2.pth")


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "x.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:5a8a\nsize 179812573\n")
    with pytest.raises(InputError, match="is a Git LFS pointer"):
        read_official(path)
    path.write_text("<html>Please sign in</html>")
    with pytest.raises(InputError, match="is damaged or not a file of"):
        read_official(path)
    with pytest.raises(InputError, match=r"cannot read .*none\.pth: No such file"):
        read_official(tmp_path / "none.pth")
    with pytest.raises(InputError, match="is a folder; expected a checkpoint"):
        read_official(tmp_path)


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_known_files_are_called_by_their_names(constants, tmp_path, monkeypatch):
    assert all(re.fullmatch("[0-9a-f]{64}", digest) and size > 1e8 for digest, (_, size) in module.KNOWN.items())
    path = save(tmp_path / "renamed.pth", constants)
    more = {"size": "base", "head": "4conv", "out": {"file": "x", "sha256": "y"}}
    for digest, size, words in (
        ("0" * 64, 5, "not a file known by its sha256"),
        ("0" * 64, path.stat().st_size, "as long as official.pth, but with another sha256: not that file"),
        (sha256(path), path.stat().st_size, "recognised as official.pth"),
    ):
        monkeypatch.setattr(module, "KNOWN", {digest: ("official.pth", size)})
        facts = read_official(path)[1]
        assert facts["source"]["known"] == ("official.pth" if "recognised" in words else None)
        assert f"bytes, sha256 {sha256(path)}, {words}" in summary({**facts, **more}).splitlines()[0]


@pytest.mark.slow
def test_the_command_prints_both_digests_and_commands_load_the_result(constants, tmp_path, capsys):
    path, out = save(tmp_path / "official.pth", constants), tmp_path / "new" / "mpc.safetensors"
    assert main(["convert", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"official.pth: {path.stat().st_size} bytes, sha256 {sha256(path)}, not a file known" in said
    assert "stage 2 of the released code, encoder and head; network base, head 4conv\nloaded: 2264 tensors\n" in said
    assert "not used: nothing\nnot in the file, newly initialised: nothing\n" in said
    assert said.endswith(f"written: {out}, sha256 {sha256(out)}\n") and "not a detector" not in said
    # Not a mistake in the weights: they were loaded, and then there was no photograph.
    assert main(["predict", str(tmp_path / "no.jpg"), "--weights", str(out), "--out", str(tmp_path / "p")]) == 1


def test_the_original_is_never_overwritten(constants, tmp_path, capsys):
    path = save(tmp_path / "official.pth", constants)
    before = sha256(path)
    (tmp_path / "link.safetensors").symlink_to(path)
    for out in (path, tmp_path / "link.safetensors"):
        assert main(["convert", str(path), "--out", str(out)]) == 2
        assert "is read here" in capsys.readouterr().err
    assert sha256(path) == before
