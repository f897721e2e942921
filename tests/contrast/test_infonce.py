"""Mean-positive InfoNCE: three implementations against loops, finite differences and each other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.contrast import infonce as infonce_module
from mpc_lite.contrast.infonce import IMPLEMENTATIONS, mean_positive_infonce
from mpc_lite.errors import InputError
from tests.contrast.oracles import infonce_oracle, unit, valid_rows


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_infonce_matches_the_loops(implementation):
    anchors, negatives = unit(2, 7, 4), unit(2, 5, 4, seed=1)
    anchor_valid = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1, 0]]).bool()
    negative_valid = torch.tensor([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1]]).bool()
    got = mean_positive_infonce(anchors, negatives, 0.2, anchor_valid, negative_valid, implementation, "none")
    expected = [
        infonce_oracle(list(a[v].detach().numpy()), list(n[w].detach().numpy()), 0.2)
        for a, v, n, w in zip(anchors, anchor_valid, negatives, negative_valid, strict=True)
    ]
    assert got.tolist() == pytest.approx(expected, rel=1e-10)
    mean = mean_positive_infonce(anchors, negatives, 0.2, anchor_valid, negative_valid, implementation)
    assert mean.item() == pytest.approx(np.mean(expected), rel=1e-10)


def test_input_without_a_batch_axis():
    anchors, negatives = unit(6, 4), unit(5, 4, seed=1)
    expected = mean_positive_infonce(anchors[None], negatives[None])
    for reduction in ("mean", "none"):
        value = mean_positive_infonce(anchors, negatives, reduction=reduction)
        assert value.shape == () and value.item() == pytest.approx(expected.item())


# ---------------------------------------------------------------------------------------------------------- gradients


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(infonce_module, "CHUNK_ELEMENTS", 21)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 7, 4), (2, 8, 7), (2, 6, 2)])  # chunks end inside, at and past the anchors
def test_gradcheck(implementation, shape, small_chunks):
    batch, n, m = shape
    masks = torch.ones(batch, n, dtype=torch.bool), torch.ones(batch, m, dtype=torch.bool)
    masks[0][:, 1], masks[1][0, 0] = False, False

    def function(a, b):
        return mean_positive_infonce(a, b, 0.5, *masks, implementation=implementation, reduction="none")

    inputs = unit(batch, n, 3), unit(batch, m, 3, seed=1)
    assert (function(*inputs) > 0).all()
    assert torch.autograd.gradcheck(function, inputs)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["fused", "chunked"]),
    st.integers(1, 3),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 10**6),
    st.sampled_from([1, 50, 2**22]),
)
def test_chunks_equal_the_dense_form(name, batch, n, m, seed, chunk):
    inputs = unit(batch, n, 4, seed=seed), unit(batch, m, 4, seed=seed + 1)
    masks = valid_rows((batch, n), seed), valid_rows((batch, m), seed + 1)
    weights = torch.arange(1.0, batch + 1)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infonce_module, "CHUNK_ELEMENTS", chunk)
        for implementation in (name, "dense"):
            values = mean_positive_infonce(*inputs, 0.1, *masks, implementation, "none")
            results.append((values, *torch.autograd.grad((values * weights).sum(), inputs)))
    for chunked, dense in zip(*results, strict=True):
        assert torch.allclose(chunked, dense, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("learning", [(True, False), (False, True), (False, False)])
def test_only_the_gradients_asked_for_are_formed(implementation, learning, monkeypatch):
    both = unit(2, 9, 4), unit(2, 6, 4, seed=1)
    expected = torch.autograd.grad(mean_positive_infonce(*both, implementation=implementation), both)
    some = [x.detach().requires_grad_(learns) for x, learns in zip(both, learning, strict=True)]
    value = mean_positive_infonce(*some, implementation=implementation)
    assert value.requires_grad == any(learning)
    if any(learning):
        value.backward()
    for x, g, learns in zip(some, expected, learning, strict=True):
        assert (x.grad is None) != learns and (not learns or torch.allclose(x.grad, g, rtol=1e-10, atol=1e-14))


def test_the_fused_form_is_linear_in_what_comes_from_above_and_can_be_asked_again():
    inputs = unit(3, 8, 4), unit(3, 5, 4, seed=1)
    values = mean_positive_infonce(*inputs, implementation="fused", reduction="none")
    each = [torch.autograd.grad(v, inputs, retain_graph=True) for v in values]
    weights = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    together = torch.autograd.grad((values * weights).sum(), inputs)
    for side in (0, 1):
        expected = sum(w * g[side] for w, g in zip(weights, each, strict=True))
        assert torch.allclose(together[side], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("implementation, largest", [("fused", 2 * 400 * 4), ("chunked", 2 * 400 * 4)])
def test_nothing_as_large_as_the_similarity_matrix_is_kept_for_the_backward_pass(implementation, largest):
    kept = []
    anchors, negatives = unit(2, 300, 4), unit(2, 400, 4, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        mean_positive_infonce(anchors, negatives, implementation=implementation).backward()
    assert kept and max(kept) <= largest


def test_the_fused_form_lets_its_inputs_go():
    kept = []
    inputs = unit(300, 4), unit(400, 4, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        mean_positive_infonce(*inputs, implementation="fused")
    assert kept and not {x.data_ptr() for x in inputs} & set(kept)


@pytest.mark.parametrize("implementation", ["fused", "chunked"])
def test_second_derivatives_are_refused_rather_than_wrong(implementation):
    anchors = unit(4, 3)
    value = mean_positive_infonce(anchors, unit(3, 3), implementation=implementation)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(value, anchors, create_graph=True)


@pytest.mark.parametrize("implementation", ["fused", "chunked"])
def test_a_temperature_that_shall_learn_is_refused_rather_than_left_as_it_is(implementation):
    temperature = torch.nn.Parameter(torch.tensor(0.3))
    with pytest.raises(InputError, match="temperature is a tensor that requires a gradient, and this loss forms none"):
        mean_positive_infonce(unit(4, 3), unit(3, 3), temperature, implementation=implementation)
    with torch.no_grad():
        fixed = mean_positive_infonce(unit(4, 3), unit(3, 3), temperature, implementation=implementation)
    assert fixed.item() == pytest.approx(mean_positive_infonce(unit(4, 3), unit(3, 3), 0.3).item())


def test_the_dense_form_teaches_a_temperature():
    inputs, temperature = (unit(4, 3), unit(3, 3, seed=1)), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: mean_positive_infonce(*inputs, t, implementation="dense"), temperature)


# --------------------------------------------------------------------------------- devices, precision, torch.compile


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_infonce_compiles_into_one_graph(implementation):
    inputs = unit(2, 9, 4), unit(2, 5, 4, seed=1)
    masks = valid_rows((2, 9), 0), valid_rows((2, 5), 1)
    compiled = torch.compile(mean_positive_infonce, fullgraph=True, backend="aot_eager")
    eager, graph = (f(*inputs, 0.1, *masks, implementation) for f in (mean_positive_infonce, compiled))
    assert torch.allclose(eager, graph, rtol=1e-12)
    for x, y in zip(torch.autograd.grad(eager, inputs), torch.autograd.grad(graph, inputs), strict=True):
        assert torch.allclose(x, y, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_on_a_gpu_nothing_comes_back_to_the_host(implementation, fake_gpu):
    with fake_gpu:
        a, n = (torch.randn(2, k, 8, device="cuda", requires_grad=True) for k in (30, 20))
        valid = torch.ones(2, 30, dtype=torch.bool, device="cuda")
        value = mean_positive_infonce(a, n, 0.1, valid, implementation=implementation)
        assert value.device.type == "cuda" and value.requires_grad


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dtypes(implementation):
    for dtype, expected in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        inputs = [unit(2, 6, 4).detach().to(dtype).requires_grad_(), unit(2, 5, 4, seed=1).detach().to(dtype)]
        value = mean_positive_infonce(*inputs, implementation=implementation)
        assert value.dtype == expected
        assert torch.autograd.grad(value, inputs[0])[0].dtype == dtype


@pytest.mark.parametrize("implementation", ["fused", "chunked"])
def test_autocast_multiplies_in_bfloat16_and_sums_in_float32(implementation):
    inputs = [unit(2, k, 16, seed=k).detach().float().requires_grad_() for k in (40, 30)]
    plain = mean_positive_infonce(*inputs, implementation=implementation)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mean_positive_infonce(*inputs, implementation=implementation)
    assert plain.dtype == rounded.dtype == torch.float32
    assert plain.item() != rounded.item() and rounded.item() == pytest.approx(plain.item(), rel=5e-3)
    for x, y in zip(*(torch.autograd.grad(v, inputs) for v in (plain, rounded)), strict=True):
        assert x.dtype == y.dtype == torch.float32 and 0 < (x - y).norm() < 0.02 * x.norm()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_extreme_temperatures_stay_finite(implementation):
    inputs = [x.detach().float().requires_grad_() for x in (unit(1, 9, 4), unit(1, 7, 4, seed=1))]
    for temperature in (1e-3, 1e3):
        value = mean_positive_infonce(*inputs, temperature, implementation=implementation)
        assert all(torch.isfinite(t).all() for t in (value, *torch.autograd.grad(value, inputs)))


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temperature": -1.0}, "positive number"),
        ({"temperature": math.nan}, "positive number"),
        ({"negatives": unit(3, 5)}, r"expected \(N,D\) with \(M,D\)"),
        ({"negatives": unit(2, 3, 4)}, r"expected \(N,D\) with \(M,D\)"),
        ({"anchors": unit(4)}, r"expected \(N,D\) or \(B,N,D\)"),
        ({"anchor_valid": torch.ones(5)}, "torch.bool"),
        ({"anchor_valid": torch.ones(6, dtype=torch.bool)}, "validity of anchors"),
        ({"negatives": unit(3, 4).detach().numpy()}, "negatives of type numpy.ndarray; expected a tensor"),
        ({"implementation": "fast"}, "fused, chunked, dense"),
        ({"reduction": "sum"}, "mean or none"),
    ],
)
def test_mistakes_are_explained(change, message):
    with pytest.raises(InputError, match=message):
        mean_positive_infonce(**({"anchors": unit(5, 4), "negatives": unit(3, 4)} | change))
