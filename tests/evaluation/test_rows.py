"""Several rows at a time: the same numbers to the digit, in the rows' order, whatever becomes of single rows."""

import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError
from mpc_lite.evaluation import rows
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.inference.forward import images_at_once
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.devices import side_by_side
from mpc_lite.network.model import MPC
from tests.network.test_hrformer import fill


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def localizer():
    model = MPC.build("nano").eval()
    fill(model)
    return Localizer(model, "tiles", size=64, overlap=16)


@pytest.fixture
def samples(tmp_path):
    draw, made = np.random.default_rng(0), []
    for k in range(7):
        side = 64 + 8 * k
        mask = np.zeros((side, side), np.uint8)
        mask[8:40, 8:40] = 255
        Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / f"{k}-mask.png")
        truth = tmp_path / f"{k}-mask.png" if k % 3 else None
        made.append(Sample(tmp_path / f"{k}.png", truth, int(k % 3 > 0), f"set {k % 2}", row=k + 1))
    return made


@pytest.mark.slow
def test_two_threads_find_what_one_finds_to_the_digit(localizer, samples, two_threads):
    assert images_at_once(localizer) == 2
    both = evaluate(localizer, samples)
    torch.set_num_threads(1)
    assert images_at_once(localizer) == 1
    assert evaluate(localizer, samples) == both


@pytest.mark.slow
def test_a_row_left_out_keeps_its_place_and_costs_no_other(localizer, samples, two_threads):
    samples[2].image.write_bytes(b"no image")
    samples[5].image.unlink()
    table = evaluate(localizer, samples)
    assert [line.split(":")[0] for line in table["errors"]] == ["2.png", "5.png"]
    good = [sample for k, sample in enumerate(samples) if k not in (2, 5)]
    assert evaluate(localizer, good)["sets"] == table["sets"]


@pytest.mark.slow
def test_a_row_too_large_beside_others_is_scored_alone(localizer, samples, two_threads, monkeypatch):
    expected, map_of = evaluate(localizer, samples), rows.map_of

    def in_the_main_thread_alone(model, image):
        if threading.current_thread() is not threading.main_thread() and image.shape[0] == 80:
            raise MemoryError
        return map_of(model, image)

    monkeypatch.setattr(rows, "map_of", in_the_main_thread_alone)
    assert evaluate(localizer, samples) == expected
    monkeypatch.setattr(rows, "map_of", lambda model, image: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(InputError, match="memory"):
        evaluate(localizer, samples)


@pytest.mark.slow
def test_other_callables_are_asked_one_image_at_a_time_in_order(samples, two_threads):
    seen = []

    def brightness(image):
        assert threading.current_thread() is threading.main_thread()
        seen.append(image.shape[0])
        return image.mean(axis=2, dtype=np.float32) / 255

    evaluate(brightness, samples)
    assert seen == [64 + 8 * k for k in range(7)]
    assert images_at_once(torch.nn.Conv2d(3, 1, 1)) == 1 and images_at_once(MPC.build("nano").train()) == 1


def test_results_come_in_order_with_few_under_way_and_threads_are_given_back(two_threads):
    made, lock = [], threading.Lock()

    def slow(item):
        assert torch.get_num_threads() == 1
        time.sleep(0.02 if item % 2 else 0.001)
        with lock:
            made.append(item)
        return item

    for taken, item in enumerate(side_by_side(slow, range(12), 2)):
        assert item == taken and len(made) <= taken + 3
    other = []
    thread = threading.Thread(target=lambda: other.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 2 and other == [2]


def test_an_error_is_raised_in_its_turn(two_threads):
    def fail(item):
        if item == 3:
            raise InputError("three")
        return item

    found = []
    with pytest.raises(InputError, match="three"):
        found.extend(side_by_side(fail, range(9), 2))
    assert found == [0, 1, 2] and torch.get_num_threads() == 2
