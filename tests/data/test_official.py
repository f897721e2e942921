"""The released augmentation: operations against albumentations' own results and against definitions by hand, masks that
stay on their marks, and chances and ranges counted over many draws."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from mpc_lite.data.augment import official as augment_official
from mpc_lite.data.augment import pixels as augment_pixels
from mpc_lite.data.augment import warps as augment_warps
from mpc_lite.data.augment.official import GROUPS, official_augment
from mpc_lite.errors import InputError

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "augment_official.npz"))
CASES = sorted({name.removesuffix(".image") for name in GOLDEN if name.endswith(".image")})
OPERATIONS = {operation.__name__[1:]: operation for group in GROUPS for operation in group}
WARPS = ("elastic", "grid_distortion")


def marked(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dark with a bright rectangle, tampered, and a bright square to ignore: where it is bright, the mask is not 0."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 5 : height // 2, width // 4 : width * 3 // 4] = 1
    mask[height * 2 // 3 : height * 8 // 9, width // 8 : width // 3] = 255
    grain = np.random.default_rng(seed).integers(-8, 9, (height, width, 3))
    return (np.where(mask[..., None] > 0, 215, 40) + grain).astype(np.uint8), mask


def overlap(image: np.ndarray, mask: np.ndarray) -> float:
    bright = image.mean(axis=2) > 127
    return (bright & (mask > 0)).sum() / (bright | (mask > 0)).sum()


# --- operations against albumentations 1.3.1 --------------------------------------------------------------------------


def test_golden_numbers_cover_the_operations():
    """All but the turns, which are numpy's, and the motion blur, whose kernel is tested by hand."""
    assert set(CASES) == set(OPERATIONS) - {"motion_blur"} | {"jpeg", "scale", "pad"}


@pytest.mark.parametrize("name", CASES)
def test_operation_does_what_albumentations_does(name):
    parameters = []
    while f"{name}.{len(parameters)}" in GOLDEN:
        value = GOLDEN[f"{name}.{len(parameters)}"]
        parameters.append(value if value.ndim else value.item())
    image, mask = GOLDEN["image"].copy(), GOLDEN["mask"].copy()
    if f"{name}.mask" in GOLDEN:
        found, found_mask = getattr(augment_warps, name)(image, mask, *parameters)
        assert found_mask.dtype == np.uint8 and np.array_equal(found_mask, GOLDEN[f"{name}.mask"])
    else:
        found = getattr(augment_pixels, name)(image, *parameters)
    expected = GOLDEN[f"{name}.image"]
    assert found.shape == expected.shape and found.dtype == np.uint8
    off = np.abs(found.astype(int) - expected)
    if name in WARPS:  # whatever OpenCV is installed, ours moves pixels as the 4.8 of the golden file did
        assert off.max() == 0, (off.max(), off.mean())
    else:
        assert off.max() <= 1 and (off > 0).mean() < 0.02, (off.max(), (off > 0).mean())
    assert np.array_equal(image, GOLDEN["image"]) and np.array_equal(mask, GOLDEN["mask"])


# --- operations against definitions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_box_and_median_are_the_mean_and_the_median_of_the_window(kernel):
    image, reach = GOLDEN["image"], kernel // 2
    mirrored = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "reflect")
    mean = sliding_window_view(mirrored, (kernel, kernel), (0, 1)).mean((-1, -2))
    assert np.abs(augment_pixels.box_blur(image, kernel) - mean).max() <= 0.51
    repeated = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge")
    middle = np.median(sliding_window_view(repeated, (kernel, kernel), (0, 1)), (-1, -2))
    assert np.array_equal(augment_pixels.median_blur(image, kernel), middle)


def test_gaussian_kernel_of_three_is_the_binomial_one():
    image = np.zeros((9, 9, 3), np.uint8)
    image[4, 4] = 240
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    assert np.abs(augment_pixels.gaussian_blur(image, 3)[3:6, 3:6, 1] - 240 * binomial).max() <= 0.51


def test_motion_kernel_is_a_line():
    third = np.float32(1 / 3)
    assert np.array_equal(
        augment_pixels.motion_kernel(3, (0, 1), (2, 1)), third * np.float32([[0] * 3, [1] * 3, [0] * 3])
    )
    assert np.array_equal(
        augment_pixels.motion_kernel(3, (2, 0), (0, 2)), third * np.fliplr(np.eye(3, dtype=np.float32))
    )
    assert augment_pixels.motion_kernel(7, (6, 1), (0, 4)).sum() == pytest.approx(1)
    assert np.count_nonzero(augment_pixels.motion_kernel(7, (6, 1), (0, 4))) == 7
    image = np.zeros((5, 9, 3), np.uint8)
    image[2, 4] = 90
    moved = augment_pixels.motion_blur(image, augment_pixels.motion_kernel(3, (0, 1), (2, 1)))
    assert moved[2, :, 0].tolist() == [0, 0, 0, 30, 30, 30, 0, 0, 0] and moved.sum() == 270


def test_downscale_keeps_every_fourth_pixel():
    image = GOLDEN["image"][:24, :36]
    rows, columns = np.arange(24) // 4 * 4, np.arange(36) // 4 * 4
    assert np.array_equal(augment_pixels.downscale(image), image[rows][:, columns])


def test_noise_is_cut_off_not_rounded():
    image = np.full((1, 4, 3), 100, np.uint8)
    noise = np.float32([0.9, -0.1, 300, -300])[None, :, None]
    assert augment_pixels.gaussian_noise(image, noise)[0, :, 2].tolist() == [100, 99, 255, 0]


def test_sensor_noise_moves_lightness_and_hue():
    grey = np.full((6, 8, 3), 100, np.uint8)
    assert augment_pixels.lightness_deviation(grey) == 0
    photons = np.full((6, 8), 51, np.float32)  # a fifth of the way from L to 1
    assert np.abs(augment_pixels.iso_noise(grey, np.full((6, 8), 77), photons) - (100 + 0.2 * 155)).max() <= 1
    red = np.full((6, 8, 3), (200, 0, 0), np.uint8)
    still = np.zeros((6, 8), np.float32)
    assert np.abs(augment_pixels.iso_noise(red, still + 120, still) - np.array([0, 200.0, 0])).max() <= 1
    assert np.abs(augment_pixels.iso_noise(red, still - 120, still) - np.array([0, 0, 200.0])).max() <= 1
    half = np.concatenate([np.zeros((6, 8, 3)), np.full((6, 8, 3), (204, 51, 102))]).astype(np.uint8)
    assert augment_pixels.lightness_deviation(half) == pytest.approx(0.25)  # L = (204 + 51) / 2 / 255 = 0.5


def test_tones_by_hand():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    levels = np.arange(256.0)
    assert np.array_equal(augment_pixels.tone_curve(ramp, 1 / 3, 2 / 3), ramp)
    assert augment_pixels.tone_curve(ramp, 0, 0)[0, 51, 0] == round(255 * 0.2**3)
    assert np.abs(augment_pixels.gamma(ramp, 2.0)[0, :, 0] - (levels**2 / 255 - 0.5)).max() <= 0.51
    changed = augment_pixels.brightness_contrast(ramp, 0.5, -0.2)[0, :, 0]
    assert np.abs(changed - np.clip(1.5 * levels - 51 - 0.25, 0, 255)).max() <= 0.26
    flat = np.full((5, 5, 3), 100, np.uint8)
    assert (augment_pixels.sharpen(flat, 0.5, 0.6) == 80).all() and (augment_pixels.sharpen(flat, 0.4, 1) == 100).all()


@pytest.mark.parametrize("quality", [50, 95])
def test_jpeg_is_pillows_own_with_red_as_red(quality):
    image, file = GOLDEN["image"], io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    assert np.array_equal(augment_pixels.jpeg(image, quality), np.asarray(Image.open(file)))


def test_padding_mirrors_as_often_as_needed():
    image, mask = marked(9, 50)
    bigger, bigger_mask = augment_warps.pad(image, mask, 44)
    assert np.array_equal(bigger, np.pad(image, ((17, 18), (0, 0), (0, 0)), "reflect"))
    assert np.array_equal(bigger_mask, np.pad(mask, ((17, 18), (0, 0)), "reflect"))
    assert augment_warps.pad(image, mask, 9)[0] is image


def test_turns_by_hand():
    picture = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    image = np.repeat(picture[..., None], 3, axis=2)
    expected = {
        ("mirror", 1): [[3, 2, 1], [6, 5, 4]],
        ("flip", 1): [[4, 5, 6], [1, 2, 3]],
        ("transpose", 1): [[1, 4], [2, 5], [3, 6]],
        ("rotate", 0): [[1, 2, 3], [4, 5, 6]],
        ("rotate", 1): [[3, 6], [2, 5], [1, 4]],
        ("rotate", 3): [[4, 1], [5, 2], [6, 3]],
    }
    for (kind, quarters), values in expected.items():
        turned, mask = augment_warps.turn(image, picture, kind, quarters)
        assert mask.tolist() == values and turned[..., 1].tolist() == values
        assert turned.flags.c_contiguous and mask.flags.c_contiguous


def test_affine_map_moves_three_corners_by_their_shifts():
    shifts = np.float32([[3, -7], [50, 20], [-11, 0]])
    matrix = augment_warps.affine_matrix(300, 420, shifts)
    corners = np.array([[250, 310], [250, 110], [50, 110]])  # about (150, 210), a third of 300 away
    assert np.allclose(np.c_[corners, np.ones(3)] @ matrix.T, corners + shifts, atol=1e-3)


def test_elastic_field_pulls_the_picture():
    """Without shifts, constant noise is a constant displacement: out(x, y) = in(x + alpha·n, y + alpha·m)."""
    image, mask = marked(90, 120)
    noise = np.stack([np.full(mask.shape, 0.05, np.float32), np.full(mask.shape, -0.025, np.float32)])
    moved, moved_mask = augment_warps.elastic(image, mask, np.zeros((3, 2)), noise)
    assert np.array_equal(moved_mask[10:80, 10:110], mask[7:77, 16:116])
    assert np.abs(moved[10:80, 10:110].astype(int) - image[7:77, 16:116]).max() <= 1


def test_grid_line_reads_stretched_cells():
    assert augment_warps.grid_line(10, np.ones(6)).tolist() == [0, 2, 2, 4, 4, 6, 6, 8, 8, 10]
    line = augment_warps.grid_line(33, np.array([1, 1.2, 0.5, 1, 1, 7]))
    assert line[6:12].tolist() == pytest.approx([6, 7.44, 8.88, 10.32, 11.76, 13.2])  # from 6, over 6 · 1.2
    assert line[12:18].tolist() == pytest.approx([13.2, 13.8, 14.4, 15, 15.6, 16.2])
    assert line[30:].tolist() == pytest.approx([28.2, 30.6, 33])  # the remainder, whatever its factor
    assert len(augment_warps.grid_line(4, np.ones(6))) == 4 and len(augment_warps.grid_line(1, np.ones(6))) == 1


# --- pictures and masks together --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OPERATIONS, "turn", "scale", "pad"])
def test_mask_stays_on_its_mark(name):
    image, mask = marked(300, 400)
    before = image.copy(), mask.copy()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        if name == "turn":
            found, found_mask = augment_official.random_turn(image, mask, rng)
        elif name in ("scale", "pad"):
            found, found_mask = getattr(augment_warps, name)(image, mask, {"scale": 0.63, "pad": 500}[name])
        else:
            found, found_mask = OPERATIONS[name](image, mask, rng)
        assert found.dtype == found_mask.dtype == np.uint8 and found.shape[:2] == found_mask.shape
        assert found.flags.c_contiguous and found.flags.writeable
        assert set(np.unique(found_mask)) == {0, 1, 255}
        assert overlap(found, found_mask) > 0.92, (name, seed, overlap(found, found_mask))
        if name not in (*WARPS, "turn", "scale", "pad"):
            assert np.array_equal(found_mask, mask) and found.shape == image.shape and (found != image).any()
    assert np.array_equal(image, before[0]) and np.array_equal(mask, before[1])


def test_warps_move_the_mask():
    image, mask = marked(240, 320)
    for name in WARPS:
        moved = np.mean([(OPERATIONS[name](image, mask, np.random.default_rng(s))[1] != mask).mean() for s in range(5)])
        assert moved > 0.02, (name, moved)


@pytest.mark.parametrize("height, width", [(288, 288), (180, 600), (450, 210)])
def test_whole_pipeline_keeps_picture_and_mask_together(height, width):
    image, mask = marked(height, width)
    seen = set()
    for seed in range(40):
        found, found_mask = official_augment(image, mask, np.random.default_rng(seed), size=192)
        assert found.shape == (*found_mask.shape, 3) and found.dtype == found_mask.dtype == np.uint8
        assert set(np.unique(found_mask)) <= {0, 1, 255}
        assert found is image or min(found_mask.shape) >= 192
        assert overlap(found, found_mask) > 0.88, (seed, overlap(found, found_mask))
        seen.add(found_mask.shape)
    assert len(seen) > 5


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (7, 300)])
@pytest.mark.parametrize("size", [1, 24])
def test_tiny_pictures_pass(shape, size):
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (*shape, 3), dtype=np.uint8), rng.integers(0, 2, shape, dtype=np.uint8)
    for operation in OPERATIONS.values():
        assert operation(image, mask, rng)[0].shape == image.shape
    for _ in range(40):
        found, found_mask = official_augment(image, mask, rng, size)
        assert found.shape == (*found_mask.shape, 3) and (found is image or min(found_mask.shape) >= size)


def test_size_of_512_is_the_default():
    image, mask = marked(40, 600)
    sizes = {official_augment(image, mask, np.random.default_rng(s))[1].shape for s in range(12)}
    assert (40, 600) in sizes and all(min(s) >= 512 for s in sizes - {(40, 600)}) and len(sizes) > 2


@pytest.mark.parametrize(
    "image, mask, words",
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), "image of shape"),
        (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), "float32"),
        (np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8), np.uint8), r"expected \(8, 9\)"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), "bool"),
        (np.zeros((0, 8, 3), np.uint8), np.zeros((0, 8), np.uint8), "8×0"),
        (np.zeros((1, 32767, 3), np.uint8), np.zeros((1, 32767), np.uint8), "32766"),
    ],
)
def test_other_arrays_are_refused(image, mask, words):
    with pytest.raises(InputError, match=words):
        official_augment(image, mask, np.random.default_rng(0))


# --- chance -----------------------------------------------------------------------------------------------------------


def test_same_generator_same_picture():
    image, mask = marked(120, 90)
    rng = np.random.default_rng(3)
    image = (image // 2 + rng.integers(0, 100, image.shape)).astype(np.uint8)
    for name, operation in OPERATIONS.items():
        one, two, other = (operation(image, mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
        assert name == "downscale" or (one[0] != other[0]).any(), name
    results = [official_augment(image, mask, np.random.default_rng(s), 96) for s in (*range(20), *range(20))]
    for (one, one_mask), (two, two_mask) in zip(results[:20], results[20:], strict=True):
        assert np.array_equal(one, two) and np.array_equal(one_mask, two_mask)
    assert len({one.tobytes() for one, _ in results}) >= 10


def test_chances_are_those_of_the_released_code(monkeypatch):
    """Counted with operations that do nothing; bounds are four standard deviations of a count."""
    seen = Counter()

    def counted(name):
        return lambda *arrays_and_numbers: (seen.update([name]), arrays_and_numbers[:2])[1]

    for name in ("scale", "turn", "pad"):
        monkeypatch.setattr(augment_warps, name, counted(name))
    monkeypatch.setattr(augment_pixels, "jpeg", lambda image, quality: (seen.update(["jpeg"]), image)[1])
    groups = tuple(tuple(counted(operation.__name__) for operation in group) for group in GROUPS)
    monkeypatch.setattr(augment_official, "GROUPS", groups)
    image, mask, rng, draws = *marked(8, 8), np.random.default_rng(0), 12_000
    for _ in range(draws):
        official_augment(image, mask, rng)
    expected = {"pad": 0.75, "scale": 0.75**2, "turn": 0.75**2, "jpeg": 0.75**2}
    for group in GROUPS:
        expected.update({operation.__name__: 0.75 * 0.25 / 3 / len(group) for operation in group})
    assert set(seen) == set(expected) and [len(group) for group in GROUPS] == [4, 7, 2]
    for name, share in expected.items():
        spread = 4 * (share * (1 - share) / draws) ** 0.5
        assert abs(seen[name] / draws - share) < spread, (name, seen[name] / draws, share)


def test_a_quarter_of_the_pictures_is_left_alone():
    image, mask = marked(8, 12)
    rng, draws = np.random.default_rng(0), 2000
    untouched = 0
    for _ in range(draws):
        found, found_mask = official_augment(image, mask, rng, size=16)
        untouched += found is image and found_mask is mask
        assert (found is image) == (found.shape == image.shape)
    assert abs(untouched / draws - 0.25) < 0.04


RANGES = {  # operation: one (lowest, highest) for each of its numbers
    "brightness_contrast": [(-0.2, 0.2), (-0.2, 0.2)],
    "gamma": [(0.8, 1.2)],
    "sharpen": [(0.2, 0.5), (0.5, 1.0)],
    "elastic": [(-50, 50), (-1, 1)],
    "grid_distortion": [(0.7, 1.3), (0.7, 1.3)],
}


@pytest.mark.parametrize("name", RANGES)
def test_numbers_fill_their_ranges(name, monkeypatch):
    place, skip = (augment_warps, 2) if name in WARPS else (augment_pixels, 1)
    found = recorded(monkeypatch, place, name, skip, 300)
    for column, (low, high) in zip(zip(*found, strict=True), RANGES[name], strict=True):
        values, reach = np.concatenate([np.ravel(v) for v in column]), 0.03 * (high - low)
        assert low <= values.min() < low + reach and high - reach < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=4 * (high - low) / (12 * len(values)) ** 0.5)


def recorded(monkeypatch, place, name, skip, draws, picture=None):
    """The parameters that an operation draws, without the arrays before them."""
    found = []
    monkeypatch.setattr(place, name, lambda *values: (found.append(values[skip:]), values[:2])[1])
    image, mask = picture or marked(8, 12)
    rng = np.random.default_rng(5)
    for _ in range(draws):
        OPERATIONS[name](image, mask, rng)
    return found


def test_whole_numbers_come_with_their_frequencies(monkeypatch):
    for name, shares in (("box_blur", [1, 1, 1]), ("median_blur", [1, 1, 1]), ("gaussian_blur", [0.6, 1.2, 1.2])):
        counts = Counter(k for (k,) in recorded(monkeypatch, augment_pixels, name, 1, 1500))
        assert set(counts) == {3, 5, 7}
        assert [counts[k] / 500 for k in (3, 5, 7)] == pytest.approx(shares, abs=0.15), name
    kernels = [k for (k,) in recorded(monkeypatch, augment_pixels, "motion_blur", 1, 600)]
    assert {k.shape for k in kernels} == {(3, 3), (5, 5), (7, 7)}
    assert all(np.count_nonzero(k) > 1 for k in kernels)  # a point would be no motion
    assert len({k.tobytes() for k in kernels}) > 100


def test_turns_qualities_and_scales(monkeypatch):
    found, qualities, factors = Counter(), set(), []
    monkeypatch.setattr(augment_warps, "turn", lambda i, m, kind, q: (found.update([(kind, q)]), (i, m))[1])
    monkeypatch.setattr(augment_pixels, "jpeg", lambda image, quality: (qualities.add(quality), image)[1])
    monkeypatch.setattr(augment_warps, "scale", lambda i, m, factor: (factors.append(factor), (i, m))[1])
    image, mask = marked(8, 8)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        augment_official.random_turn(image, mask, rng)
        official_augment(image, mask, rng, size=8)
    total = sum(found.values())
    chances = dict.fromkeys([(kind, 1) for kind in ("mirror", "flip", "transpose")], 1 / 4)
    chances |= {("rotate", q): 1 / 16 for q in range(4)}
    assert {k: v / total for k, v in found.items()} == pytest.approx(chances, abs=0.03)
    assert qualities == set(range(50, 96))
    assert 0.5 <= min(factors) < 0.51 and 0.99 < max(factors) <= 1 and np.mean(factors) == pytest.approx(0.75, abs=0.02)


def test_noises_have_their_strength(monkeypatch):
    image, mask = marked(40, 50)
    fields = [noise for (noise,) in recorded(monkeypatch, augment_pixels, "gaussian_noise", 1, 120, (image, mask))]
    variances = [noise.var() for noise in fields]
    assert 9 < min(variances) < 13 and 47 < max(variances) < 53 and abs(np.mean(fields)) < 0.1
    assert (
        fields[0].shape == image.shape
        and abs(np.corrcoef(fields[0][..., 0].ravel(), fields[0][..., 1].ravel())[0, 1]) < 0.1
    )
    sensor = recorded(monkeypatch, augment_pixels, "iso_noise", 1, 300, (image, mask))
    degrees = [hue.std() for hue, _ in sensor]  # 360 · (0.01 … 0.05) · (0.1 … 0.5)
    assert 0.3 < min(degrees) < 0.8 and 7 < max(degrees) < 9.4
    means = np.array([photons.mean() for _, photons in sensor]) / (255 * augment_pixels.lightness_deviation(image))
    assert 0.09 < means.min() < 0.12 and 0.48 < means.max() < 0.52
    assert np.mean([photons.var() / photons.mean() for _, photons in sensor]) == pytest.approx(1, abs=0.05)  # Poisson


def test_tone_curve_scatters_by_a_tenth(monkeypatch):
    low, high = np.array(recorded(monkeypatch, augment_pixels, "tone_curve", 1, 3000)).T
    assert low.min() >= 0 and high.max() <= 1
    assert (low.mean(), high.mean()) == pytest.approx((0.25, 0.75), abs=0.01)
    assert (low.std(), high.std()) == pytest.approx((0.1, 0.1), abs=0.01)


def test_elastic_warp_is_the_strong_one():
    """A mark in the middle of 512 × 512 wanders tens of pixels; with FOCAL's ± 3.6 it would stay within about 6."""
    image = np.zeros((512, 512, 3), np.uint8)
    mask = np.zeros((512, 512), np.uint8)
    mask[236:276, 236:276] = 1
    wandered = []
    for seed in range(12):
        _, moved = OPERATIONS["elastic"](image, mask, np.random.default_rng(seed))
        wandered.append(np.hypot(*(np.argwhere(moved).mean(axis=0) - 255.5)))
    assert 12 < np.median(wandered) < 60, wandered


# --- the same bytes everywhere ----------------------------------------------------------------------------------------


BYTES = {
    "box_blur": "7c2a07ecd84f5d51",
    "gaussian_blur": "2f3926a09e86008f",
    "median_blur": "69b33eaebfb6739d",
    "motion_blur": "0a1369a9abe875a4",
    "downscale": "417a97b8c99c78f4",
    "gaussian_noise": "0f862a6541abe80a",
    "iso_noise": "ca256f35fc271aad",
    "brightness_contrast": "5d70e8f69e7fcc46",
    "gamma": "886b5b4613eb68fd",
    "tone_curve": "f07d1877d64ed753",
    "sharpen": "fff9b20033163980",
    "elastic": "28fbcc556a2d3ac1",
    "grid_distortion": "ae0e185b4f36fad9",
}


@pytest.mark.trust
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_the_same_bytes_on_every_processor(name):
    """`tests/opencv_versions.sh` runs this under several versions of OpenCV and without instructions of a processor."""
    whole = hashlib.sha256()
    for seed in range(24):
        small = np.random.default_rng([3, seed]).integers(0, 256, (37, 41, 3), dtype=np.uint8)
        image = small.repeat(5, axis=0).repeat(5, axis=1)
        mask = (image[..., 0] > 200).astype(np.uint8)
        for made in OPERATIONS[name](image, mask, np.random.default_rng([4, seed])):
            whole.update(made.tobytes())
    assert whole.hexdigest()[:16] == BYTES[name]
