"""The ONNX file says what the network says, says nothing about the machine it was made on, and runs without traces."""

import getpass
import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.inference.export import export, without_folders
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.checks import LONGEST_FACTS
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import network_of, pretrained_file, save_weights

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: pip install 'mpc-lite[onnx]'")
pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed: pip install 'mpc-lite[onnx]'")

from mpc_lite.inference import graph_check, onnx_backend  # noqa: E402 (needs onnx)
from mpc_lite.inference.graph import network_graph  # noqa: E402
from mpc_lite.inference.onnx_backend import OnnxNetwork  # noqa: E402

ROOT = Path(__file__).parents[2]
# (height, width): square, long and narrow; maps that windows of 7 fit at some scales, and others that they do not
SIDES = [(32, 32), (64, 64), (32, 96), (128, 32), (96, 64), (224, 32), (32, 160), (64, 96), (32, 256), (96, 96)]


def network(size: str, head: str = "4conv") -> MPC:
    """Random weights, with statistics and affine parameters of norms far from 0 and 1."""
    torch.manual_seed(0)
    model = MPC.build(size, head).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.2)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.Conv2d | nn.Linear):  # of a scale at which the answers of different pixels differ
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if hasattr(module, "relative_position_bias_table"):
            nn.init.normal_(module.relative_position_bias_table)
    return model


def own_file(model: MPC) -> bytes:
    return network_graph(model, {"recipe": {}, "size": model.size, "head": model.head})


def images(height: int, width: int, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def photo(height: int, width: int) -> np.ndarray:
    return (images(height, width)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export("lite", path) == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("size, head", [("nano", "4conv"), ("nano", "5conv"), ("small", "4conv"), ("base", "4conv")])
def test_logits_and_embeddings_are_those_of_the_network(size, head):
    model = network(size, head)
    session = OnnxNetwork(own_file(model)).session
    for i, (height, width) in enumerate(SIDES):
        x = images(height, width, n=2 if i == 0 else 1)
        logits, embeddings = session.run(["logits", "embeddings"], {"images": x.numpy()})
        expected = model(x).numpy()
        assert logits.shape == expected.shape and expected.std() > 0.01
        assert np.abs(logits - expected).max() <= 1e-4, (height, width)
        finest = model.encode(x)[0].numpy()
        assert np.abs(embeddings - finest).max() <= 1e-4 * max(1, np.abs(finest).max()), (height, width)


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        network_graph(MPC.build("nano").train(), {})


@pytest.mark.slow
@pytest.mark.parametrize("mode, shape", [("tiles", (300, 250)), ("pad", (70, 90)), ("stretch", (100, 60))])
def test_a_localizer_gives_the_same_maps(mode, shape):
    ways = [Localizer.from_pretrained("lite", mode, "cpu", backend) for backend in ("torch", "onnx")]
    assert ways[0].size == ways[1].size == 192 and ways[0].overlap == ways[1].overlap == 96
    a, b = (way(photo(*shape)).score_map for way in ways)
    assert a.shape == b.shape == shape and a.std() > 1e-3
    assert np.abs(a - b).mean() <= 1e-5  # the goal is 1e-3


@pytest.mark.slow
def test_an_exported_file_is_a_network_too(exported):
    a, b = (Localizer.from_pretrained(name, backend="onnx") for name in ("lite", str(exported)))
    assert np.array_equal(a(photo(200, 200)).score_map, b(photo(200, 200)).score_map)
    assert b.mode == "tiles" and b.size == 192
    other = OnnxNetwork(own_file(network("nano")))
    others = Localizer(other, "tiles", 192, 96), Localizer.from_pretrained("lite", device="cpu")
    assert len({x.fingerprint for x in (b, *others)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_batch_is_the_same_whoever_computes_its_images(threads):
    """Images side by side, a thread or several each, a batch that does not divide evenly, and one image."""
    before = torch.get_num_threads()
    batch = torch.cat([images(64, 96, 3), images(64, 96, 2) * 0.5])
    data = own_file(network("nano"))
    alone = OnnxNetwork(data)
    torch.set_num_threads(threads)
    try:
        several = OnnxNetwork(data)
        expected = torch.cat([alone(image[None]) for image in batch])
        for n in (5, 3, 1):
            assert torch.allclose(several(batch[:n]), expected[:n], atol=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_sides_that_are_no_multiple_of_32_are_named():
    localizer = Localizer(OnnxNetwork.from_pretrained("lite"), "tiles", size=100)
    with pytest.raises(InputError, match=r"100×100.*multiples of 32"):
        localizer(photo(100, 100))


# ------------------------------------------------------------------------------------------------------------ the file


def test_one_file_and_equal_bytes(exported, tmp_path):
    export("lite", tmp_path / "again.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()
    model = onnx.load_model(exported, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert {x.data_type for x in model.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert [(x.domain, x.version) for x in model.opset_import] == [("", 20)]
    assert {x.name for x in model.graph.input} == {"images"}
    assert [x.name for x in model.graph.output] == ["logits", "embeddings"]
    assert exported.stat().st_size < 1.02 * pretrained_file("lite").stat().st_size


@pytest.mark.slow
def test_nothing_of_the_machine_is_in_the_file(tmp_path, monkeypatch):
    recipe = {"data": {"manifest": "/home/alice/secret/list.csv", "photos": r"C:\Users\alice\shots", "more": "~/x/y"}}
    save_weights(tmp_path / "alice.safetensors", network("nano"), recipe, stage="finetune")
    export(tmp_path / "alice.safetensors", tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    model = onnx.load_model_from_string(data)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # random bytes spell short words
    names = [getpass.getuser(), socket.gethostname(), str(Path.home()), str(ROOT), sys.prefix, str(tmp_path)]
    source = ["alice", "secret", "/tmp", "/usr", "/home", "Users", ".py", "import ", "def ", "self.", "site-packages"]
    text = model.SerializeToString()
    assert [word for word in names + source if word.encode() in text] == []
    assert [word for word in names + source if len(word) > 7 and word.encode() in data] == []
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node) and not model.doc_string
    assert b"list.csv" in data and b"shots" in data


@pytest.mark.parametrize(
    "value, kept",
    [
        ("/a/b/c.csv", "c.csv"),
        ("~/b", "b"),
        (r"C:\a\b", "b"),
        (r"\\host\share\b", "b"),
        ("lists/a.csv", "lists/a.csv"),
        ("$MPC_LITE_DATA/photos", "$MPC_LITE_DATA/photos"),
        ("one sentence: a/b", "one sentence: a/b"),
        (3, 3),
    ],
)
def test_folders_are_cut_off(value, kept):
    assert without_folders({"a": [value, {"b": value}]}) == {"a": [kept, {"b": kept}]}


@pytest.mark.slow
def test_metadata(tmp_path):
    Image.fromarray(photo(64, 64)).save(tmp_path / "a.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    (tmp_path / "list.csv").write_text("image,mask,label,source\na.png,m.png,1,ours\n")
    table = evaluate(Localizer.from_pretrained("lite", backend="onnx"), tmp_path / "list.csv")
    table["weights"] = network_of("lite")
    (tmp_path / "scores.json").write_text(json.dumps(table))
    (tmp_path / "both.json").write_text(
        json.dumps({"protocols": {"mpc": table, "macro": {**table, "protocol": "macro"}}})
    )
    export("lite", tmp_path / "model.onnx", [tmp_path / "scores.json", tmp_path / "both.json"])
    stored = onnx.load_model(tmp_path / "model.onnx").metadata_props
    facts = {entry.key: json.loads(entry.value) for entry in stored}
    assert facts["sha256"] == hashlib.sha256(pretrained_file("lite").read_bytes()).hexdigest()
    assert facts["recipe"]["name"] == "lite" and facts["recipe"]["evaluate"]["size"] == 192
    assert (facts["size"], facts["head"], facts["opset"]) == ("nano", "4conv", 20)
    result, *both = facts["results"]
    assert both == [result, {**result, "protocol": "macro"}]
    assert result["protocol"] == "mpc" and result["sets"]["ours"]["f1"] == table["sets"]["ours"]["f1"]


@pytest.mark.trust
def test_scores_of_something_else_are_not_stored_with_the_weights(tmp_path):
    scores = dict.fromkeys(("protocol", "manifest", "split", "sets", "average", "image_level"))
    for more, said in (
        ({}, "holds scores and does not say of which weights; give those of"),
        ({"weights": network_of("lite2")}, "holds scores of other weights; give those of"),
        ({"weights": network_of("lite"), "maps": {"resized": 0}}, "holds the scores of another detector's maps"),
    ):
        for content in ({**scores, **more}, {"protocols": {"mpc": {**scores, **more}}}):
            (tmp_path / "scores.json").write_text(json.dumps(content))
            with pytest.raises(InputError, match=said):
                export("lite", tmp_path / "model.onnx", [tmp_path / "scores.json"])
    assert not (tmp_path / "model.onnx").exists()


def test_what_cannot_be_exported_or_read_is_said(tmp_path):
    with pytest.raises(InputError, match="no shipped weights 'light'"):
        export("light", tmp_path / "model.onnx")
    scores = dict.fromkeys(("protocol", "manifest", "split", "sets", "average", "image_level"))
    deep = json.dumps({**scores, "weights": network_of("lite")}).replace("null", "[" * 150 + "]" * 150, 1)
    for content in ("[]", "[" * 90_000, deep):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(InputError, match=r"scores\.json is not a file that 'mpc-lite evaluate --json' wrote"):
            export("lite", tmp_path / "model.onnx", [tmp_path / "scores.json"])
    with pytest.raises(InputError, match="cannot read"):
        export("lite", tmp_path / "model.onnx", [tmp_path / "gone.json"])
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(InputError, match="a pipe or a device"):
            export("lite", tmp_path / "model.onnx", [tmp_path / "pipe.json"])
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_that_is_not_ours_is_refused(exported, tmp_path):
    foreign = onnx.load_model(exported)
    del foreign.metadata_props[:]
    files = {
        "empty": b"",
        "text": b"no model",
        "cut": exported.read_bytes()[:5000],
        "foreign": foreign.SerializeToString(),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}\.onnx is no ONNX file that this version"):
            Localizer.from_pretrained(str(tmp_path / f"{name}.onnx"), backend="onnx")
    with pytest.raises(InputError, match=r"model\.onnx is an ONNX file; .* takes it with --backend onnx"):
        Localizer.from_pretrained(str(exported))
    with pytest.raises(InputError, match=r"cannot read .*gone"):
        Localizer.from_pretrained(str(tmp_path / "gone.onnx"), backend="onnx")


def drawn(graph: str, opset: int = 20) -> bytes:
    """A model in ONNX's text form, with the metadata of an exported file."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> agraph {graph}')
    for key, value in {"recipe": {}, "size": "nano", "head": "4conv"}.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    return model.SerializeToString()


HALF = "pooled = AveragePool <kernel_shape = [4, 4], strides = [4, 4]> ({}) logits = ReduceMean <axes = [1]> (pooled)"
POOLED = HALF.format("images")
FOREIGN = {  # graph -> what the message finds
    f"(float[b,3,h,w] x) => (float[b,1,p,q] logits) {{ {HALF.format('x')} }}": r"its inputs are x float \(b,3,h,w\)",
    f"(float[b,3,h,w] images, float[1] y) => (float[b,1,p,q] logits) {{ {POOLED} }}": r"inputs are .*, y float \(1\)",
    f"(float16[b,3,h,w] images) => (float16[b,1,p,q] logits) {{ {POOLED} }}": r"inputs are images float16",
    f"(float[1,3,256,256] images) => (float[1,1,64,64] logits) {{ {POOLED} }}": r"float \(1,3,256,256\), expected",
    f"(float[batch,3,height,width] images) => (float[b,3,p,q] pooled) {{ {POOLED} }}": "outputs are pooled float",
}


@pytest.mark.trust
@pytest.mark.parametrize("graph", FOREIGN)
def test_a_graph_with_other_ends_is_refused_when_it_is_opened(graph):
    with pytest.raises(
        InputError, match=rf"m\.onnx is no ONNX file that this .*{FOREIGN[graph]}.*make one with"
    ) as error:
        OnnxNetwork(drawn(graph), "m.onnx")
    assert "\n" not in str(error.value)


def enlarge(model):
    """The smallest change: one stored number of a Resize, with which a map has a million times as many pixels."""
    resize = next(n for n in model.graph.node if n.op_type == "Resize" and len(n.input) == 3)
    scales = np.array([1, 1, 1000, 1000], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, "more"))
    resize.input[2] = "more"


def fill(model):
    """Gigabytes out of three numbers."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([700, 1000, 1000]), "sides"))
    model.graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["sides"], ["filled"], name="filled"))


def escape(model):
    model.graph.node[3].name = "\x1b]0;TITLE\x07\x1b[2J"


def escaped_operator(model):
    model.graph.node[3].op_type = "\x1b[2J"


def swap_inputs(model):
    node = next(n for n in model.graph.node if n.op_type == "MatMul")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def leave_the_file(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")


def branch(model):
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", onnx.GraphProto()))


def foreign_domain(model):
    model.graph.node[0].domain = "somebody"


def foreign_opset(model):
    model.opset_import.add(domain="somebody", version=1)


def own_function(model):
    model.functions.add(name="Conv", domain="")


def more_weights(model):
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(5, np.float32), "unused"))


def weights_of_another_shape(model):
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    tensor.dims[0] *= 2
    tensor.raw_data = tensor.raw_data * 2


def short_weights(model):
    model.graph.initializer[0].raw_data = b""


def default_image(model):
    tensor = next(t for t in model.graph.initializer if t.name in model.graph.node[-1].input)
    model.graph.node[-1].input[1] = tensor.name = "images"


def other_network(model):
    next(entry for entry in model.metadata_props if entry.key == "size").value = '"small"'


def neighbour(model):
    next(entry for entry in model.metadata_props if entry.key == "head").value = '"mscc"'


def without_size(model):
    model.metadata_props.remove(next(entry for entry in model.metadata_props if entry.key == "size"))


CHANGES = {
    enlarge: "Resize, is not the Resize",
    fill: "nodes, expected [0-9]+ of a network of size nano with head 4conv",
    escape: "node 3, .*is not",
    escaped_operator: r"node 3, \\x1b\[2J, is not the",
    swap_inputs: "MatMul, is not the MatMul",
    leave_the_file: "it has data_location, external_data, which",
    branch: "node 0, .* is not the",
    foreign_domain: "node 0, .* is not the",
    foreign_opset: "it has opset 20, somebody 1, IR version 9, expected 20, IR version 9",
    own_function: "it has functions, which",
    more_weights: "it stores what no node uses",
    weights_of_another_shape: "is not the Conv",
    short_weights: "is not the",
    default_image: "one name twice",
    other_network: "its outputs are",
    neighbour: "it holds a network of head mscc, expected 4conv, 5conv",
    without_size: "it holds no size",
}


@pytest.mark.trust
@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_that_is_not_the_networks_is_refused_before_it_is_run(change, exported, monkeypatch):
    monkeypatch.setattr(OnnxNetwork, "_session", lambda *_: pytest.fail("onnxruntime was given the graph"))
    model = onnx.load_model(exported)
    change(model)
    with pytest.raises(InputError, match=rf"m\.onnx is no ONNX file that .*{CHANGES[change]}.*make one with") as error:
        OnnxNetwork(model.SerializeToString(), "m.onnx")
    assert str(error.value).isprintable()


@pytest.mark.trust
def test_what_onnx_passes_over_is_refused(exported):
    with pytest.raises(InputError, match="it has parts that the format does not have"):
        OnnxNetwork(exported.read_bytes() + b"\xc0\x3e\x01", "m.onnx")  # field 1000 of the outermost message


PLACES = {  # what may stand in a file any number of times, most of it in two bytes; None: a message
    "file": (lambda m: m, dict.fromkeys(("opset_import", "metadata_props", "functions", "training_info"))),
    "graph": (lambda m: m.graph, dict.fromkeys(("node", "initializer", "input", "value_info", "sparse_initializer"))),
    "node": (lambda m: m.graph.node[0], {"input": "", "output": "", "attribute": None, "metadata_props": None}),
    "tensor": (
        lambda m: m.graph.initializer[0],
        {"dims": 0, "float_data": 0, "string_data": b"", "external_data": None},
    ),
    "type": (lambda m: m.graph.input[0].type.tensor_type.shape, {"dim": None}),
}


@pytest.mark.trust
@pytest.mark.parametrize("place", PLACES)
def test_parts_without_end_are_counted_before_protobuf_makes_them(place, exported, monkeypatch):
    """Two bytes of a file are an empty node, which takes some hundred in memory."""
    of, fields = PLACES[place]
    graph_check.check_parts(exported.read_bytes())
    monkeypatch.setattr(graph_check, "MOST_PARTS", 8300)
    graph_check.check_parts(exported.read_bytes())
    for field, value in fields.items():
        model = onnx.load_model(exported)
        values = getattr(of(model), field)
        for _ in range(300):
            values.add() if value is None else values.append(value)
        data = model.SerializeToString()
        with monkeypatch.context() as patch, pytest.raises(InputError, match=r"m\.onnx .* has more than 8300 parts"):
            patch.setattr(onnx, "load_model_from_string", lambda _: pytest.fail("protobuf was given the file"))
            OnnxNetwork(data, "m.onnx")


@pytest.mark.trust
@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x05\x0a",  # a graph longer than the file
        b"\x3a\x02\x0a\x01",  # a node longer than its graph
        b"\x0b\x0c",  # a group
        b"\x80" * 20 + b"\x00",  # numbers of too many bytes
        b"\xba\x80\x80\x80\x80\x01\x00",
        b"\x08",  # and of too few
        b"\x0d\x00",
    ],
)
def test_bytes_that_are_no_message_are_not_counted(data):
    with pytest.raises(ValueError, match="it is damaged, or no message of protobuf"):
        graph_check.check_parts(data)


@pytest.mark.trust
def test_a_file_longer_than_that_of_any_network_is_refused_unread(exported, monkeypatch):
    size = exported.stat().st_size
    monkeypatch.setattr(onnx_backend, "LONGEST", size)
    OnnxNetwork.from_pretrained(exported)
    monkeypatch.setattr(onnx_backend, "LONGEST", size - 1)
    monkeypatch.setattr(onnx, "load_model_from_string", lambda _: pytest.fail("protobuf was given the file"))
    with pytest.raises(InputError, match=rf"model\.onnx .* has more than {size - 1} bytes"):
        OnnxNetwork.from_pretrained(exported)


@pytest.mark.trust
def test_words_of_megabytes_are_neither_read_nor_written(exported, tmp_path):
    model = onnx.load_model(exported)
    model.metadata_props.add(key="note", value=json.dumps("x" * LONGEST_FACTS))
    with pytest.raises(
        InputError, match=r"m\.onnx .* \(what it says of itself has [0-9]{7} letters, at most 4194304\)"
    ):
        OnnxNetwork(model.SerializeToString(), "m.onnx")
    scores = dict.fromkeys(
        ("protocol", "manifest", "split", "sets", "average", "image_level"), "x" * (LONGEST_FACTS // 6)
    )
    (tmp_path / "scores.json").write_text(json.dumps({**scores, "weights": network_of("lite")}))
    with pytest.raises(
        InputError, match=r"an ONNX file of lite would say of itself has .* give fewer or shorter results"
    ):
        export("lite", tmp_path / "model.onnx", [tmp_path / "scores.json"])
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.trust
def test_metadata_nested_without_end_is_refused(exported):
    for text in ("[" * 150 + "]" * 150, "[" * 90_000):
        model = onnx.load_model(exported)
        model.metadata_props.add(key="note", value=text)
        with pytest.raises(InputError, match=r"m\.onnx is no ONNX file that .* \(nested more than 100 deep\)"):
            OnnxNetwork(model.SerializeToString(), "m.onnx")


@pytest.mark.trust
def test_other_weights_are_another_file_of_ours(exported):
    """Names and order of what is stored depend on which weights are equal."""
    model = onnx.load_model(exported)
    tensors = sorted(model.graph.initializer, key=lambda tensor: tensor.name)
    names = {tensor.name: f"other_{i}" for i, tensor in enumerate(tensors)}
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    a, b = OnnxNetwork(exported.read_bytes()), OnnxNetwork(model.SerializeToString())
    assert torch.equal(a(images(64, 64)), b(images(64, 64)))


@pytest.mark.trust
def test_a_run_that_fails_is_a_sentence(exported, monkeypatch):
    class Full:
        def run(self, *_):
            raise RuntimeError("Failed to allocate \x1b[2J\nmemory")

    network = OnnxNetwork(exported.read_bytes(), "m.onnx")
    monkeypatch.setattr(network, "_session", lambda *_: Full())
    said = r"m\.onnx: onnxruntime cannot compute an image of 96×64 pixels \(Failed to allocate \\x1b\[2J\); choose"
    with pytest.raises(InputError, match=said):
        network(images(64, 96))


@pytest.mark.trust
@pytest.mark.parametrize("evaluate", [{"mode": "tiles", "size": 30000, "overlap": 0}, {"size": "x"}, 3])
def test_the_recipe_in_a_file_is_checked_as_that_of_weights_is(exported, tmp_path, evaluate):
    model = onnx.load_model(exported)
    (recipe,) = (entry for entry in model.metadata_props if entry.key == "recipe")
    recipe.value = json.dumps({**json.loads(recipe.value), "evaluate": evaluate})
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"other\.onnx says what cannot be: recipe\.evaluate"):
        Localizer.from_pretrained(str(tmp_path / "other.onnx"), backend="onnx")


# --------------------------------------------------------------------------------------------------------- the runtime


def test_backends_and_devices_that_do_not_go_together():
    with pytest.raises(InputError, match="backend 'tensorflow' is unknown; choose one of torch, onnx"):
        Localizer.from_pretrained("lite", backend="tensorflow")
    with pytest.raises(InputError, match="computes on the CPU alone"):
        Localizer.from_pretrained("lite", device="cuda", backend="onnx")


@pytest.mark.slow
def test_without_its_packages_the_message_says_how_to_install_them():
    code = """
import sys
from mpc_lite.inference.localizer import Localizer
from mpc_lite.errors import InputError
for package in ("onnx", "onnxruntime"):
    sys.modules[package] = None  # what Python does when a package is not there
    try:
        Localizer.from_pretrained("lite", backend="onnx")
    except InputError as error:
        print(error)
    del sys.modules[package]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for package, line in zip(("onnx", "onnxruntime"), done.stdout.splitlines(), strict=True):
        assert f"package {package};" in line and "pip install 'mpc-lite[onnx]'" in line


@pytest.mark.slow
def test_a_run_leaves_nothing_in_a_fresh_home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = """
import sys, numpy as np
from mpc_lite.inference.localizer import Localizer
assert "onnxruntime" not in sys.modules
print(Localizer.from_pretrained("lite", backend="onnx")(np.zeros((64, 64, 3), np.uint8)).score)
import os, onnxruntime
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    environment = {**keep, "HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) <= 1
    assert list(home.rglob("*")) == []


@pytest.mark.slow
def test_the_commands(tmp_path, capsys):
    Image.fromarray(photo(200, 210)).save(tmp_path / "a.png")
    assert main(["export", "--out", str(tmp_path / "m.onnx")]) == 0
    assert hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest() in capsys.readouterr().out
    lines = {}
    for name in ("lite2", str(tmp_path / "m.onnx")):
        words = ["--backend", "onnx", "--weights", name, "--out", str(tmp_path / "found")]
        assert main(["predict", str(tmp_path / "a.png"), *words]) == 0
        lines[name] = json.loads((tmp_path / "found" / "predictions.jsonl").read_text())
    assert lines["lite2"]["score"] == lines[str(tmp_path / "m.onnx")]["score"] > 0
    assert main(["predict", str(tmp_path / "a.png"), "--backend", "tf", "--out", str(tmp_path / "x")]) == 2
    assert "choose one of torch, onnx" in capsys.readouterr().err
