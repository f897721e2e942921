import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.contrast.sampling import sample_pixels
from mpc_lite.errors import InputError


def numbered_maps(batch, height, width):
    """One channel that holds each pixel's own number, so a drawn embedding tells where it came from."""
    return torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width).repeat(batch, 1, 1, 1)


def drawn(result, image):
    embeddings, valid = result
    return embeddings[image, valid[image], 0].long().tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.sampled_from([None, 1, 2, 7, 100]), st.integers(0, 999)
)
def test_draws_are_distinct_pixels_of_the_class(batch, height, width, cap, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 255])[torch.randint(0, 3, (batch, height, width), generator=generator)]
    keys = torch.rand(batch, height * width, generator=generator)
    maps = numbered_maps(batch, height, width)
    for target in (0, 1):
        fixed, compact = (sample_pixels(maps, labels, target, cap, keys, path) for path in ("fixed", "compact"))
        slots = height * width if cap is None else min(cap, height * width)
        assert fixed.embeddings.shape == (batch, slots, 1) and fixed.valid.shape == (batch, slots)
        assert compact.embeddings.shape[1] == compact.valid.sum(1).max()
        for i in range(batch):
            of_class = (labels[i].flatten() == target).nonzero()[:, 0].tolist()
            got = drawn(fixed, i)
            assert len(got) == min(len(of_class), slots) == len(set(got)) and set(got) <= set(of_class)
            assert sorted(got) == sorted(drawn(compact, i))


def test_every_pixel_is_drawn_equally_often():
    torch.manual_seed(0)
    trials, cap = 4000, 5
    labels = torch.zeros(trials, 4, 5, dtype=torch.uint8)
    labels[:, 0, :] = 1
    labels[:, 1, :3] = 255  # 12 authentic pixels are left
    result = sample_pixels(numbered_maps(trials, 4, 5), labels, 0, max_pixels=cap)
    assert result.valid.all()
    counts = torch.bincount(result.embeddings.flatten().long(), minlength=20).float()
    of_class = labels[0].flatten() == 0
    assert counts[~of_class].sum() == 0
    # Each pixel's count is binomial with p = 5/12; the scaled chi-square has 11 degrees of freedom (99.9 %: 31.3).
    expected, p = trials * cap / 12, cap / 12
    chi_square = ((counts[of_class] - expected) ** 2 / (expected * (1 - p))).sum() * (11 / 12)
    assert chi_square < 31.3
    # Pairs as well: two given pixels meet with probability 5·4/(12·11).
    first, second = (result.embeddings == n for n in (10, 19))
    together = (first.any(1) & second.any(1)).float().mean()
    assert abs(together - 20 / 132) < 4 * (20 / 132 * 112 / 132 / trials) ** 0.5


def test_gradient_reaches_the_drawn_pixels_once():
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    embeddings, valid = sample_pixels(maps, labels, 1)
    (embeddings * valid.unsqueeze(2)).sum().backward()
    assert torch.equal(maps.grad, (labels == 1).double().unsqueeze(1).expand_as(maps))


@pytest.mark.parametrize("path", ["fixed", "compact"])
def test_a_class_nobody_has_gives_no_valid_row_and_stays_attached(path):
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    embeddings, valid = sample_pixels(maps, torch.full((2, 4, 4), 255), 1, max_pixels=5, path=path)
    assert not valid.any()
    embeddings.sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_auto_is_compact_on_the_cpu():
    labels = torch.zeros(1, 4, 4)
    labels[:, 0, :3] = 1
    assert sample_pixels(numbered_maps(1, 4, 4), labels, 1).embeddings.shape == (1, 3, 1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": torch.zeros(1, 3, 4)}, "size of the map"),
        ({"target": 255}, "0 \\(authentic\\) or 1"),
        ({"max_pixels": 0}, "at least 1"),
        ({"max_pixels": 2.5}, "a whole number, at least 1"),
        ({"maps": torch.zeros(0, 2, 4, 4), "labels": torch.zeros(0, 4, 4)}, "none of them 0"),
        ({"maps": torch.zeros(1, 2, 0, 4), "labels": torch.zeros(1, 0, 4)}, "none of them 0"),
        ({"keys": torch.full((1, 16), torch.nan), "max_pixels": 3}, "keys hold NaN or a negative number"),
        ({"keys": torch.full((1, 16), -0.5), "max_pixels": 3}, "keys hold NaN or a negative number"),
        ({"path": "fast"}, "auto, fixed, compact"),
        ({"labels": np.zeros((1, 4, 4))}, "labels of type numpy.ndarray; expected a tensor"),
        ({"maps": np.zeros((1, 2, 4, 4))}, "maps of type numpy.ndarray"),
        ({"keys": np.zeros((1, 16)), "max_pixels": 3}, "keys of type numpy.ndarray"),
        ({"keys": torch.rand(1, 15)}, "one key per pixel"),
    ],
)
def test_mistakes_are_explained(change, message):
    arguments = {"maps": torch.zeros(1, 2, 4, 4), "labels": torch.zeros(1, 4, 4), "target": 1} | change
    with pytest.raises(InputError, match=message):
        sample_pixels(**arguments)
