"""One photograph in, one score map out: tiles without seams, sizes of every kind, files that say what was found."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.files import RAISED
from mpc_lite.inference.forward import stretch_map
from mpc_lite.inference.localizer import Hit, Localizer, blend_weights, map_of, tile_starts
from mpc_lite.network.model import MPC


class Fake(nn.Module):
    """A network whose scores are `rule(images)`, at stride 4 like MPC's or any other; remembers what it was shown."""

    def __init__(self, rule, stride=4):
        super().__init__()
        self.rule, self.stride, self.seen, self.modes = rule, stride, [], set()

    def forward(self, images):
        self.seen.append(images.clone())
        self.modes.add((self.training, torch.is_inference_mode_enabled()))
        scores = self.rule(F.avg_pool2d(images, self.stride, ceil_mode=True, count_include_pad=False))
        return torch.logit(scores.double(), 1e-9)


def constant(value):
    return lambda x: torch.full_like(x[:, :1], value)


def brightness(x):
    return x.mean(dim=1, keepdim=True)


def depends_on_place(x):
    """A score that is another one in every corner of a tile, so that a wrong blend shows."""
    ramp = torch.linspace(0.1, 0.6, x.shape[2])[:, None] + torch.linspace(0, 0.3, x.shape[3])[None] ** 2
    return (brightness(x) + ramp) / 2


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.repeat(((rows * 2 + columns) % 256)[..., None], 3, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    return MPC.build("nano").eval()


# -------------------------------------------------------------------------------------------------------------- tiles

SIZES = [(64, 64), (65, 64), (64, 100), (150, 201), (200, 63), (63, 200), (30, 40), (5, 70), (1, 1), (7, 3)]


@pytest.mark.parametrize("overlap", [0, 16, 40, 63])
@pytest.mark.parametrize("shape", SIZES)
def test_a_constant_stays_exactly_that_constant(shape, overlap):
    if overlap == 63 and max(shape) > 100:
        return  # thousands of tiles for nothing new
    hit = Localizer(Fake(constant(0.25)), "tiles", size=64, overlap=overlap)(photo(*shape))
    assert hit.score_map.shape == shape and hit.score_map.dtype == np.float32
    assert np.unique(hit.score_map).size == 1 and abs(hit.score_map[0, 0] - 0.25) < 1e-7


@pytest.mark.parametrize("shape", SIZES)
def test_a_network_that_sees_brightness_gives_back_the_photo(shape):
    image = photo(*shape)
    hit = Localizer(Fake(brightness, stride=1), "tiles", size=64, overlap=24)(image)
    np.testing.assert_allclose(hit.score_map, image.mean(axis=2) / 255, atol=1e-6)


def test_at_stride_4_a_smooth_photo_comes_back_without_seams():
    rows, columns = np.mgrid[:150, :210]
    image = np.repeat((40 + 0.6 * rows + 0.4 * columns).astype(np.uint8)[..., None], 3, axis=2)
    score_map = Localizer(Fake(brightness), "tiles", size=64, overlap=32)(image).score_map
    np.testing.assert_allclose(
        score_map, image[..., 0] / 255, atol=2.5 / 255
    )  # a slope of 1, over half a stride, + rounding


@pytest.mark.parametrize("shape, size, overlap", [((64, 150), 64, 16), ((131, 90), 64, 50), ((200, 64), 96, 0)])
def test_tiles_are_blended_as_the_slow_way_does_it(shape, size, overlap):
    """Oracle: all tiles, their raised-cosine weights, and two full-size sums."""
    image, model = photo(*shape), Fake(depends_on_place)
    padded = np.pad(image, [(0, max(0, size - side)) for side in shape] + [(0, 0)], mode="reflect")
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * (i + 0.5) / size) for i in range(size)])
    weighted, weights = np.zeros(padded.shape[:2]), np.zeros(padded.shape[:2])

    def starts(length):
        found = [0]
        while found[-1] + size < length:
            found.append(min(found[-1] + size - overlap, length - size))
        return found

    for top in starts(padded.shape[0]):
        for left in starts(padded.shape[1]):
            tile = torch.from_numpy(padded[top : top + size, left : left + size]).permute(2, 0, 1)[None] / 255
            scores = F.interpolate(torch.sigmoid(model(tile)), size=(size, size), mode="bilinear")[0, 0].numpy()
            weighted[top : top + size, left : left + size] += np.outer(window, window) * scores
            weights[top : top + size, left : left + size] += np.outer(window, window)
    expected = (weighted / weights)[: shape[0], : shape[1]]
    for batch in (1, 3, 100):
        hit = Localizer(model, "tiles", size, overlap, batch=batch)(image)
        np.testing.assert_allclose(hit.score_map, expected, atol=1e-6)
        assert max(len(images) for images in model.seen) <= batch


def test_every_tile_is_full_size_and_inside_the_photo():
    image = photo(150, 201)
    model = Fake(brightness)
    Localizer(model, "tiles", size=64, overlap=16, batch=2)(image)
    assert {tuple(images.shape[1:]) for images in model.seen} == {(3, 64, 64)}
    last = model.seen[-1][-1].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(last, image[-64:, -64:] / np.float32(255), atol=1e-7)


def test_a_photo_smaller_than_a_tile_is_mirrored_at_its_lower_right():
    image = photo(40, 50)
    model = Fake(brightness)
    Localizer(model, "tiles", size=64)(image)
    shown = (model.seen[0][0].permute(1, 2, 0).numpy() * 255).round()
    assert shown.shape == (64, 64, 3)
    np.testing.assert_array_equal(shown[:40, :50], image)
    np.testing.assert_array_equal(shown[40:, :50], image[38:14:-1])
    np.testing.assert_array_equal(shown[:40, 50:], image[:, 48:34:-1])


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 80), overlap=st.floats(0, 1, exclude_max=True), more=st.integers(0, 300))
def test_weights_are_positive_and_sum_to_one_at_every_pixel(size, overlap, more):
    overlap, length = int(overlap * size), size + more
    starts = tile_starts(length, size, overlap)
    weights = blend_weights(starts, size)
    total = np.zeros(length)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + size] += row
    assert starts[0] == 0 and starts[-1] == length - size
    assert all(0 < step <= size - overlap for step in np.diff(starts))
    assert (weights > 0).all()
    np.testing.assert_allclose(total, 1, rtol=1e-14)


@pytest.mark.slow
def test_batch_size_does_not_matter_to_the_real_network(nano):
    image = ramp(100, 150)
    maps = [Localizer(nano, "tiles", size=64, overlap=16, batch=b)(image).score_map for b in (1, 4)]
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)
    assert maps[0].std() > 0


MEMORY = """
import numpy as np, torch
from torch import nn
from mpc_lite.inference.localizer import Localizer

def kib(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])

class Mean(nn.Module):
    def forward(self, images):
        return nn.functional.avg_pool2d(images, 4).mean(1, keepdim=True)

torch.set_num_threads(1)
localizer = Localizer(Mean(), "tiles", size=256, overlap=64)
localizer(np.zeros((300, 300, 3), np.uint8))
for side in (1500, 3000):
    image = np.ones((side, side * 4 // 3, 3), np.uint8)
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
    before = kib("VmRSS")
    localizer(image)
    print(kib("VmHWM") - before - side * (side * 4 // 3) * 4 // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read the way Linux offers")
def test_memory_beyond_the_map_does_not_grow_with_the_photo():
    """3 and 12 megapixels: a second map would cost 27 MB more, the band grows by 256 rows × 2000 × 8 bytes = 4 MB."""
    # Large blocks are asked of the system and handed back at once: glibc moves that border as it goes, by chance.
    as_is = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=as_is)
    small, large = (int(line) / 1024 for line in run.stdout.split())
    assert large - small < 14, f"{small:.0f} MiB at 3 megapixels, {large:.0f} MiB at 12"
    assert large < 100


# --------------------------------------------------------------------------------------------------- the other modes


@pytest.mark.parametrize("shape, padded", [((64, 96), (64, 96)), ((33, 70), (64, 96)), ((1, 1), (32, 32))])
def test_pad_shows_the_whole_photo_mirrored_to_a_multiple_of_32(shape, padded):
    image = photo(*shape)
    model = Fake(brightness, stride=1)
    hit = Localizer(model, "pad")(image)
    assert [tuple(images.shape) for images in model.seen] == [(1, 3, *padded)]
    border = [(0, p - s) for p, s in zip(padded, shape, strict=True)]
    expected = np.pad(image, [*border, (0, 0)], mode="reflect") / np.float32(255)
    np.testing.assert_allclose(model.seen[0][0].permute(1, 2, 0), expected, atol=1e-7)
    np.testing.assert_allclose(hit.score_map, image.mean(axis=2) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["pad", "stretch", "tiles"])
def test_a_view_of_an_array_is_a_photograph_too(mode):
    """OpenCV's pictures with their channels turned round have strides that torch does not take."""
    image = photo(64, 96)
    localizer = Localizer(Fake(brightness, stride=1), mode, size=64)
    for view in (image[:, :, ::-1], image[::-1]):
        np.testing.assert_array_equal(localizer(view).score_map, localizer(view.copy()).score_map)


def test_a_map_may_be_a_tensor_of_a_network_that_learns():
    image, values = photo(8, 8), torch.rand(8, 8)
    for score_map in (values.clone().requires_grad_(), values.bfloat16()):
        np.testing.assert_array_equal(map_of(lambda _, m=score_map: m, image), score_map.detach().float().numpy())


@pytest.mark.trust
@pytest.mark.parametrize("mode, shape, padded", [("tiles", (1, 600), "600×64"), ("pad", (1, 2000), "2016×32")])
def test_a_strip_counts_with_the_pixels_it_is_mirrored_to(monkeypatch, mode, shape, padded):
    width, height = map(int, padded.split("×"))
    strip = np.zeros((*shape, 3), np.uint8)
    monkeypatch.setenv(RAISED, str(width * height))
    assert Localizer(Fake(constant(0.5)), mode=mode, size=64)(strip).score_map.shape == shape
    monkeypatch.setenv(RAISED, str(width * height - 1))
    with pytest.raises(InputError, match=f"is mirrored to {padded} pixels, at most .* --max-pixels {width * height}$"):
        Localizer(Fake(constant(0.5)), mode=mode, size=64)(strip)


def test_stretch_is_the_papers_way(nano):
    image = ramp(70, 110)
    np.testing.assert_array_equal(Localizer(nano, "stretch", size=64)(image).score_map, stretch_map(nano, image, 64))


@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_real_network_in_every_mode(nano, mode):
    hit = Localizer(nano, mode, size=64)(ramp(45, 90))
    assert hit.score_map.shape == hit.mask.shape == (45, 90)
    assert hit.score_map.dtype == np.float32 and hit.mask.dtype == bool
    assert 0 <= hit.score_map.min() <= hit.score <= hit.score_map.max() <= 1


@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_the_network_runs_in_eval_mode_without_gradients_and_is_left_as_it_was(mode):
    model = Fake(brightness)
    for training in (True, False):
        model.train(training)
        Localizer(model, mode, size=32)(photo(40, 40))
        assert model.training is training
    assert model.modes == {(False, True)}


def test_settings_come_from_the_checkpoints_recipe_unless_given():
    model = Fake(brightness)

    def settings_of(**given):
        localizer = Localizer(model, **given)
        return localizer.mode, localizer.size, localizer.overlap

    assert settings_of()[:2] == ("stretch", 512)
    model.recipe = {"evaluate": {"mode": "tiles", "size": 256, "overlap": 32, "protocol": "mpc"}}
    assert settings_of() == ("tiles", 256, 32)
    assert settings_of(overlap=0) == ("tiles", 256, 0)
    assert settings_of(size=64) == ("tiles", 64, 16)
    assert settings_of(mode="stretch")[:2] == ("stretch", 256)
    model.recipe = {"evaluate": {"mode": "stretch", "size": 128, "overlap": 0}}
    assert settings_of(mode="tiles") == ("tiles", 128, 32)


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"mode": "tile"}, "mode 'tile' is unknown; choose one of stretch, pad, tiles"),
        ({"mode": "tiles", "size": 64, "overlap": 64}, "size 64, overlap 64"),
        ({"mode": "tiles", "overlap": -1}, "overlap -1"),
        ({"mode": "tiles", "size": 16}, "a size of at least 32"),
        ({"batch": 0}, "batch 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, expected):
    with pytest.raises(InputError, match=expected):
        Localizer(Fake(brightness), **given)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_arrays_that_are_no_photo_are_refused(image):
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
        Localizer(Fake(brightness))(image)


@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_a_network_that_answers_nan_is_an_error(mode):
    with pytest.raises(InputError, match="not a number"):
        Localizer(Fake(constant(float("nan"))), mode, size=64)(photo(40, 40))


@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_a_photo_turned_by_its_exif_tag_scores_like_one_turned_by_hand(tmp_path, mode):
    image = photo(40, 70)
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned by 90° clockwise
    Image.fromarray(image).save(tmp_path / "tagged.png", exif=exif)
    localizer = Localizer(Fake(depends_on_place), mode, size=64)
    by_tag, by_hand = localizer(tmp_path / "tagged.png"), localizer(np.rot90(image, -1).copy())
    assert by_tag.score_map.shape == (70, 40)
    np.testing.assert_array_equal(by_tag.score_map, by_hand.score_map)


def test_views_and_read_only_arrays_are_taken(nano):
    image = ramp(40, 70)
    image.flags.writeable = False
    for mode in ("stretch", "pad", "tiles"):
        localizer = Localizer(nano, mode, size=32)
        np.testing.assert_array_equal(
            localizer(image[:, ::-1]).score_map, localizer(image[:, ::-1].copy()).score_map, err_msg=mode
        )


# ---------------------------------------------------------------------------------------------------------------- hit


def test_mask_is_above_a_half():
    hit = Hit(np.float32([[0.5, 0.5001, 0.4999, 1]]))
    np.testing.assert_array_equal(hit.mask, [[False, True, False, True]])


def test_a_single_nan_makes_the_score_nan():
    score_map = np.zeros((300, 20), np.float32)
    score_map[280, 3] = np.nan
    assert np.isnan(Hit(score_map).score)


def test_score_is_the_largest_mean_of_8x8_blocks():
    score_map = np.zeros((16, 24), np.float32)
    score_map[3, 3] = 1  # one odd pixel counts a 64th
    assert Hit(score_map).score == pytest.approx(1 / 64)
    score_map[8:16, 8:16] = 0.75
    assert Hit(score_map).score == pytest.approx(0.75)
    tall = np.zeros((300, 8), np.float32)
    tall[124:132] = 1  # across two blocks
    assert Hit(tall).score == pytest.approx(0.5)
    assert Hit(np.float32([[0.2, 0.6, 0.4]])).score == pytest.approx(0.4)  # smaller than a block: the mean


# ------------------------------------------------------------------------------------------------------- saved maps


def test_evaluating_twice_makes_each_map_once(tmp_path):
    Image.fromarray(photo(50, 70)).save(tmp_path / "a.png")
    Image.fromarray(photo(40, 64, 1)).save(tmp_path / "b.png")
    samples = [Sample(tmp_path / f"{name}.png", None, 0, "x", row=row) for row, name in enumerate("ab")]

    class Counted(Fake):
        def __init__(self, value):
            super().__init__(brightness)
            self.value = nn.Parameter(torch.tensor(value))

    model, maps = Counted(1.0), tmp_path / "maps"
    first = evaluate(Localizer(model, "tiles", size=32), samples, maps_dir=maps)
    shown = len(model.seen)
    assert shown > 0
    assert evaluate(Localizer(model, "tiles", size=32), samples, maps_dir=maps) == first
    assert len(model.seen) == shown  # no map was computed
    evaluate(Localizer(model, "tiles", size=32, overlap=0), samples, maps_dir=maps)
    assert len(model.seen) > shown
    same = Localizer(Counted(1.0), "tiles", size=32)
    before = same.fingerprint
    assert before == Localizer(model, "tiles", size=32).fingerprint
    ways = [Localizer(model, "pad", size=32), Localizer(model, "tiles", size=64), Localizer(model, "tiles", 32, 4)]
    assert len({before, *(way.fingerprint for way in ways)}) == 4
    with torch.no_grad():
        same.model.value += 1
    assert same.fingerprint != before  # trained on: its maps are others


def test_confidence_is_one_where_all_mirrors_answer_alike():
    hit = Localizer(Fake(brightness, stride=1), "tiles", size=32).with_confidence(photo(40, 72))
    np.testing.assert_allclose(hit.confidence_map, 1, atol=1e-3)
    np.testing.assert_array_equal(
        hit.score_map, Localizer(Fake(brightness, stride=1), "tiles", size=32)(photo(40, 72)).score_map
    )


def test_confidence_is_the_spread_over_four_mirrors():
    localizer, image = Localizer(Fake(depends_on_place, stride=1), "pad"), photo(64, 96)
    hit = localizer.with_confidence(image)
    answers = [localizer(np.ascontiguousarray(np.flip(image, axes))).score_map for axes in ((), (1,), (0,), (0, 1))]
    answers = [np.flip(answer, axes) for answer, axes in zip(answers, ((), (1,), (0,), (0, 1)), strict=True)]
    np.testing.assert_allclose(hit.confidence_map, 1 - 2 * np.std(answers, axis=0), atol=1e-5)
    assert hit.confidence_map.min() < 0.9 and hit.confidence_map.dtype == np.float32


# -------------------------------------------------------------------------------------------------------- wrong types


@pytest.mark.parametrize(
    "wrong",
    [Image.new("RGB", (8, 8)), torch.zeros(8, 8, 3, dtype=torch.uint8), [[[1, 2, 3]]], None, 5, b"p.png"],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_photo_of_another_type_is_told_what_to_be(wrong):
    localizer = Localizer(Fake(constant(0.5)), size=64)
    kind = f"{type(wrong).__module__}.{type(wrong).__qualname__}"
    for score in (localizer, localizer.with_confidence, lambda photo: localizer.calibrate([photo], "ours")):
        with pytest.raises(InputError) as refusal:
            score(wrong)
        assert f"a photo of type {kind}; expected a path or an array (H, W, 3) uint8 RGB" in str(refusal.value)
        assert "np.asarray(image.convert('RGB'))" in str(refusal.value)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (4.0, 5), (4,), (4, 5, 3), 5, "45", (True, True)])
@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_a_map_of_a_shape_that_cannot_be_is_refused(mode, shape):
    with pytest.raises(InputError, match=r"a map of shape .*; expected \(height, width\)"):
        Localizer(Fake(constant(0.5)), mode, size=64)(photo(20, 30), shape)


@pytest.mark.parametrize("mode", ["stretch", "pad", "tiles"])
def test_a_map_of_more_pixels_than_a_photo_may_have_is_refused_before_any_work(monkeypatch, mode):
    network = Fake(constant(0.5))
    for shape in ((10**6, 10**6), (10**5000, 2)):
        with pytest.raises(InputError, match=r"expected \(height, width\) of at most 268435456 pixels"):
            Localizer(network, mode, size=64)(photo(20, 30), shape)
    assert not network.seen
    monkeypatch.setenv(RAISED, str(2**29))  # whoever trusts larger photos wants maps of their size
    with pytest.raises(InputError, match=f"of at most {2**29} pixels"):
        Localizer(network, mode, size=64)(photo(20, 30), (2**15, 2**15))
    assert Localizer(network, mode, size=64)(photo(20, 30), [9, 8]).score_map.shape == (9, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_of_other_numbers_is_told_what_to_be(dtype):
    network = MPC.build("nano").to(dtype)
    for mode in ("stretch", "tiles"):
        with pytest.raises(InputError, match=f"weights are {str(dtype)[6:]}, and the images .* float32; .*float()"):
            Localizer(network, mode, size=64)(photo(20, 30))
    broken = Fake(lambda images: images @ images[:, :1, :1])
    with pytest.raises(RuntimeError):  # of a network of float32 it says what it is
        Localizer(broken, size=64)(photo(20, 30))


def test_a_network_that_brings_the_images_to_its_own_numbers_is_taken():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 4, 4).to(torch.bfloat16)

        def forward(self, images):
            return self.layer(images.to(torch.bfloat16))

    assert 0 < Localizer(Half(), size=64)(photo(20, 30)).score < 1


@pytest.mark.parametrize("facts", [5, {"calibration": 5}, {"calibration": {}}, {"calibration": {"scores": [2.0]}}])
def test_facts_that_are_none_are_named(facts):
    with pytest.raises(InputError, match=r"facts (of type int; expected|say what cannot be: calibration)"):
        Localizer(Fake(constant(0.5)), size=64, facts=facts)


@pytest.mark.parametrize("device", ["nope", "cuda:77", "mps:x", 5, [3]])
def test_a_device_that_is_none_is_told_what_to_be(device):
    with pytest.raises(InputError, match="is unknown, or not in this machine; choose auto, cpu or cuda"):
        Localizer.from_pretrained("lite", device=device)
    assert Localizer.from_pretrained("lite", device=torch.device("cpu")).size >= 32


def test_cuda_without_a_gpu_is_told_as_everywhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="this torch sees no CUDA device"):
        Localizer.from_pretrained("lite", device="cuda")


@pytest.mark.parametrize("numbers", [{"size": "64"}, {"size": 64.5}, {"size": 64, "overlap": 8.0}, {"batch": "4"}])
def test_numbers_that_are_none_are_named(numbers):
    ((name, value),) = [(name, value) for name, value in numbers.items() if not isinstance(value, int)]
    with pytest.raises(InputError, match=rf"{name} {value!r}.*; expected whole numbers"):
        Localizer(Fake(constant(0.5)), "tiles", **numbers)


@pytest.mark.parametrize("size", [0, -64, 31, True])
def test_sizes_below_the_least_are_refused(size):
    with pytest.raises(InputError, match=rf"size {int(size)}, .*expected a size of at least 32"):
        Localizer(Fake(constant(0.5)), size=size)


def test_a_batch_does_not_grow_with_the_size_that_weights_ask_for():
    batches = {
        size: Localizer(Fake(constant(0.5)), "tiles", np.int64(size)).batch for size in (96, 192, 512, 1024, 2048)
    }
    assert batches == {96: 64, 192: 16, 512: 4, 1024: 1, 2048: 1}
