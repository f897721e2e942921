"""Weight files from strangers: what they say of themselves must not decide memory, time or a traceback."""

import hashlib
import json
from typing import get_args

import numpy as np
import pytest
import safetensors.torch
import torch

from mpc_lite.errors import InputError
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network import checks
from mpc_lite.network.checks import LONGEST_FACTS, LONGEST_TEXT, MOST_SCORES, STAND_INS, check_sections
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.network.weights import fingerprint, pretrained_file, read_facts, read_weights, save_weights
from mpc_lite.recipes.keys import Recipe, Section
from mpc_lite.recipes.load import load_recipe
from mpc_lite.recipes.yaml_text import LONGEST

pytestmark = pytest.mark.trust
FACTS = {"version": "0.1.0", "size": "nano", "head": "4conv", "recipe": {}}


@pytest.fixture(scope="module")
def tensors():
    return read_weights("lite-initial")[1]


def write(path, tensors, **facts):
    about = json.dumps({**FACTS, **facts})
    safetensors.torch.save_file(tensors, path, metadata={"mpc_lite": about})
    return path


EVALUATE = {"mode": "stretch", "size": 512, "overlap": 0}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"evaluate": {**EVALUATE, "size": 30_000}}, r"recipe.evaluate.size: found 30000; .*2048"),
        ({"evaluate": {**EVALUATE, "size": 10**400}}, "recipe.evaluate.size: found 1000"),
        ({"evaluate": {**EVALUATE, "size": "512"}}, "recipe.evaluate.size: found '512'"),
        ({"evaluate": {**EVALUATE, "size": 512.5}}, "recipe.evaluate.size"),
        ({"evaluate": {**EVALUATE, "size": None}}, "recipe.evaluate.size"),
        ({"evaluate": {**EVALUATE, "size": [512]}}, "recipe.evaluate.size"),
        ({"evaluate": {**EVALUATE, "mode": "tiles", "overlap": 511}}, "three quarters"),
        ({"evaluate": {**EVALUATE, "mode": 7}}, "recipe.evaluate.mode"),
        ({"evaluate": [1, 2]}, "recipe.evaluate"),
        ({"pretrain": {"steps": 5, "learning_rate": float("inf")}}, "recipe.pretrain.learning_rate: found inf"),
        ("lite", "recipe: found 'lite'"),
        (None, "recipe: found None"),
        ({"name": ["a"] * 10_000}, "recipe.name"),
        # An unknown or a missing key switches off no rule between keys, of a section or of the whole.
        ({"evaluate": {"mode": "tiles", "size": 64, "overlap": 63, "x": 1}}, "three quarters"),
        ({"evaluate": {"mode": "tiles", "overlap": 511}, "x": {}}, "three quarters"),
        ({"data": {"repeats": {"a": 0}, "x": 1}}, "recipe.data: repeats count how often"),
        ({"pretrain": {"terms": ["within_image"] * 2, "schedule": {"x": 1}}}, "recipe.pretrain: each term once"),
        ({"mscc": {}, "pppc": {}}, "recipe: mscc and pppc are stages of different methods"),
        ({"adapt": {"cache_features": True}}, "recipe: adapt.cache_features needs maps that stay the same"),
        ({"data": {"repeats": {"\x1b[2J" * 100: "a"}}}, r"recipe.data.repeats.\\x1b\[2J.*found 'a'"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_short_sentence(recipe, words, tensors, tmp_path):
    path = write(tmp_path / "w.safetensors", tensors, recipe=recipe)
    for read in (read_facts, load_weights):
        with pytest.raises(InputError, match=words) as refusal:
            read(path)
        assert len(str(refusal.value)) < 1000 and "train or download it anew" in str(refusal.value)


@pytest.mark.parametrize(("key", "value"), [("stage", 3), ("stage", []), ("size", {"nano": 1}), ("head", None)])
def test_wrong_types_of_other_facts_are_told(key, value, tensors, tmp_path):
    with pytest.raises(InputError, match=key):
        read_facts(write(tmp_path / "w.safetensors", tensors, **{key: value}))


@pytest.mark.slow
def test_metadata_nested_without_end_is_no_metadata_of_ours(tensors, tmp_path):
    path = tmp_path / "w.safetensors"
    deep = (
        json.dumps(FACTS)[:-1] + ', "note": ' + "[" * 150 + "]" * 150 + "}"
    )  # json reads that, and what walks it fails
    for about in ("[" * 200_000, deep):
        safetensors.torch.save_file(tensors, path, metadata={"mpc_lite": about})
        with pytest.raises(InputError, match="does not say that mpc_lite wrote it"):
            read_facts(path)


def test_words_of_megabytes_are_neither_read_nor_written(tensors, tmp_path):
    path = write(tmp_path / "w.safetensors", tensors, note="x" * LONGEST_FACTS)
    for read in (read_facts, load_weights):
        with pytest.raises(
            InputError, match=r"w\.safetensors says [0-9]{7} bytes of itself and its tensors, expected at"
        ):
            read(path)
    with pytest.raises(InputError, match=r"cannot write .*n\.safetensors: what it would say .*, and 4194304 are read"):
        save_weights(tmp_path / "n.safetensors", MPC.build("nano"), {}, note="x" * LONGEST_FACTS)
    assert not (tmp_path / "n.safetensors").exists()


def test_the_longest_facts_of_ours_pass(tensors, tmp_path):
    """As many scores as a calibration may have, of as many digits as a number has, and a recipe as long as any."""
    scores = [float(x) for x in np.linspace(1e-5, 9e-5, MOST_SCORES)]
    calibration = {"scores": scores, "photographs": "x" * LONGEST_TEXT, "mode": "tiles", "size": 96, "overlap": 0}
    facts = {"calibration": calibration, "recipe": {"description": "\U0001f4f7" * (LONGEST // 4)}}
    read = read_facts(write(tmp_path / "w.safetensors", tensors, **facts))
    assert len(json.dumps(read["calibration"])) > 2**21 and read["recipe"] == facts["recipe"]


@pytest.mark.parametrize("section", ["recipe", "calibration"])
def test_values_without_end_are_counted_before_each_is_judged(section, tensors, tmp_path, monkeypatch):
    """Each wrong one of a million is a sentence of a kilobyte, of which ten are shown."""
    values = {str(i): 1.0 for i in range(50)}
    recipe = {"data": {"real": {"lists": ["a.csv"], "weights": values}, "repeats": {str(i): 1 for i in range(50)}}}
    calibration = {"scores": [0.5] * 101, "photographs": "x", "mode": "tiles", "size": 96, "overlap": 0}
    path = write(tmp_path / "w.safetensors", tensors, **{"recipe": {}, section: locals()[section]})
    read_facts(path)
    monkeypatch.setattr(checks, "MOST_VALUES", 100)
    with pytest.raises(InputError, match=f"w.safetensors says what cannot be: {section}: more than 100 values; train"):
        read_facts(path)


def test_facts_of_older_and_newer_versions_pass(tensors, tmp_path):
    for recipe in ({}, {"evaluate": {"mode": "tiles", "size": 96}}, {"later": 1, "evaluate": {"later": 2}}):
        assert load_weights(write(tmp_path / "w.safetensors", tensors, recipe=recipe)).recipe == recipe
    for recipe in ({"adapt": {}}, {"data": {"real": {"later": {}}}}, {"mscc": {}, "model": {"head": "mscc"}}):
        check_sections("m.onnx", {"recipe": recipe}, "")
    for name in ("lite", "lite-stage1", "lite-initial"):
        assert read_facts(name)["recipe"]["evaluate"]["mode"] == "tiles"


def test_each_key_that_a_recipe_must_have_has_a_stand_in():
    def required(section):
        for key, field in section.model_fields.items():
            kinds = (field.annotation, *get_args(field.annotation))
            for inner in (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)):
                yield from required(inner)
            if field.is_required():
                yield key

    assert set(required(Recipe)) == set(STAND_INS)


def set_nan(t):
    t["encoder.bn1.weight"][0] = float("nan")


def set_half(t):
    t["encoder.bn1.weight"] = t["encoder.bn1.weight"].half()


def set_all_half(t):
    t.update({name: tensor.half() for name, tensor in t.items() if tensor.is_floating_point()})


def set_index(t):
    name = next(n for n in t if n.endswith("relative_position_index"))
    t[name] = t[name].flip(0).contiguous()


def set_far_index(t):
    name = next(n for n in t if n.endswith("relative_position_index"))
    t[name] = torch.full_like(t[name], 2**40)


def set_variance(t):
    t["encoder.bn1.running_var"][0] = -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_nan, "NaN or infinite"),
        (set_half, "float16.*expected torch.float32"),
        (set_all_half, "[0-9]{3} tensors cannot be used: .*float16.* and [0-9]{3} more"),
        (set_index, "other positions"),
        (set_far_index, "other positions"),
        (set_variance, "variance below 0"),
    ],
)
def test_values_that_no_training_leaves_are_refused(change, words, tensors, tmp_path):
    changed = {name: tensor.clone() for name, tensor in tensors.items()}
    change(changed)
    with pytest.raises(InputError, match=words) as refusal:
        load_weights(write(tmp_path / "w.safetensors", changed))
    assert len(str(refusal.value).replace(str(tmp_path), "")) < 1000


def test_another_default_type_of_torch_is_told_and_the_weights_are_not_blamed():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match=r"torch's default type is torch\.float64, and weights are float32"):
            load_weights("lite2")
    finally:
        torch.set_default_dtype(torch.float32)


def test_tensors_other_than_those_written_are_noticed(tmp_path):
    torch.manual_seed(0)
    model, path = MPC.build("nano"), tmp_path / "w.safetensors"
    digest = save_weights(path, model, load_recipe("quickstart").as_dict())
    assert read_facts(path)["fingerprint"] == fingerprint(model)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    load_weights(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # the last bits of one number: finite, of the right type, in the right place
    path.write_bytes(data)
    with pytest.raises(InputError, match="not those it was written with"):
        load_weights(path)


def test_a_path_that_cannot_be_is_a_sentence(tmp_path):
    for name in ("a\0b.safetensors", "a" * 5000 + ".safetensors", "a" * 5000):
        with pytest.raises(InputError):
            read_facts(name)


def test_the_shipped_weights_still_score(tmp_path):
    assert pretrained_file("lite").is_file()
    hit = Localizer.from_pretrained("lite", device="cpu")(np.zeros((40, 50, 3), np.uint8))
    assert hit.score_map.shape == (40, 50)
