"""Pictures longer than a JPEG can be: 65 500 pixels. Where one is saved as such, it goes in parts."""

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import UnfitImage
from mpc_lite.evaluation import robustness as rooms
from mpc_lite.evaluation.baselines import BASELINES
from mpc_lite.evaluation.degrade import GRIDS, Cell
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.evaluation.robustness import robustness
from mpc_lite.inference.forward import mirrored

pytestmark = pytest.mark.trust
LONG = (4, 65_501)


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    for name, (height, width) in {"long": LONG, "short": (32, 40)}.items():
        pixels, mask = rng.integers(0, 256, (height, width, 3), dtype=np.uint8), np.zeros((height, width), np.uint8)
        mask[:, : width // 3] = 255
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}-mask.png")
    rows = "".join(f"{name}.png,{name}-mask.png,1,set\n" for name in ("long", "short"))
    (tmp_path / "set.csv").write_text("image,mask,label,source\n" + rows)
    return tmp_path / "set.csv"


def red(image):
    return image[..., 0] / np.float32(255)


@pytest.fixture
def few(monkeypatch):
    cells = (("jpeg_quality", 60), ("blur_kernel", 3))
    monkeypatch.setitem(GRIDS, "few", tuple(Cell(name, value, ((name, value),)) for name, value in cells))
    return "few"


@pytest.mark.parametrize("shape", [LONG, LONG[::-1]])
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_scores_it(name, shape, capfd):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    score_map = BASELINES[name](image)
    assert score_map.shape == shape and score_map.min() >= 0 and score_map.max() <= 1
    assert capfd.readouterr() == ("", "")


def test_it_is_evaluated_and_degraded_as_the_others(manifest, few, capfd):
    table = evaluate(red, manifest)
    assert table["sets"]["set"]["n"] == 2 and not table["errors"]
    result = robustness(red, manifest, grid=few)
    assert [cell["n"] for cell in result["cells"]] == [2, 2] and not result["errors"]
    assert capfd.readouterr() == ("", "")


def test_a_row_that_one_cell_alone_leaves_out_is_told(manifest, few, monkeypatch):
    map_of = rooms.map_of

    def refused_once(model, image, shape):
        if shape == LONG and not calls:
            calls.append(shape)
            raise UnfitImage("too long")
        return map_of(model, image, shape)

    calls = []
    monkeypatch.setattr(rooms, "map_of", refused_once)
    result = robustness(red, manifest, grid=few)
    assert [cell["n"] for cell in result["cells"]] == [1, 2]
    assert result["errors"] == ["row 2 of set.csv: too long"]


def test_a_strip_that_no_tile_can_hold_is_one_images_trouble():
    """Such a row is left out: see `test_an_image_that_the_network_cannot_take_costs_its_row_alone`."""
    with pytest.raises(UnfitImage, match="a picture of 2000000×1 pixels is mirrored to"):
        mirrored(np.zeros((1, 2_000_000, 3), np.uint8), 224, 2_000_000)
