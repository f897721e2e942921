"""Geometry of the embedding against closed forms and loops over pairs; what dead pixels and empty sets give."""

import math

import numpy as np
import pytest
import torch

from mpc_lite.contrast.views import label_pyramid
from mpc_lite.errors import InputError
from mpc_lite.evaluation import geometry
from mpc_lite.evaluation.geometry import Pixels
from tests.evaluation import oracles

WAYS = [(1, 0.0), (1, 32.0), (3, 20.0)]


def random_pixels(n, seed, dead=0, width=5):
    """n pixels with random labels and places in 100 × 100; the first `dead` of them are zero."""
    rng = np.random.default_rng(seed)
    vectors = np.abs(rng.standard_normal((n, width)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:dead] = 0
    labels = np.arange(n) % 2
    return Pixels(*map(torch.from_numpy, (vectors, labels, rng.uniform(0, 100, (n, 2)))))


def arrays(pixels):
    return [x.numpy() for x in pixels]


# ------------------------------------------------------------------------------------------------------ against loops


@pytest.mark.parametrize("dead", [0, 4])
def test_compactness_and_separability_match_pairs(dead):
    one, two = random_pixels(14, 0, dead), random_pixels(9, 1)
    a, t, b, u = (p.of_class(c).numpy() for p in (one, two) for c in (0, 1))
    v, w = one.vectors.numpy(), two.vectors.numpy()
    assert geometry.compactness(one.vectors) == pytest.approx(oracles.mean_cosine(v, v, True))
    assert geometry.compactness(one.vectors, two.vectors) == pytest.approx(oracles.mean_cosine(v, w, False))
    within = (oracles.mean_cosine(a, a, True) + oracles.mean_cosine(t, t, True)) / 2
    assert geometry.separability(one) == pytest.approx(within - oracles.mean_cosine(a, t, False))
    across = [oracles.mean_cosine(x, y, False) for x, y in [(a, b), (t, u), (a, u), (t, b)]]
    assert geometry.separability(one, two) == pytest.approx((across[0] + across[1] - across[2] - across[3]) / 2)


def test_fisher_ratio_matches_loops():
    pixels = random_pixels(20, 2, dead=3)
    a, t = (pixels.of_class(c).numpy() for c in (0, 1))
    assert geometry.fisher_ratio(pixels) == pytest.approx(oracles.fisher(a, t))


@pytest.mark.parametrize(("neighbours", "apart"), WAYS)
@pytest.mark.parametrize("cross", [False, True])
def test_purity_matches_loops(neighbours, apart, cross):
    one, two = random_pixels(24, 3, dead=2), random_pixels(31, 4, dead=5)
    others = two if cross else one
    if not cross and apart == 0:
        apart = 1e-9  # a pixel is its own nearest neighbour otherwise
    found = geometry.neighbour_purity(one, two if cross else None, apart, neighbours)
    expected = oracles.purity(*arrays(one), *arrays(others), apart, neighbours)
    assert found == pytest.approx(expected)
    assert found.counted == 22


def test_a_pixel_at_just_the_distance_counts():
    vectors = torch.eye(2).double()[[0, 0, 1]]
    places = torch.tensor([[0, 0], [0, 32], [31, 0]]).double()
    far = geometry.neighbour_purity(Pixels(vectors, torch.tensor([0, 0, 1]), places))
    assert far == pytest.approx((2 / 3, 1 / 2, 3))  # the third may find the second only; the first not the third
    assert geometry.neighbour_purity(Pixels(vectors, torch.tensor([0, 0, 1]), places), apart=32.5).counted == 0


# ------------------------------------------------------------------------------------------------------- closed forms


def test_two_orthogonal_points_are_separated_by_one_and_infinitely():
    vectors = torch.eye(3).double()[[0, 0, 0, 2, 2]]
    pixels = Pixels(vectors, torch.tensor([0, 0, 0, 1, 1]), torch.arange(10.0).double().view(5, 2) * 100)
    assert geometry.separability(pixels) == 1
    assert geometry.fisher_ratio(pixels) == math.inf
    assert geometry.neighbour_purity(pixels) == (1, pytest.approx((3 * 2 / 4 + 2 * 1 / 4) / 5), 5)
    assert geometry.effective_rank(vectors) == pytest.approx(
        math.exp(-sum(p * math.log(p) for p in (3**0.5 / (3**0.5 + 2**0.5), 2**0.5 / (3**0.5 + 2**0.5))))
    )


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_equal_directions_have_rank_k(k):
    vectors = torch.eye(6).double()[torch.arange(4 * k) % k]
    assert geometry.effective_rank(vectors) == pytest.approx(k)
    assert geometry.effective_rank(vectors @ torch.linalg.qr(torch.randn(6, 6).double())[0]) == pytest.approx(k)


def test_labels_without_a_difference_give_no_separation_on_average():
    rng, values = np.random.default_rng(0), []
    pixels = random_pixels(60, 5)
    for _ in range(300):
        shuffled = pixels._replace(labels=torch.from_numpy(rng.permutation(pixels.labels.numpy())))
        values.append(geometry.separability(shuffled))
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def test_fisher_ratio_of_equal_covariances_is_half_the_squared_distance_in_their_units():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4000, 3))
    labels = np.arange(4000) % 2
    vectors = noise + labels[:, None] * [2, 0, 0]
    pixels = Pixels(torch.from_numpy(vectors), torch.from_numpy(labels), torch.zeros(4000, 2))
    assert geometry.fisher_ratio(pixels) == pytest.approx(4 / 6, rel=0.05)


# --------------------------------------------------------------------------------------------- dead pixels, empty sets


def test_dead_needs_every_channel():
    maps = torch.rand(2, 3, 4, 4) + 0.1
    maps[0, :, 1, 2] = 0
    maps[1, :2, 3, 3] = 0
    found = geometry.dead(maps)
    assert found.shape == (2, 4, 4) and found.sum() == 1 and found[0, 1, 2]


def test_dead_pixels_lower_the_compactness_and_nothing_else_is_theirs():
    alive = random_pixels(10, 6)
    half = alive._replace(vectors=torch.where(torch.arange(10)[:, None] < 5, 0.0, alive.vectors))
    kept = geometry.compactness(half.vectors[5:])
    assert geometry.compactness(half.vectors) == pytest.approx(kept * (5 * 4) / (10 * 9))


def test_empty_sets_are_not_defined_and_say_so():
    pixels = random_pixels(6, 7, dead=6)
    assert math.isnan(geometry.neighbour_purity(pixels).value) and geometry.neighbour_purity(pixels).counted == 0
    assert math.isnan(geometry.compactness(pixels.vectors[:1]))
    assert math.isnan(geometry.effective_rank(pixels.vectors))
    assert math.isnan(geometry.fisher_ratio(pixels))


# -------------------------------------------------------------------------------------------------------------- pixels


def test_pixels_of_two_maps_keep_vector_label_and_place_together():
    maps = [torch.rand(1, 3, 4, 6), torch.rand(1, 3, 2, 3)]
    mask = (torch.rand(1, 16, 24) > 0.5).to(torch.uint8)
    labels = label_pyramid(mask, maps)
    pixels = geometry.image_pixels(maps, labels, (4, 8))
    assert [tuple(x.shape) for x in pixels] == [(30, 3), (30,), (30, 2)]
    at = 6 * 2 + 5  # row 2, column 5 of the finer map
    np.testing.assert_allclose(pixels.vectors[at], maps[0][0, :, 2, 5] / maps[0][0, :, 2, 5].norm(), rtol=1e-6)
    assert pixels.labels[at] == labels[0][0, 2, 5] and pixels.places[at].tolist() == [10, 22]
    assert pixels.places[24 + 3 * 1 + 2].tolist() == [12, 20] and pixels.labels[24 + 5] == labels[1][0, 1, 2]
    with pytest.raises(InputError, match="maps of one image"):
        geometry.image_pixels(maps, labels, (4,))


def test_balanced_takes_as_many_of_each_class_and_never_twice():
    labels = np.array([0] * 9 + [1] * 5 + [255] * 7)
    taken = geometry.balanced(labels, 5, np.random.default_rng(0))
    assert labels[taken].tolist() == [0] * 5 + [1] * 5 and len(set(taken)) == 10
    with pytest.raises(InputError, match="9 authentic and 5 tampered"):
        geometry.balanced(labels, 6, np.random.default_rng(0))
