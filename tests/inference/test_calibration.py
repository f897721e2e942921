"""What a score means: ranks among authentic photographs, from the weights to the line on the terminal."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.errors import InputError
from mpc_lite.inference.calibration import SUSPICIOUS, UNSURE, Calibration, authentic_scores, write_calibrated
from mpc_lite.inference.localizer import Hit, Localizer
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import read_facts, save_weights
from tests.inference.test_localizer import Fake, brightness, photo

WAY = {"mode": "tiles", "size": 32, "overlap": 8}
RECIPE = {"evaluate": WAY}


def of(*scores):
    return Calibration(tuple(sorted(scores)), "made up", **WAY)


def test_share_counts_the_photograph_itself():
    calibration = of(0.1, 0.2, 0.2, 0.4)
    assert [calibration.authentic_above(s) for s in (0.05, 0.1, 0.2, 0.3, 0.4, 0.9)] == [1, 1, 0.8, 0.4, 0.4, 0.2]


@given(
    scores=st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=1, max_size=60),
    score=st.integers(0, 20).map(lambda k: k / 20),
    alpha=st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5]),
)
def test_above_the_threshold_is_where_the_share_is_small(scores, score, alpha):
    calibration = of(*scores)
    assert (score > calibration.threshold(alpha)) == (calibration.authentic_above(score) <= alpha + 1e-12)


def test_exchangeable_photographs_raise_no_more_false_alarms_than_promised():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(4000):
        scores = rng.beta(2, 5, 40)
        alarms.append(of(*scores[1:]).authentic_above(scores[0]) <= 0.05)
    # Of 40 exchangeable scores the first is among the two highest in 2 of 40 cases: exactly 5 % without ties.
    assert abs(np.mean(alarms) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_verdict_says_how_rare_and_where_it_is_unsure():
    calibration = of(*(k / 200 for k in range(199)))
    assert calibration.verdict(0.985) == "look here: 2 of 100 authentic photographs score as high"
    assert calibration.verdict(0.99) == "look here: 1 of 100 authentic photographs scores as high"
    assert calibration.verdict(0.94) == "unsure: 6 of 100 authentic photographs score as high"
    assert calibration.verdict(0.92) == "cannot tell: 8 of 100 authentic photographs score as high"
    assert calibration.verdict(0.2) == "cannot tell: 80 of 100 authentic photographs score as high"
    for alpha, word in ((SUSPICIOUS, "look here"), (UNSURE, "unsure")):
        assert calibration.verdict(np.nextafter(calibration.threshold(alpha), 1)).startswith(word)
        assert not calibration.verdict(calibration.threshold(alpha)).startswith(word)


def test_a_localizer_takes_the_calibration_only_for_its_own_way_of_feeding():
    facts = {"calibration": of(0.5).facts()}
    fed = Localizer(Fake(brightness), "tiles", size=32, overlap=8, facts=facts)
    hit = fed(photo(40, 40))
    assert fed.calibration == of(0.5) and hit.authentic_above in (0.5, 1.0) and hit.verdict
    for other in (Localizer(Fake(brightness), "pad", size=32, facts=facts), Localizer(Fake(brightness), "tiles", 64)):
        assert other.calibration is None and other(photo(40, 40)).authentic_above is None
    assert Hit(np.zeros((8, 8), np.float32)).verdict is None


@pytest.mark.trust
@pytest.mark.parametrize("name", ["path", "model", "self", "calibrated", "sha256"])
def test_facts_of_any_name_stay_beside_the_calibration(tmp_path, name):
    weights = tmp_path / "plain.safetensors"
    save_weights(weights, MPC.build("nano"), RECIPE, **{name: "of others"})
    write_calibrated(weights, of(0.5), tmp_path / "new.safetensors")
    assert read_facts(tmp_path / "new.safetensors") == {**read_facts(weights), "calibration": of(0.5).facts()}


@pytest.mark.slow
def test_calibrate_command_keeps_the_network_and_predict_speaks(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    model = MPC.build("nano", "4conv")
    before = save_weights(tmp_path / "plain.safetensors", model, RECIPE, stage="finetune", step=7)
    (tmp_path / "authentic").mkdir()
    for k in range(3):
        Image.fromarray(photo(40, 48, seed=k)).save(tmp_path / "authentic" / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    words = ["calibrate", "authentic", "--weights", "plain.safetensors", "--out", "new.safetensors"]
    assert main([*words, "--photographs", "three pictures of noise", "--device", "cpu"]) == 0
    assert "at most 20% false alarms: score above 1.000" in capsys.readouterr().out  # three say nothing about 20 %
    facts, plain = read_facts("new.safetensors"), read_facts("plain.safetensors")
    calibration = facts.pop("calibration")
    assert facts == plain and calibration["photographs"] == "three pictures of noise"
    localizer = Localizer.from_pretrained("plain.safetensors", device="cpu")
    scores = [localizer(f"authentic/{k}.png").score for k in range(3)]
    assert calibration["scores"] == pytest.approx(sorted(scores), abs=1e-5)

    predict = ["predict", "authentic/0.png", "--out", "out", "--device", "cpu", "--weights"]
    assert main([*predict, "new.safetensors", "--report"]) == 0
    assert " of 100 authentic photographs score as high; score " in capsys.readouterr().out
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text())
    assert line["authentic_above"] in (0.5, 0.75, 1.0)
    assert line["verdict"] in (tmp_path / "out" / "report.html").read_text()
    for word, *more in (["calibrate", "photos"], ["export"]):
        assert main([word, *more, "--weights", "new.safetensors", "--out", "new.safetensors"]) == 2
        assert "new.safetensors is read here" in capsys.readouterr().err
    assert main(["calibrate", "authentic", "--weights", "lite-stage1", "--out", "x.safetensors"]) == 2
    assert "only the encoder of lite-stage1 has learnt; its head is random" in capsys.readouterr().err
    # `--weights` was forgotten, and what was trained would be gone: shipped weights in its place.
    trained = (tmp_path / "plain.safetensors").read_bytes()
    assert main(["calibrate", "authentic", "--weights", "lite", "--out", "plain.safetensors"]) == 2
    assert "holds other weights, trained by recipe" in capsys.readouterr().err
    assert (tmp_path / "plain.safetensors").read_bytes() == trained
    assert main([*words, "--device", "cpu"]) == 0  # the same network's calibration may be made anew
    capsys.readouterr()
    assert main([*predict, "plain.safetensors"]) == 0
    assert json.loads((tmp_path / "out" / "predictions.jsonl").read_text())["authentic_above"] is None
    assert before == save_weights(tmp_path / "again.safetensors", model, RECIPE, stage="finetune", step=7)


@pytest.mark.trust
def test_the_lowest_scores_are_kept_as_they_are():
    """Rounded to nothing, the scores of a sure network would lie below any that is new."""
    scores = iter([3e-7, 1e-6, 2e-6, 8e-7])
    calibration = Calibration(authentic_scores(lambda _: next(scores), range(4), print), "", "tiles", 32, 0)
    assert calibration.scores == (3e-7, 8e-7, 1e-6, 2e-6)
    assert calibration.authentic_above(5e-7) == 4 / 5 and calibration.authentic_above(3e-6) == 1 / 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": [0.5, float("nan")]},
        {"scores": [1.5]},
        {"scores": []},
        {"scores": "0.5"},
        {"photographs": 7},
        {"size": None},
        {"more": 1},
    ],
)
def test_a_calibration_that_cannot_be_is_refused(tmp_path, wrong):
    model = MPC.build("nano", "4conv")
    save_weights(tmp_path / "w.safetensors", model, RECIPE, calibration={**of(0.5).facts(), **wrong})
    with pytest.raises(InputError, match=r"says what cannot be: calibration\."):
        read_facts(tmp_path / "w.safetensors")


def test_without_photographs_there_is_no_calibration():
    with pytest.raises(InputError, match="no photograph to calibrate on"):
        Localizer(Fake(brightness), "tiles", size=32).calibrate([], "none")


def test_copies_count_once_and_what_cannot_be_read_not_at_all(tmp_path):
    for k in range(3):
        Image.fromarray(photo(40, 48, seed=k)).save(tmp_path / f"{k}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "link.png").symlink_to("2.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    localizer, said = Localizer(Fake(brightness), "tiles", size=32), []
    names = ["0.png", "bad.png", "1.png", "copy.png", "gone.png", "2.png", "link.png", "0.png"]
    calibration = localizer.calibrate([tmp_path / name for name in names], say=said.append)
    assert calibration.scores == tuple(sorted(localizer(tmp_path / f"{k}.png").score for k in range(3)))
    assert calibration.photographs == "3 authentic photographs"
    assert ["bad.png: cannot be read" in line for line in said] == [True, False, False]
    assert "gone.png: cannot be read" in said[1]
    assert said[2] == "3 photographs have the bytes of others and do not count again: copy.png, link.png, 0.png"
    image = photo(40, 48, seed=5)
    with pytest.warns(UserWarning, match="1 photographs have the bytes of others"):
        assert len(localizer.calibrate([image, image.copy(), image[:-1]]).scores) == 2
    with pytest.raises(InputError, match=r"none of 2 photographs could be scored; the first: .*bad\.png: cannot be"):
        localizer.calibrate([tmp_path / "bad.png", tmp_path / "gone.png"], say=said.append)


def test_the_command_says_how_many_it_rests_on(tmp_path, capsys, monkeypatch):
    save_weights(tmp_path / "plain.safetensors", MPC.build("nano", "4conv"), RECIPE)
    for k in range(2):
        Image.fromarray(photo(40, 48, seed=k)).save(tmp_path / f"{k}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    words = ["calibrate", "--weights", "plain.safetensors", "--out", "new.safetensors", "--device", "cpu"]
    assert main([*words, "0.png", "bad.png", *["1.png"] * 110]) == 1
    said = capsys.readouterr()
    assert "calibrated on 2 of 3 photographs\n" in said.out and "at most 1% false alarms: score above 1.000" in said.out
    assert "note: 109 photographs have the bytes of others and do not count again: 1.png, " in said.err
    assert "\nbad.png: cannot be read as an image" in said.err
    assert len(read_facts("new.safetensors")["calibration"]["scores"]) == 2
    assert main([*words, "0.png", "1.png"]) == 0


def test_forgeries_and_masks_in_a_folder_are_no_authentic_photographs(tmp_path, capsys, monkeypatch):
    save_weights(tmp_path / "plain.safetensors", MPC.build("nano", "4conv"), RECIPE)
    (tmp_path / "mine").mkdir()
    Image.fromarray(photo(40, 48)).save(tmp_path / "mine" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert main(["synth", "--out", "mine/forgeries", "--n", "2", "--size", "32"]) == 0
    words = ["calibrate", "--weights", "plain.safetensors", "--out", "new.safetensors", "--device", "cpu"]
    capsys.readouterr()
    assert main([*words, "mine"]) == 0
    said = capsys.readouterr()
    assert "calibrated on 1 of 1 photographs" in said.out
    assert "pictures that predict, evaluate or synth wrote are left out: images/000000.png" in said.err
    assert main([*words, "mine/forgeries"]) == 2
    assert "error: no photograph: " in capsys.readouterr().err
    assert main([*words, "mine/forgeries/images/000000.png"]) == 0  # who names it means it


@pytest.mark.slow
def test_the_onnx_backend_knows_the_calibration_of_its_weights(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    save_weights(tmp_path / "w.safetensors", MPC.build("nano", "4conv"), RECIPE)
    write_calibrated(tmp_path / "w.safetensors", of(0.2, 0.3), tmp_path / "c.safetensors")
    assert Localizer.from_pretrained(tmp_path / "c.safetensors", backend="onnx").calibration == of(0.2, 0.3)


@pytest.mark.trust
def test_what_weights_cannot_hold_is_refused_before_the_work(tmp_path, capsys):
    """What calibrate writes, this version reads."""
    Image.fromarray(photo(40, 40)).save(tmp_path / "a.png")
    call = ["calibrate", str(tmp_path / "a.png"), "--photographs"]
    assert main([*call, "x" * 1001, "--out", str(tmp_path / "new.safetensors")]) == 2
    assert "has 1001 letters; weights hold 1000" in capsys.readouterr().err
    assert main([*call, "mine", "--out", str(tmp_path / "a.png" / "new.safetensors")]) == 2
    assert "a.png is no folder; choose another folder" in capsys.readouterr().err
    with pytest.raises(InputError, match="100001 photographs to calibrate on; weights hold at most 100000 scores"):
        write_calibrated("lite2", of(*[0.5] * 100_001), tmp_path / "big.safetensors")
    write_calibrated("lite2", of(*[0.5] * 20_000), tmp_path / "large.safetensors")
    assert len(read_facts(tmp_path / "large.safetensors")["calibration"]["scores"]) == 20_000
