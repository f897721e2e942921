"""Degradations against oracles by hand, Pillow and scipy; the noise's seeds; grids that are those of their sources."""

import io
import math

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import GRIDS, NOISE, ORDERS, READINGS, blur_sigma, chain, degrade, get_grid


@pytest.fixture(scope="module")
def photo():
    """Smooth, with an edge and some grain; odd sizes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:61, 0:83]
    image = np.dstack([120 + 60 * np.sin(x / 9), 100 + y + (x > 40) * 50, 90 + 0.5 * x]) + rng.normal(0, 4, (61, 83, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def flat(value: int, height: int = 256, width: int = 192) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


# --- each step against a slow twin ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [100, 80, 60, 1])
def test_jpeg_is_pillows_own(photo, quality):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    assert np.array_equal(degrade(photo, [("jpeg_quality", quality)]), np.asarray(Image.open(file)))


@pytest.mark.parametrize("quality", [100, 60, 10])
@pytest.mark.parametrize("shape", [(300, 421), (129, 64), (65, 500), (1, 200), (200, 1)])
def test_a_jpeg_in_parts_is_the_whole_one_to_the_digit(shape, quality, monkeypatch):
    rng = np.random.default_rng(0)
    for image in (rng.integers(0, 256, (*shape, 3), dtype=np.uint8), np.full((*shape, 3), (9, 200, 77), np.uint8)):
        image[: shape[0] // 2] = cv2.GaussianBlur(image, (9, 9), 3)[: shape[0] // 2]
        whole = degrade(image, [("jpeg_quality", quality)])
        with monkeypatch.context() as patched:
            patched.setattr("mpc_lite.evaluation.degrade.JPEG_SIDE", 64)
            np.testing.assert_array_equal(degrade(image, [("jpeg_quality", quality)]), whole)


@pytest.mark.parametrize("shape", [(3, 65_501), (65_501, 3)])
def test_a_photo_longer_than_a_jpeg_can_be_is_degraded_too(shape, capfd):
    image = np.full((*shape, 3), 120, np.uint8)
    for cell in {cell.degradation: cell for grid in GRIDS.values() for cell in grid}.values():
        assert degrade(image, cell.steps).dtype == np.uint8
    assert np.abs(degrade(image, [("jpeg_quality", 60)]).astype(int) - 120).max() <= 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11, 23])
def test_blur_of_an_impulse_is_the_gaussian_of_opencvs_rule(kernel):
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    offsets = np.arange(kernel) - kernel // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    image = flat(0, 61, 61)
    image[30, 30] = 255
    blurred = degrade(image, [("blur_kernel", kernel)]).astype(float)
    expected = np.zeros((61, 61))
    reach = slice(30 - kernel // 2, 31 + kernel // 2)
    expected[reach, reach] = 255 * np.outer(weights, weights)
    assert np.abs(blurred - expected[..., None]).max() <= 1
    if kernel == 3:  # the table that OpenCV takes for a kernel without a σ would give 63.8 in the centre
        assert blurred[30, 30, 0] == pytest.approx(69.5, abs=1)
    assert (degrade(flat(200), [("blur_kernel", kernel)]) == 200).all()


def test_blur_follows_scipy_up_to_the_borders(photo):
    assert blur_sigma(5) == pytest.approx(1.1) and blur_sigma(11) == pytest.approx(2.0)
    for kernel in (5, 11):
        twin = [
            ndimage.gaussian_filter(photo[..., c].astype(float), blur_sigma(kernel), mode="mirror", radius=kernel // 2)
            for c in range(3)
        ]
        blurred = degrade(photo, [("blur_kernel", kernel)])
        assert np.abs(blurred - np.dstack(twin)).max() <= 1
    assert np.array_equal(degrade(photo, [("blur_kernel", 1)]), photo)


@pytest.mark.parametrize("ratio", [0.9, 0.6, 0.5])
def test_resize_is_bilinear_between_pixel_centres(photo, ratio):
    """By hand: output pixel i looks at (i + ½)/scale − ½, scale being the ratio of the whole sizes."""
    small = degrade(photo, [("resize_ratio", ratio)])
    assert small.shape == (round(61 * ratio), round(83 * ratio), 3)

    def taps(length: int, new: int):
        at = np.clip((np.arange(new) + 0.5) * length / new - 0.5, 0, length - 1)
        low = np.minimum(at.astype(int), length - 2)
        return low, at - low

    (top, down), (left, across) = taps(61, small.shape[0]), taps(83, small.shape[1])
    down, across, values = down[:, None, None], across[None, :, None], photo.astype(float)
    rows = values[top] * (1 - down) + values[top + 1] * down
    expected = rows[:, left] * (1 - across) + rows[:, left + 1] * across
    assert np.abs(small - expected).max() <= 1


def test_resize_keeps_at_least_one_pixel():
    assert degrade(flat(7, 1, 9), [("resize_ratio", 0.1)]).shape == (1, 1, 3)


def test_gamma_is_a_power_of_the_unit_scale(photo):
    for gamma in (0.7, 1.3):
        expected = np.rint(255 * (photo / 255) ** gamma)
        assert np.array_equal(degrade(photo, [("gamma", gamma)]), expected)
    assert np.array_equal(degrade(photo, [("gamma", 1)]), photo)
    assert degrade(flat(100), [("gamma", 0.7)]).mean() > 100


@pytest.mark.parametrize(
    ("name", "value", "sigma"),
    [
        ("noise_sigma", 7, 7),
        ("noise_variance", 49, 7),
        ("noise_sigma_unit", 0.01, 2.55),
        ("noise_variance_unit", 0.01, 25.5),
        ("noise_variance_unit", 0.002, 255 * math.sqrt(0.002)),
    ],
)
def test_noise_has_the_sigma_that_its_name_says(name, value, sigma):
    """Rounding to whole levels adds 1/12 to the variance."""
    difference = degrade(flat(128), [(name, value)]) - 128.0
    n = difference.size
    expected = math.sqrt(sigma**2 + 1 / 12)
    assert difference.std() == pytest.approx(expected, rel=5 / math.sqrt(2 * n))
    assert abs(difference.mean()) < 5 * sigma / math.sqrt(n)
    within = np.mean(np.abs(difference) <= np.floor(sigma) + 0.5)
    assert within == pytest.approx(math.erf((np.floor(sigma) + 0.5) / sigma / math.sqrt(2)), abs=0.01)
    # Independent in colours and neighbours.
    flatter = difference.reshape(-1, 3)
    assert np.abs(np.corrcoef(flatter.T) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(difference[:, 1:].ravel(), difference[:, :-1].ravel())[0, 1]) < 0.03


def test_noise_stops_at_black_and_white():
    dark, light = (degrade(flat(v), [("noise_sigma", 20)]) for v in (0, 255))
    assert np.mean(dark == 0) == pytest.approx(0.5, abs=0.03) and dark.max() < 128
    assert np.mean(light == 255) == pytest.approx(0.5, abs=0.03) and light.min() > 128


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_noise_is_a_function_of_seed_and_image_only(photo):
    other, steps = photo[::-1], [("noise_sigma", 5)]
    first, second = degrade(photo, steps, 3), degrade(other, steps, 3)
    assert np.array_equal(second, degrade(other, steps, 3)) and np.array_equal(first, degrade(photo, steps, 3))
    assert np.array_equal(first, degrade(np.asfortranarray(photo), steps, 3))
    assert not np.array_equal(first, degrade(photo, steps, 4))
    draws = [made.astype(int) - image for made, image in ((first, photo), (second, other))]
    assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 0.05
    # Same bytes in another shape are another image.
    tall, wide = degrade(flat(9, 8, 4), steps), degrade(flat(9, 4, 8), steps)
    assert not np.array_equal(tall.ravel(), wide.ravel())


def test_strengths_scale_one_draw():
    weak, strong = (degrade(flat(128), [("noise_sigma", s)]) - 128.0 for s in (5, 20))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99


def test_two_noises_of_a_chain_are_two_draws():
    twice = degrade(flat(128), [("noise_sigma", 5), ("noise_sigma", 5)]) - 128.0
    assert twice.std() == pytest.approx(math.sqrt(50 + 2 / 12), rel=0.02)  # one draw twice would give 10


def test_the_input_stays_as_it_was(photo):
    before = photo.copy()
    for cell in (*GRIDS["field"], *GRIDS["chains"]):
        made = degrade(photo, cell.steps)
        assert made.dtype == np.uint8 and made is not photo and not np.shares_memory(made, photo)
    assert np.array_equal(photo, before)
    assert np.array_equal(degrade(photo, ()), photo)


# --- chains and grids -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_chain_is_its_steps_one_after_the_other(photo, order):
    names = {"J": "jpeg_quality", "R": "resize_ratio", "B": "blur_kernel", "N": "noise_sigma_unit"}
    steps, step_by_step = chain(order), photo
    assert [name for name, _ in steps] == [names[letter] for letter in order]
    # The draw of the noise is the photograph's as it came, so noise can be split off only where it is first.
    steps = [step for step in steps if order[0] == "N" or step[0] not in NOISE]
    for step in steps:
        step_by_step = degrade(step_by_step, [step], 1)
    assert np.array_equal(degrade(photo, steps, 1), step_by_step)


def test_noise_comes_where_the_chain_says(photo):
    last = degrade(photo, chain("JRBN", "noise_variance_unit")).astype(float)
    without = degrade(photo, chain("JRB"))
    sigma = 255 * math.sqrt(0.006)
    assert (last - without)[(without > 80) & (without < 175)].std() == pytest.approx(sigma, rel=0.05)


def test_the_order_of_a_chain_matters(photo):
    results = {(order, noise): degrade(photo, chain(order, noise)) for order in ORDERS for noise in READINGS}
    assert {made.shape for made in results.values()} == {(37, 50, 3)}
    keys = list(results)
    for a, first in enumerate(keys):
        for second in keys[a + 1 :]:
            assert not np.array_equal(results[first], results[second]), (first, second)
    # What comes last shows: noise after the blur is grain, noise before it is smoothed.
    grain = {k: np.abs(cv2.Laplacian(v.astype(np.float32), cv2.CV_32F)).mean() for k, v in results.items()}
    assert grain["JRBN", "noise_variance_unit"] > 2 * grain["NJRB", "noise_variance_unit"]


def test_the_papers_values():
    """MPC, Table 7 and Fig. 2 (arXiv v1)."""
    assert chain("JRBN") == (
        ("jpeg_quality", 60),
        ("resize_ratio", 0.6),
        ("blur_kernel", 5),
        ("noise_sigma_unit", 0.006),
    )
    assert [cell.value for cell in GRIDS["chains"]] == [None, *["JRBN", "RBNJ", "BNJR", "NJRB"] * 2]
    assert {cell.steps[0] for cell in GRIDS["chains"] if cell.value == "NJRB"} == {
        ("noise_sigma_unit", 0.006),
        ("noise_variance_unit", 0.006),
    }
    assert table("paper") == {
        "none": [None],
        "jpeg_quality": [100, 90, 80, 70, 60],
        "blur_kernel": [3, 5, 7, 9, 11],
        "noise_sigma_unit": [0.002, 0.004, 0.006, 0.008, 0.01],
        "noise_variance_unit": [0.002, 0.004, 0.006, 0.008, 0.01],
        "resize_ratio": [0.9, 0.8, 0.7, 0.6, 0.5],
    }


def test_the_fields_values():
    assert table("field") == {
        "none": [None],
        "jpeg_quality": [100, 90, 80, 70, 60, 50],
        "blur_kernel": [3, 7, 11, 15, 19, 23],
        "noise_sigma": [3, 7, 11, 15, 19, 23],
        "noise_variance": [3, 7, 11, 15, 19, 23],
        "resize_ratio": [0.9, 0.8, 0.7, 0.6, 0.5],
        "gamma": [0.7, 0.85, 1.15, 1.3],
    }


def table(grid: str) -> dict[str, list]:
    found = {}
    for cell in get_grid(grid):
        assert cell.steps == (((cell.degradation, cell.value),) if cell.value is not None else ())
        found.setdefault(cell.degradation, []).append(cell.value)
    return found


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (("jpeg", 60), "unknown degradation 'jpeg'; expected one of jpeg_quality, blur_kernel"),
        (("jpeg_quality", 0), "jpeg_quality 0; expected a whole number from 1 to 100"),
        (("jpeg_quality", 80.5), "jpeg_quality 80.5"),
        (("blur_kernel", 4), "blur_kernel 4; expected an odd"),
        (("blur_kernel", -3), "blur_kernel -3"),
        (("resize_ratio", 0), "resize_ratio 0; expected a number above 0"),
        (("gamma", -1), "gamma -1"),
        (("noise_variance", -1), "noise_variance -1; expected a number of at least 0"),
        (("noise_sigma", math.nan), "noise_sigma nan"),
    ],
)
def test_a_step_that_cannot_be(photo, step, says):
    with pytest.raises(InputError) as error:
        degrade(photo, [("gamma", 1), step])
    assert says in str(error.value)


def test_other_mistakes(photo):
    for wrong in (photo / 255, photo[..., 0], photo[:0]):
        with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
            degrade(wrong, ())
    with pytest.raises(InputError, match="seed -1"):
        degrade(photo, [("noise_sigma", 1)], -1)
    with pytest.raises(InputError, match="chain 'JX'"):
        chain("JX")
    with pytest.raises(InputError, match="noise 'noise_sigma' of a chain"):
        chain("JRBN", "noise_sigma")
    with pytest.raises(InputError, match="unknown grid 'papers'; expected one of paper, field, chains"):
        get_grid("papers")
