"""The neighbours' recipes: each smoke profile trains, stops, resumes, and its weights predict and are evaluated."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.data import stream
from mpc_lite.errors import InputError
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import write_set
from mpc_lite.inference.export import export_bytes
from mpc_lite.neighbours.borrowed_network import ContextNet
from mpc_lite.neighbours.stages import STAGES, train_neighbour
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import read_facts, save_weights
from mpc_lite.recipes.load import load_recipe, recipe_choices
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS
from mpc_lite.reproduce.run import Request, prepare
from mpc_lite.reproduce.runner import find_notebook, plan, reproduce
from mpc_lite.training.finetune import finetune
from mpc_lite.training.finite import Watch
from mpc_lite.training.identity import learnt_by
from mpc_lite.training.loop import Interrupted
from mpc_lite.training.starts import check_own
from tests.elsewhere import FOLDER, elsewhere, names_in
from tests.neighbours import two_processes
from tests.training.test_many_processes import torchrun

ARMS = [arm for arm in recipe_choices("neighbours")["arm"] if arm not in ("mpc", "focal")]


def test_every_section_has_its_stage():
    assert set(STAGES) == set(NEIGHBOURS)
    for name, stage in STAGES.items():
        assert stage.name == name and stage.output == "model.safetensors"


@pytest.mark.slow
def test_a_new_gate_changes_nothing_and_its_weights_bring_it_back(tmp_path):
    torch.manual_seed(0)
    gated, plain = MPC.build("nano", "context").eval(), MPC.build("nano").eval()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if not k.startswith("gates.")})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(gated(images), plain(images))
        torch.nn.init.normal_(gated.gates[0].combine.weight)
        assert not torch.equal(gated(images), plain(images))
        save_weights(tmp_path / "model.safetensors", gated, {}, stage="borrowed")
        loaded = MPC.from_pretrained(tmp_path / "model.safetensors")
        assert isinstance(loaded, ContextNet) and torch.equal(loaded(images), gated(images))


@pytest.mark.parametrize("head", ["mscc", "context"])
def test_what_such_a_head_cannot_do_yet_is_said(head, tmp_path):
    save_weights(tmp_path / "model.safetensors", MPC.build("nano", head), {}, stage="borrowed")
    with pytest.raises(InputError, match=f"head {head} has no ONNX graph yet.*torch backend"):
        export_bytes(tmp_path / "model.safetensors")


def test_stages_of_mpc_and_of_a_neighbour_are_not_mistaken_for_one_another(tmp_path, capsys):
    with pytest.raises(InputError, match="recipe quickstart trains MPC"):
        train_neighbour(load_recipe("quickstart"), tmp_path / "a")
    with pytest.raises(InputError, match=r"recipe mscc has a section 'mscc'.*'mpc-lite neighbour'"):
        finetune(load_recipe("mscc"), tmp_path / "b")
    assert main(["info", "mscc", "--cost"]) == 2 and "not counted" in capsys.readouterr().err
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    assert main(["info", "pclmix"]) == 0
    said = capsys.readouterr().out
    assert "PCLMix, two decoders" in said and "trains: pclmix" in said and "mix_label_rule: intra" in said


def test_recipes_of_one_name_share_a_notebook():
    notebook = find_notebook("borrowed-scales")
    assert notebook.name == "borrowed.ipynb" and find_notebook("mscc").name == "mscc.ipynb"
    run, values = plan(Request("borrowed-scales", "smoke"), notebook)
    assert values["RECIPE"] == run.name == "borrowed-scales" and run.recipe.borrowed.idea == "scale"
    assert run.out == prepare("borrowed-scales", "smoke").out
    with pytest.raises(InputError, match="RECIPE is set by the name behind 'reproduce'"):
        plan(Request("borrowed-scales", "smoke", {"RECIPE": "mscc"}), notebook)


@pytest.fixture(scope="module")
def forgeries(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("forgeries"), "test", 4, 0, 64, Scenes("test", ["dead_leaves"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ARMS)
def test_it_trains_stops_resumes_and_its_weights_are_used_like_any_others(name, forgeries, tmp_path):
    section, out = load_recipe(name).neighbour, tmp_path / "run"
    few = {"data.scenes": "[dead_leaves]", "data.validation_images": 4, f"{section}.steps": 2}
    recipe = load_recipe(name, "smoke", few)
    out.mkdir()
    (out / "stop").touch()
    with pytest.raises(Interrupted, match=f"{section} stopped after step 1 of 2"):
        train_neighbour(recipe, out, device="cpu")
    assert (out / f"{section}.state").is_file()
    weights = train_neighbour(recipe, out, resume=True, device="cpu")
    steps = [e["step"] for e in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in e]
    assert steps == [1, 2]
    facts = read_facts(weights)
    assert facts["stage"] == section and facts["head"] == recipe.model.head and section in facts["recipe"]
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)).save(tmp_path / "photo.png")
    weights = ["--weights", str(weights), "--device", "cpu"]
    assert main(["predict", str(tmp_path / "photo.png"), "--out", str(tmp_path / "maps"), *weights]) == 0
    assert (tmp_path / "maps" / "photo.score.png").is_file()
    table = tmp_path / "table.json"
    assert main(["evaluate", "--manifest", str(forgeries), "--json", str(table), *weights]) == 0
    assert json.loads(table.read_text())["errors"] == []


@pytest.mark.trust
@pytest.mark.parametrize("name", ARMS)
def test_a_run_killed_between_its_first_weights_and_its_first_checkpoint_goes_on(name, tmp_path):
    """The weights leave out keys that a checkpoint does not."""
    recipe = load_recipe(name, "smoke")
    target, state = tmp_path / "model.safetensors", tmp_path / f"{recipe.neighbour}.state"
    save_weights(target, MPC.build("nano"), learnt_by(recipe), stage=recipe.neighbour)
    check_own(target, recipe, state)
    for other, text in (({"seed": 5}, "seed 0, not 5"), ({f"{recipe.neighbour}.steps": 3}, r"steps \d+, not 3")):
        with pytest.raises(InputError, match=f"another run or stage .*{text}"):
            check_own(target, load_recipe(name, "smoke", other), state)


@pytest.mark.trust
def test_a_key_that_the_weights_alone_have_makes_another_run(tmp_path):
    target, other = tmp_path / "model.safetensors", load_recipe("quickstart", "smoke", {"finetune.contrast": 0.5})
    save_weights(target, MPC.build("nano"), learnt_by(other), stage="finetune")
    check_own(target, other, tmp_path / "finetune.state")
    with pytest.raises(InputError, match=r"another run or stage \(finetune.contrast 0.5, not absent\)"):
        check_own(target, load_recipe("quickstart", "smoke"), tmp_path / "finetune.state")


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.parametrize(
    ("name", "choice", "images"),
    [("mscc", {}, 1), ("pclmix", {}, 1), ("pppc", {}, 2), ("pppc", {"pppc.mix_label_rule": "intra"}, 1)],
)
def test_where_a_step_is_not_finite_the_images_named_are_those_that_it_read(
    name, choice, images, tmp_path, monkeypatch
):
    rows = ["image,mask,label,source,split"]
    for i in range(11):
        pixels = np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        Image.fromarray(np.uint8(255 * (pixels[..., 0] > 99))).save(tmp_path / f"{i}_m.png")
        rows.append(f"{i}.png,{i}_m.png,1,noise,{'train' if i else 'validation'}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    given = {"data.manifest": str(tmp_path / "m.csv"), "data.workers": 0, f"{name}.batch": 2, f"{name}.steps": 4}
    recipe = load_recipe(name, "smoke", {**given, **choice, f"{name}.checkpoint_every": 2})
    read, add, opened, steps = stream.read_image, Watch.add, [], []

    def watched(self, total):  # the second step is not finite
        steps.append(opened.copy())
        opened.clear()
        add(self, total * float("nan") if len(steps) == 2 else total)

    monkeypatch.setattr(stream, "read_image", lambda path: opened.append(str(path)) or read(path))
    monkeypatch.setattr(Watch, "add", watched)
    with pytest.raises(InputError, match=rf"the loss is not finite at step 2, whose images .*{name}\.not-finite\.json"):
        train_neighbour(recipe, tmp_path / "run", device="cpu")
    told = json.loads((tmp_path / "run" / f"{name}.not-finite.json").read_text())
    assert told["images"] == steps[1] and len(steps[1]) == 2 * images


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_two_processes_train_each_method_in_bfloat16(tmp_path):
    done = torchrun(two_processes.__file__, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in two_processes.TRAINED:
        lines = [json.loads(x) for x in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses = [x["loss"] for x in lines if "loss" in x]
        assert len(losses) == two_processes.STEPS and all(map(math.isfinite, losses)), name
        assert read_facts(tmp_path / name / "model.safetensors")["stage"] == load_recipe(name).neighbour


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_the_notebook_runs_and_results_hold_every_metric(tmp_path_factory):
    folder = tmp_path_factory.mktemp(FOLDER)
    with elsewhere(folder):
        given = {"DEVICE": "cpu", "arm": "mscc"}
        out = folder / reproduce(Request("neighbours", "smoke", given), quiet=True)
    results, report = json.loads((out / "results.json").read_text()), (out / "report.html").read_text()
    assert results["parameters"] == {"arm": "mscc"} and results["recipe"]["model"]["head"] == "mscc"
    assert len(results["protocols"]) == 8 and results["protocols"]["mpc"]["f1"] == results["average"]["f1"]
    assert results["null_splices"]["n"] == 8 and "image_auc" in results["own_metrics"]
    assert report.count("<img ") == 2 and "MPC, the focal loss alone" in report
    assert [names_in(text) for text in (json.dumps(results), report)] == [[], []]
