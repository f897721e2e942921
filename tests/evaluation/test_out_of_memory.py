"""One image too large for the memory does not lose the figures of the others."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import Sample
from mpc_lite.decoders import decode_file
from mpc_lite.errors import UnfitImage
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.evaluation.protocols import get_protocol
from mpc_lite.evaluation.rows import RowScores

pytestmark = pytest.mark.trust
RESERVED = {
    "python": MemoryError(),
    "torch on a CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    "torch on a GPU": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "opencv": cv2.error("OpenCV: (-4:Insufficient memory) Failed to allocate 3600000000 bytes"),
}


@pytest.fixture
def samples(tmp_path):
    rows = []
    for number, width in enumerate((40, 90, 50), start=2):
        mask = np.zeros((32, width), np.uint8)
        mask[:16] = 255
        for kind, pixels in (("image", np.full((32, width, 3), 7 * number, np.uint8)), ("mask", mask)):
            Image.fromarray(pixels).save(tmp_path / f"{number}-{kind}.png")
        rows.append(Sample(tmp_path / f"{number}-image.png", tmp_path / f"{number}-mask.png", 1, "set", row=number))
    return rows


@pytest.mark.parametrize("error", RESERVED.values(), ids=RESERVED)
def test_the_row_is_listed_and_the_others_are_scored(error, samples):
    def model(image):
        if image.shape[1] == 90:
            raise error
        return np.repeat(np.arange(32)[:, None] < 16, image.shape[1], axis=1).astype(np.float32)

    table = evaluate(model, samples)
    assert table["sets"]["set"]["n"] == 2 and table["sets"]["set"]["f1"] == 1.0
    (line,) = table["errors"]
    assert "3-image.png" in line and "memory does not suffice" in line


@pytest.mark.parametrize("error", RESERVED.values(), ids=RESERVED)
def test_a_baseline_that_lacks_memory_costs_its_row_alone(error, samples):
    def detector(image):
        if image.shape[1] == 90:
            raise error
        return np.ones(image.shape[:2], np.float32)

    table = evaluate(lambda image: np.ones(image.shape[:2], np.float32), samples, baselines={"ela": detector})
    assert table["sets"]["set"]["n"] == 2
    (line,) = table["errors"]
    assert "3-image.png" in line and "memory does not suffice" in line


@pytest.mark.parametrize("name", ["3-image.png", "3-mask.png"])
def test_a_file_that_cannot_be_read_for_lack_of_memory_costs_its_row_alone(samples, monkeypatch, name):
    def decode(path):
        if path.name == name:
            raise MemoryError
        return decode_file(path)

    monkeypatch.setattr("mpc_lite.images.decode_file", decode)
    model = lambda image: np.ones(image.shape[:2], np.float32)  # noqa: E731
    table = evaluate(model, samples)
    assert table["sets"]["set"]["n"] == 2
    (line,) = table["errors"]
    assert line.startswith("3-image.png: ") and f"{name}: the memory does not suffice for this image" in line
    score = RowScores(model, None, get_protocol("mpc"), {}, samples)
    assert [score((sample, None)).too_large for sample in samples] == [False, True, False]  # tried again alone


def test_an_image_that_the_network_cannot_take_costs_its_row_alone(samples):
    def model(image):
        if image.shape[1] == 90:
            raise UnfitImage("a picture of 90×32 pixels is mirrored to too many")
        return np.ones(image.shape[:2], np.float32)

    table = evaluate(model, samples)
    assert table["sets"]["set"]["n"] == 2
    assert table["errors"] == ["3-image.png: a picture of 90×32 pixels is mirrored to too many"]


def test_another_error_of_the_network_is_not_hidden(samples):
    def model(image):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        evaluate(model, samples)
