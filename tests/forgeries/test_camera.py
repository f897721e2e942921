"""Cameras: each part of the way from light to a photograph against its definition."""

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.forgeries.camera import Camera, demosaic, mosaic, photograph, shoot
from mpc_lite.forgeries.scenes import dead_leaves

METHODS = ("bilinear", "edge_aware", "malvar", "colour_difference")
QUIET = Camera("quiet", "malvar", (1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 95, 0)


def test_mosaic_keeps_one_colour_per_pixel():
    light = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)
    raw = mosaic(light)
    pattern = [[0, 1], [1, 2]]  # RGGB
    for y in range(6):
        for x in range(8):
            assert raw[y, x] == light[y, x, pattern[y % 2][x % 2]]


@pytest.mark.parametrize("method", METHODS)
def test_demosaicing_keeps_a_flat_colour_and_the_measured_pixels(method):
    flat = np.full((32, 32, 3), [0.8, 0.4, 0.1], np.float32)
    assert np.abs(demosaic(mosaic(flat), method) - flat).max() < 1e-4
    raw = mosaic(dead_leaves(3, 64).astype(np.float32) / 255)
    full = demosaic(raw, method)[8:-8, 8:-8]
    inner = raw[8:-8, 8:-8]
    assert np.abs(full[0::2, 0::2, 0] - inner[0::2, 0::2]).max() < 1e-4
    assert np.abs(full[1::2, 1::2, 2] - inner[1::2, 1::2]).max() < 1e-4
    assert np.abs(full[0::2, 1::2, 1] - inner[0::2, 1::2]).max() < 1e-4


def test_demosaicing_methods_differ_and_approximate_the_scene():
    light = np.asarray(Image.fromarray(dead_leaves(3, 128)).resize((64, 64), Image.Resampling.BOX), np.float32) / 255
    results = [demosaic(mosaic(light), m) for m in METHODS]
    for i, one in enumerate(results):
        assert np.abs(one - light)[8:-8, 8:-8].mean() < 0.06
        for other in results[:i]:
            assert np.abs(one - other).mean() > 1e-4
    with pytest.raises(InputError, match="unknown"):
        demosaic(mosaic(light), "nearest")


def test_sensor_noise_has_the_variance_it_claims():
    shot, read, signal = 4e-3, 1e-4, 0.5
    camera = Camera("noisy", "bilinear", (1.0, 1.0, 1.0), shot, read, 0.0, 0.0, 1.0, 1.0, 95, 0)
    light = np.full((256, 256, 3), signal, np.float32)
    image = shoot(light, camera, np.random.default_rng(0)).astype(np.float64) / 255
    # At red sites bilinear demosaicing leaves red as measured.
    measured = image[0::2, 0::2, 0].var() - 1 / (12 * 255**2)
    assert measured == pytest.approx(shot * signal + read, rel=0.05)


def test_a_camera_without_faults_only_applies_its_curve():
    light = np.full((40, 40, 3), 0.25, np.float32)
    camera = Camera("plain", "malvar", (1.5, 1.0, 1.8), 0.0, 0.0, 0.0, 0.0, 2.0, 1.0, 95, 0)
    assert np.abs(shoot(light, camera, np.random.default_rng(0)).astype(int) - 128).max() <= 1


def test_photograph_shifts_the_grid_and_cuts_the_asked_size():
    light = dead_leaves(1, 96).astype(np.float32) / 255
    a = photograph(light, QUIET, np.random.default_rng(0), 64, (0, 0))
    b = photograph(light, QUIET, np.random.default_rng(0), 64, (3, 5))
    assert a.shape == b.shape == (64, 64, 3)
    assert np.array_equal(a[3:, 5:], b[:-3, :-5])
