import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.contrast.views import (
    check_maps,
    draw_terms,
    finest_labels,
    label_pyramid,
    pool,
    resize_mask,
    unit_vectors,
)
from mpc_lite.errors import InputError
from mpc_lite.network.hrformer import STRIDES
from mpc_lite.network.model import MPC
from tests.contrast.oracles import resize_mask_oracle


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(0)
)
def test_resized_mask_matches_loops(size_in, size_out, seed):
    generator = np.random.default_rng(seed)
    mask = generator.choice([0, 1, 255], p=[0.6, 0.35, 0.05], size=size_in).astype(np.uint8)
    got = resize_mask(torch.from_numpy(mask)[None], size_out)[0].numpy()
    # A place that falls on a pixel's centre may, rounded, take a trace of the next one: either answer is right there.
    shifts = itertools.product((0.0, -1e-5, 1e-5), repeat=2)
    exact, *rounded = (resize_mask_oracle(mask, size_out, shift) for shift in shifts)
    assert np.all((got == exact) | (got == rounded).any(0))


def test_a_mask_at_a_quarter_of_its_size():
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, :, 6:] = 1  # the second cell's samples, columns 5 and 6, are half tampered: 0.5 > 127/255
    mask[:, 9, 2] = 255  # among the samples of cell (2, 0)
    mask[:, 12, 0] = 255  # between the samples: no weight, no effect
    expected = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1], [255, 1, 1, 1], [0, 1, 1, 1]])
    assert torch.equal(resize_mask(mask, (4, 4))[0].long(), expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_masks_of_any_dtype(dtype):
    mask = (torch.rand(2, 12, 10, generator=torch.Generator().manual_seed(0)) > 0.5).to(torch.uint8)
    assert torch.equal(resize_mask(mask.to(dtype), (5, 7)), resize_mask(mask, (5, 7)))
    assert torch.equal(resize_mask(mask.to(dtype), (12, 10)), mask)


def test_pyramid_takes_every_second_pixel_and_follows_odd_sizes():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([0, 1, 255], dtype=torch.uint8)[torch.randint(0, 3, (2, 32, 32), generator=generator)]
    labels = label_pyramid(mask, [torch.zeros(2, 3, s, s) for s in (32, 16, 8, 4)])
    for step, got in zip((1, 2, 4, 8), labels, strict=True):
        assert torch.equal(got, mask[:, ::step, ::step])
    odd = label_pyramid(mask[:, :25, :19], [torch.zeros(2, 3, *s) for s in ((25, 19), (13, 10), (7, 5), (4, 3))])
    for got in odd[1:]:
        rows, columns = (
            torch.arange(n_out) * n_in // n_out for n_out, n_in in zip(got.shape[1:], (25, 19), strict=True)
        )
        assert torch.equal(got, mask[:, :25, :19][:, rows][:, :, columns])


def test_unit_vectors():
    maps = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    assert torch.allclose(unit_vectors(maps), F.normalize(maps, dim=1))
    assert unit_vectors(maps.bfloat16()).dtype == torch.float32
    maps[:, :, 1, 1] = 0
    maps.requires_grad_()
    unit = unit_vectors(maps)
    assert (unit[:, :, 1, 1] == 0).all()
    unit.sum().backward()
    assert torch.isfinite(maps.grad).all() and maps.grad.abs().max() < 100
    rest = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_vectors, rest)
    (half,) = torch.autograd.grad(unit_vectors(rest.bfloat16()).square().sum(), rest)
    assert half.dtype == torch.float64


@pytest.mark.parametrize("shape", [(64, 64), (61, 90)])
def test_the_finest_labels_need_no_pass_through_the_network(shape):
    mask = torch.from_numpy(np.random.default_rng(0).choice(np.uint8([0, 0, 0, 1, 255]), (2, *shape)))
    maps = MPC.build("nano").encode(torch.rand(2, 3, *shape))
    assert torch.equal(finest_labels(mask), label_pyramid(mask, maps)[0])
    sizes = [tuple(-(-side // stride) for side in shape) for stride in STRIDES]
    assert sizes == [tuple(m.shape[2:]) for m in maps]


def test_unit_vectors_keep_their_lengths_and_not_themselves():
    kept, maps = [], torch.randn(2, 5, 3, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        unit_vectors(maps)
    assert sorted(x.numel() for x in kept) == [2 * 3 * 4, maps.numel()]
    assert maps.data_ptr() in [x.data_ptr() for x in kept]


def scene():
    """Maps whose only channel says which map and pixel an embedding is: 1000·map + pixel number."""
    sizes = (8, 4, 2, 1)
    maps = [[1000 * (4 * p + i) + torch.arange(s * s).reshape(1, 1, s, s) for i, s in enumerate(sizes)] for p in (0, 1)]
    maps = [[m.float() for m in one_pass] for one_pass in maps]
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, 2:7, 4:] = 1
    mask[:, 0, 0] = 255
    return maps[0], maps[1], label_pyramid(mask, maps[0])


def numbers(pixel_set):
    return set(pixel_set.embeddings[pixel_set.valid].flatten().long().tolist())


def expected_pixels(maps, labels, target):
    return {int(v) for m, g in zip(maps, labels, strict=True) for v in m[0, 0][g[0] == target]}


def test_official_terms_are_the_five_of_the_released_loss():
    a, b, labels = scene()
    a1, t1 = (expected_pixels(a[:1], labels[:1], c) for c in (0, 1))
    a234, t234 = (expected_pixels(a[1:], labels[1:], c) for c in (0, 1))
    a_hat, t_hat = (expected_pixels(b[:1], labels[:1], c) for c in (0, 1))
    assert len(a1) == 64 - 20 - 1 and len(t1) == 20 and t234
    terms = draw_terms(a, b, labels)
    assert all(t.positives is t.anchors for view in terms.values() for t in view)
    got = {name: [(numbers(t.anchors), numbers(t.negatives)) for t in view] for name, view in terms.items()}
    assert got == {
        "within_image": [(a1, t1)],
        "cross_scale": [(a1, t234), (a234, t1)],
        "cross_modality": [(a1, t_hat), (a_hat, t1)],
    }


def test_paper_terms_take_positives_and_negatives_from_the_other_view():
    a, b, labels = scene()
    a1, t1 = (expected_pixels(a[:1], labels[:1], c) for c in (0, 1))
    a234, t234 = (expected_pixels(a[1:], labels[1:], c) for c in (0, 1))
    a_hat, t_hat = (expected_pixels(b[:1], labels[:1], c) for c in (0, 1))
    terms = draw_terms(a, b, labels, "paper")
    got = {name: [tuple(numbers(s) for s in t) for t in view] for name, view in terms.items()}
    assert got == {
        "within_image": [(a1, a1, t1), (t1, t1, a1)],
        "cross_scale": [(a1, a234, t234), (t1, t234, a234)],
        "cross_modality": [(a1, a_hat, t_hat), (t1, t_hat, a_hat)],
    }
    assert [t.positives is t.anchors for view in terms.values() for t in view] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("path", ["fixed", "compact"])
def test_caps_hold_per_pool_and_draws_are_new_for_each_view(formulation, path):
    a, b, labels = scene()
    terms = draw_terms(a, b, labels, formulation, 6, torch.Generator().manual_seed(3), path)
    again = draw_terms(a, b, labels, formulation, 6, torch.Generator().manual_seed(3), path)
    for name, view in terms.items():
        for t, u in zip(view, again[name], strict=True):
            assert all(len(numbers(s)) <= 6 for s in t)  # X2∪X3∪X4 is one pool: 6 of the union, not of each map
            assert [numbers(s) for s in t] == [numbers(s) for s in u]
    assert len(numbers(terms["cross_scale"][0].negatives)) == 6  # of the seven tampered pixels in X2∪X3∪X4
    first, second, third = (numbers(view[0].anchors) for view in terms.values())
    assert first != second != third
    if formulation == "paper":  # the two classes of anchors share the draws of their view
        one, other = terms["cross_modality"]
        assert one.positives is other.negatives and one.negatives is other.positives


def test_pool_keeps_pixels_and_labels_together():
    maps = [torch.randn(2, 3, s, s) for s in (4, 2)]
    labels = [torch.randint(0, 2, (2, s, s)) for s in (4, 2)]
    pixels, flat = pool(maps, labels)
    assert pixels.shape == (2, 3, 1, 20) and flat.shape == (2, 1, 20)
    assert torch.equal(pixels[:, :, 0, 16:], maps[1].flatten(2)) and torch.equal(flat[:, 0, 16:], labels[1].flatten(1))


def test_mistakes_are_explained():
    a, b, labels = scene()
    with pytest.raises(InputError, match="official, paper"):
        draw_terms(a, b, labels, "printed")
    with pytest.raises(InputError, match=r"128; expected 0 \(authentic\), 1 \(tampered\) or 255"):
        resize_mask(torch.full((1, 4, 4), 128), (2, 2))
    with pytest.raises(InputError, match=r"expected \(B,H,W\)"):
        resize_mask(torch.zeros(1, 1, 4, 4), (2, 2))
    with pytest.raises(InputError, match="equal batch sizes"):
        label_pyramid(torch.zeros(2, 4, 4), a)
    with pytest.raises(InputError, match="two or more maps"):
        check_maps(a[:1], b)
    with pytest.raises(InputError, match="second pass"):
        check_maps(a, b[1:])
