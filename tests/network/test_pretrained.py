"""The shipped weights: what the card claims about them, and that they do what it says."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mpc_lite.evaluation.metrics import count, f1
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import pretrained_file, read_facts
from mpc_lite.provenance import book_result
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "book/results/lite.json").read_text())
SECOND = json.loads((ROOT / "book/results/second-edition.json").read_text())
NAMES = ("lite", "lite-stage1", "lite-initial")


def script(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / f"book/results/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool():
    return script("lite")


def test_files_are_small_and_those_that_were_measured():
    for name in NAMES:
        data = pretrained_file(name).read_bytes()
        assert len(data) <= 5e6
        assert hashlib.sha256(data).hexdigest() == RESULTS["sha256"][name]


def test_the_second_edition_is_the_one_that_was_measured_and_its_card_says_so():
    data = pretrained_file("lite2").read_bytes()
    assert len(data) <= 5e6
    assert hashlib.sha256(data).hexdigest() == SECOND["weights"]["second"]["sha256"]
    tool = script("second-edition")
    assert tool.CARD.read_text() == tool.card(SECOND)


def test_the_second_edition_says_what_its_score_means():
    facts, localizer = read_facts("lite2"), Localizer.from_pretrained("lite2", device="cpu")
    scores = facts["calibration"]["scores"]
    assert len(scores) >= 300 and scores == sorted(scores) and localizer.calibration.scores == tuple(scores)
    plain = np.full((192, 192, 3), 128, np.uint8)
    assert localizer(plain).verdict.startswith("cannot tell")
    sources = set(facts["recipe"]["data"]["real"]["sources"])
    assert not sources & {"bsds500", "kodak", "casia2", "lalonde", "cvip"}  # nothing measured was trained on


def test_ranges_of_the_splits_have_not_moved_since():
    assert (
        hashlib.sha256((ROOT / "mpc_lite/forgeries/splits.yaml").read_bytes()).hexdigest() == RESULTS["splits_sha256"]
    )


def test_card_and_readme_say_what_was_measured(tool):
    assert tool.CARD.read_text() == tool.card(RESULTS)
    assert tool.summary(book_result("lite2")["sets"]) in tool.README.read_text()


def test_lite_is_the_network_of_its_recipe():
    recipe, facts = load_recipe("lite"), read_facts("lite")
    # Read as a recipe: keys that came later have their defaults.
    assert Recipe.model_validate(facts["recipe"]) == recipe and facts["stage"] == "finetune"
    assert sum(p.numel() for p in MPC.from_pretrained("lite").parameters()) <= 1_000_000
    torch.manual_seed(recipe.seed)
    fresh, initial = MPC.build("nano").state_dict(), MPC.from_pretrained("lite-initial").state_dict()
    # The same draws; their logarithms and cosines are rounded otherwise where a processor lacks AVX2.
    assert all(torch.allclose(fresh[k], initial[k], rtol=0, atol=1e-7) for k in fresh)


@pytest.mark.parametrize("name", ["lite", "lite2"])
def test_claims_on_generated_forgeries_hold_in_the_results(name):
    """F1 of at least 0.5 on unseen scenes and cameras, and ahead of every baseline by more than the interval."""
    sets = book_result(name)["sets"]
    claimed = {name: t for name, t in sets.items() if name.startswith("generated forgeries")}
    assert len(claimed) == 3
    for table in claimed.values():
        assert table["protocol"] == "mpc" and table["average"]["f1"] >= 0.5
        for baseline in table["average"]["baselines"].values():
            assert baseline["lead_ci95"][0] > 0


def test_the_ledger_says_what_freezing_was_measured_to_cost():
    frozen = json.loads((ROOT / "book/results/lite-frozen.json").read_text())["table"]["average"]
    trained = RESULTS["sets"]["generated forgeries, all scenes"]["average"]
    assert frozen["n"] == trained["n"] == 166
    ledger = (ROOT / "book/deviations.md").read_text()
    for measured in (frozen, trained):
        low, high = measured["f1_ci95"]
        assert f"{measured['f1']:.2f} [{low:.2f}, {high:.2f}]" in ledger


@pytest.mark.slow
def test_lite_finds_generated_forgeries_from_unseen_scenes_and_cameras():
    localizer, scenes = Localizer.from_pretrained("lite"), Scenes("test", ["packaged", "dead_leaves"])
    made = [forge("test", 0, i, scenes, 256, authentic_share=0) for i in range(24)]
    scores = [f1(count(localizer(m.image).score_map, m.mask)) for m in made]
    everything = [f1(count(np.ones(m.mask.shape, np.float32), m.mask)) for m in made]
    assert np.mean(scores) > 0.4 and np.mean(scores) > np.mean(everything) + 0.1
