import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.contrast import image_by_image as images_module
from mpc_lite.contrast import infonce as infonce_module
from mpc_lite.contrast import loss as loss_module
from mpc_lite.contrast.loss import mpc_loss, mpc_loss_per_image
from mpc_lite.contrast.sampling import PixelSet
from mpc_lite.contrast.views import Term, label_pyramid
from mpc_lite.errors import InputError
from mpc_lite.training.finetune import focal_loss
from tests.contrast.oracles import batch_oracle, focal_oracle, official_oracle, paper_oracle, unit, valid_rows

GOLDEN = Path(__file__).parents[1] / "golden"
ORACLES = {"official": official_oracle, "paper": paper_oracle}
NAMES = ("within_image", "cross_scale", "cross_modality", "total")


def random_maps(batch, seed, sizes=(8, 4, 2, 1), channels=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, s, s, generator=generator, dtype=dtype).requires_grad_() for s in sizes]


def relative_l2(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


# ---------------------------------------------------------------------------------------- the authors' released code


@pytest.mark.parametrize("case", ["balanced", "small_forgery"])
@pytest.mark.parametrize("path", ["compact", "fixed"])
def test_official_loss_and_gradients_equal_the_released_code(case, path):
    golden = np.load(GOLDEN / "mpc_loss.npz")

    def tensor(name):
        return torch.from_numpy(golden[f"{case}_{name}"])

    passes = [
        [tensor(f"{p}{i}").permute(2, 0, 1)[None].contiguous().requires_grad_() for i in (1, 2, 3, 4)] for p in "xy"
    ]
    terms, counted = mpc_loss_per_image(*passes, tensor("mask")[None], path=path)
    assert counted.tolist() == [True]
    total = sum(terms.values())
    for name, value in {**terms, "total": total}.items():
        assert value.item() == pytest.approx(float(tensor(name)), rel=1e-5)
    total.sum().backward()
    for name, maps in {**{f"x{i + 1}": m for i, m in enumerate(passes[0])}, "y1": passes[1][0]}.items():
        assert relative_l2(maps.grad[0].permute(1, 2, 0), tensor(f"grad_{name}")) < 1e-5, name
    assert all(m.grad is None for m in passes[1][1:])


def test_focal_loss_equals_the_released_code():
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "focal_loss.npz").items()}
    assert focal_loss(golden["logits"], golden["target"]).item() == pytest.approx(float(golden["loss"]), rel=1e-5)


# ------------------------------------------------------------------------------------------------------ loop oracles


def masks_by_case():
    """(6,8,8) masks: every way a class can be missing or nearly so, on the sizes of `random_maps`."""
    generator = torch.Generator().manual_seed(5)
    mixed = torch.tensor([0, 1, 255])[torch.randint(0, 3, (8, 8), generator=generator)]
    one_authentic, one_tampered = torch.ones(8, 8), torch.zeros(8, 8)
    one_authentic[4, 4], one_tampered[5, 3] = 0, 1  # the first is seen on coarse maps, the second is not
    block = torch.zeros(8, 8)
    block[2:7, 3:] = 1
    block[0, :3] = 255
    cases = {
        "mixed_with_ignored": mixed,
        "block": block,
        "no_tampered": torch.zeros(8, 8),
        "no_authentic": torch.ones(8, 8),
        "one_authentic": one_authentic,
        "one_tampered": one_tampered,
        "all_ignored": torch.full((8, 8), 255),
        "one_of_each": torch.where((block == 255) | (one_tampered == 1), one_tampered, 255).masked_fill(
            block == 255, 255
        ),
    }
    cases["one_of_each"][0, 0] = 0
    return {name: mask.to(torch.uint8) for name, mask in cases.items()}


MASKS = masks_by_case()


def against_oracle(mask, formulation, path, temperature=0.3, seed=0):
    maps_a, maps_b = random_maps(len(mask), seed), random_maps(len(mask), seed + 1)
    labels = [g.numpy() for g in label_pyramid(mask, maps_a)]
    arrays = [[m.detach().numpy() for m in maps] for maps in (maps_a, maps_b)]
    expected = batch_oracle(ORACLES[formulation], *arrays, labels, temperature)
    terms, counted = mpc_loss_per_image(maps_a, maps_b, mask, formulation, temperature, path=path)
    for name, values in terms.items():
        assert values.sum().item() / max(1, counted.sum().item()) == pytest.approx(expected[name], rel=1e-9), name
    if path == "compact":
        got = mpc_loss(maps_a, maps_b, mask, formulation, temperature)
        assert tuple(got) == NAMES
        for name, value in got.items():
            assert value.shape == () and value.item() == pytest.approx(expected[name], rel=1e-9), name
    with torch.autograd.detect_anomaly(check_nan=True):
        sum(v.sum() for v in terms.values()).backward()
    used = maps_a + maps_b[:1]
    assert all(torch.isfinite(m.grad).all() for m in used)
    for m in used:  # images that do not count get zeros, not nothing: every process of a DDP run needs gradients
        assert (m.grad[~counted] == 0).all()
    return expected, counted


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("path", ["compact", "fixed"])
@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("case", MASKS)
def test_each_image_matches_the_loops(case, formulation, path):
    expected, counted = against_oracle(MASKS[case][None], formulation, path)
    if case in ("no_tampered", "no_authentic", "all_ignored"):
        assert not counted.any() and expected["total"] == 0
    if case in ("mixed_with_ignored", "block", "one_tampered"):
        assert counted.all() and expected["within_image"] != 0


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("path", ["compact", "fixed"])
@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_mixed_batch_leaves_one_class_images_out_of_the_mean(formulation, path):
    _, counted = against_oracle(torch.stack(list(MASKS.values())), formulation, path)
    assert 0 < counted.sum() < len(MASKS)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["official", "paper"]),
    st.integers(1, 3),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 10**6),
)
def test_any_shape_matches_the_loops(formulation, batch, finest, mask_size, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = [finest, ((finest[0] + 1) // 2, (finest[1] + 1) // 2), (1, 1)]
    a, b = ([torch.randn(batch, 3, *s, generator=generator, dtype=torch.float64) for s in sizes] for _ in "ab")
    mask = torch.tensor([0, 0, 1, 1, 255])[torch.randint(0, 5, (batch, *mask_size), generator=generator)]
    labels = [g.numpy() for g in label_pyramid(mask, a)]
    expected = batch_oracle(ORACLES[formulation], [m.numpy() for m in a], [m.numpy() for m in b], labels, 0.2)
    got = mpc_loss(a, b, mask, formulation, 0.2)
    for name in NAMES:
        assert got[name].item() == pytest.approx(expected[name], rel=1e-9, abs=1e-12)


# ------------------------------------------------------------------------------------------------------ closed forms


def constant_classes(formulation):
    """Every authentic pixel is e1 and every tampered one e2, on all maps and both passes: 48 and 16 of them on X1."""
    mask = torch.zeros(1, 8, 8)
    mask[:, :4, :4] = 1
    maps = [
        torch.stack([1 - g, g], 1).double() * 3 for g in label_pyramid(mask, [torch.zeros(1, 2, s, s) for s in (8, 4)])
    ]
    return mpc_loss(maps, maps, mask, formulation, 0.1)


def test_paper_formulation_of_constant_orthogonal_classes_is_log_negatives_minus_one_over_temperature():
    got = constant_classes("paper")
    expected = (math.log(16) + math.log(48)) / 2 - 1 / 0.1  # anchors of both classes, one mean each
    assert got["within_image"].item() == pytest.approx(expected, rel=1e-12)
    assert got["cross_modality"].item() == pytest.approx(expected, rel=1e-12)
    assert got["cross_scale"].item() == pytest.approx((math.log(4) + math.log(12)) / 2 - 10, rel=1e-12)


def test_official_formulation_of_constant_orthogonal_classes():
    got = constant_classes("official")
    assert got["within_image"].item() == pytest.approx(math.log1p(16 * math.exp(-10)), rel=1e-9)
    assert got["cross_modality"].item() == pytest.approx(2 * math.log1p(16 * math.exp(-10)), rel=1e-9)
    expected = math.log1p(4 * math.exp(-10)) + math.log1p(16 * math.exp(-10))
    assert got["cross_scale"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("own_pool", [True, False])
def test_gradcheck_of_the_paper_contrast(own_pool, monkeypatch):
    monkeypatch.setattr(infonce_module, "CHUNK_ELEMENTS", 21)

    def function(anchors, positives, negatives):
        first = PixelSet(anchors, valid_rows((2, 6), 3))
        second = first if own_pool else PixelSet(positives, valid_rows((2, 5), 4))
        return loss_module.paper_contrast(Term(first, second, PixelSet(negatives, valid_rows((2, 4), 5))), 0.5)[0]

    assert torch.autograd.gradcheck(function, (unit(2, 6, 3), unit(2, 5, 3, seed=1), unit(2, 4, 3, seed=2)))


# --------------------------------------------------------------------------------- devices, precision, torch.compile


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("max_pixels", [None, 20])
def test_compact_and_fixed_paths_agree(formulation, max_pixels):
    mask = torch.stack(list(MASKS.values()))
    maps_a, maps_b = random_maps(len(mask), 0), random_maps(len(mask), 1)
    results = []
    for path in ("compact", "fixed"):
        generator = torch.Generator().manual_seed(7)
        terms, counted = mpc_loss_per_image(maps_a, maps_b, mask, formulation, 0.1, max_pixels, generator, path)
        gradients = torch.autograd.grad(sum(v.sum() for v in terms.values()), maps_a + maps_b[:1])
        results.append([*terms.values(), counted, *gradients])
    for compact, fixed in zip(*results, strict=True):
        assert torch.allclose(compact.double(), fixed.double(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("max_pixels", [None, 50])
def test_on_a_gpu_nothing_comes_back_to_the_host(formulation, max_pixels, fake_gpu):
    with fake_gpu:
        a, b = ([torch.randn(2, 8, s, s, device="cuda").bfloat16() for s in (16, 8, 4, 2)] for _ in "ab")
        for m in a + b:
            m.requires_grad_()
        mask = torch.zeros(2, 64, 64, device="cuda", dtype=torch.uint8)
        terms = mpc_loss(a, b, mask, formulation, max_pixels=max_pixels)
        for value in terms.values():
            assert value.device.type == "cuda" and value.dtype == torch.float32 and value.requires_grad
        logits = torch.randn(2, 1, 16, 16, device="cuda", requires_grad=True)
        assert focal_loss(logits, torch.zeros(2, 1, 16, 16, device="cuda")).device.type == "cuda"


@pytest.mark.slow
@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_mpc_loss_compiles_into_one_graph(formulation):
    mask = torch.stack([MASKS["block"], MASKS["no_tampered"]])
    maps_a, maps_b = random_maps(2, 0), random_maps(2, 1)
    compiled = torch.compile(mpc_loss, fullgraph=True, backend="aot_eager")
    eager, graph = (f(maps_a, maps_b, mask, formulation)["total"] for f in (mpc_loss, compiled))
    assert torch.allclose(eager, graph, rtol=1e-10)
    for x, y in zip(torch.autograd.grad(eager, maps_a), torch.autograd.grad(graph, maps_a), strict=True):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize("wanted", [["cross_scale"], ["within_image", "cross_modality"]])
def test_only_the_terms_asked_for_are_computed(formulation, wanted, monkeypatch):
    mask = torch.stack([MASKS["block"], MASKS["no_tampered"]])
    maps_a, maps_b = random_maps(2, 0), random_maps(2, 1)
    whole = mpc_loss(maps_a, maps_b, mask, formulation)
    name = "mean_positive_infonce" if formulation == "official" else "paper_contrast"
    contrast, calls = getattr(loss_module, name), []
    monkeypatch.setattr(loss_module, name, lambda *a, **k: calls.append(1) or contrast(*a, **k))
    some = mpc_loss(maps_a, maps_b, mask, formulation, terms=iter(wanted))
    assert list(some) == [*wanted, "total"] and all(torch.equal(some[n], whole[n]) for n in wanted)
    assert some["total"].item() == pytest.approx(sum(whole[n].item() for n in wanted), rel=1e-12)
    contrasts = {"within_image": 1, "cross_scale": 2, "cross_modality": 2}
    assert len(calls) == sum(contrasts[n] if formulation == "official" else 2 for n in wanted)


@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_autocast_multiplies_in_bfloat16_and_sums_in_float32(formulation):
    mask = torch.stack([MASKS["block"], MASKS["mixed_with_ignored"]])
    maps_a, maps_b = random_maps(2, 0, dtype=torch.float32), random_maps(2, 1, dtype=torch.float32)
    plain = mpc_loss(maps_a, maps_b, mask, formulation)["total"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mpc_loss(maps_a, maps_b, mask, formulation)["total"]
    assert plain.dtype == rounded.dtype == torch.float32
    assert plain.item() != rounded.item() and rounded.item() == pytest.approx(plain.item(), rel=5e-3)
    expected, got = (torch.autograd.grad(v, maps_a[0])[0] for v in (plain, rounded))
    assert got.dtype == torch.float32 and relative_l2(got, expected) < 0.03


def test_pixels_without_any_signal_keep_the_gradient_finite():
    maps_a, maps_b = ([F.relu(m - 1.5).detach().requires_grad_() for m in random_maps(1, s)] for s in (0, 1))
    assert (maps_a[0].abs().sum(1) == 0).any()
    for formulation in ("official", "paper"):
        gradients = torch.autograd.grad(
            mpc_loss(maps_a, maps_b, MASKS["block"][None], formulation)["total"], maps_a + maps_b[:1]
        )
        assert all(torch.isfinite(g).all() and g.abs().max() < 1e3 for g in gradients)


def test_the_generator_decides_the_draw():
    maps_a, maps_b = random_maps(1, 0), random_maps(1, 1)
    mask = MASKS["block"][None]
    first, same, other = (
        mpc_loss(maps_a, maps_b, mask, max_pixels=5, generator=torch.Generator().manual_seed(s))["total"].item()
        for s in (1, 1, 2)
    )
    assert first == same != other


# -------------------------------------------------------------------------------------------------------- focal loss


@pytest.mark.parametrize("alpha, gamma", [(0.5, 2.0), (0.25, 0.0), (0.8, 0.5), (1.0, 3.0)])
def test_focal_loss_matches_the_loops(alpha, gamma):
    generator = np.random.default_rng(0)
    logits, target = generator.normal(size=(2, 1, 5, 4)) * 3, generator.choice([0, 1, 255], size=(2, 1, 5, 4))
    got = focal_loss(torch.from_numpy(logits), torch.from_numpy(target), alpha, gamma)
    assert got.item() == pytest.approx(focal_oracle(logits, target, alpha, gamma), rel=1e-12)


def test_focal_loss_without_focus_is_weighted_cross_entropy():
    logits = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    target = (torch.rand(3, 1, 6, 6) > 0.7).double()
    weight = torch.where(target == 1, 0.3, 0.7)
    expected = F.binary_cross_entropy_with_logits(logits, target, weight)
    assert torch.allclose(focal_loss(logits, target, alpha=0.3, gamma=0.0), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_focal_loss_is_stable_far_from_zero(gamma, dtype):
    logits = torch.tensor([-300.0, -90.0, 0.0, 90.0, 300.0], dtype=dtype).repeat(2).requires_grad_()
    target = torch.tensor([0] * 5 + [1] * 5)
    value = focal_loss(logits, target, gamma=gamma)
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(value) and torch.isfinite(logits.grad).all()
    assert value.item() == pytest.approx(0.5 * (2 * (300 + 90) + 2 * math.log(2) * 0.5**gamma) / 10, rel=1e-6)


def test_focal_loss_ignores():
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    target = torch.randint(0, 2, (1, 1, 4, 4))
    target[..., 2:] = 255
    kept = focal_loss(logits, target)
    assert torch.allclose(kept, focal_loss(logits[..., :2], target[..., :2]))
    (gradient,) = torch.autograd.grad(kept, logits)
    assert (gradient[..., 2:] == 0).all() and (gradient[..., :2] != 0).all()
    nothing = focal_loss(logits, torch.full_like(target, 255))
    nothing.backward()
    assert nothing.item() == 0 and (logits.grad == 0).all()


def test_the_focal_losses_of_batches_add_up():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    target = torch.tensor([[0, 1, 255, 1, 0, 255]]).expand(4, -1).clone()
    target[2] = 255
    total = sum(focal_loss(x, t, 0.7, 1.5, reduction="sum") for x, t in zip(logits, target, strict=True))
    assert (total / 12).item() == pytest.approx(focal_loss(logits, target, 0.7, 1.5).item(), rel=1e-12)


def test_focal_gradcheck():
    target = torch.tensor([0, 1, 255, 1, 0])
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target, 0.3, 1.7), logits)


# ---------------------------------------------------------------------------------------------------------- mistakes


def empty(axis):
    """Maps of no image, of no channel, of no pixel."""
    shape = [(2, 5, 8, 8), (2, 5, 4, 4)]
    maps = [torch.zeros(*(0 if i == axis else n for i, n in enumerate(s))) for s in shape]
    return {"maps_a": maps, "maps_b": maps, "mask": torch.zeros(len(maps[0]), 8, 8)}


@pytest.mark.parametrize("formulation", ["official", "paper"])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"temperature": 0}, "positive number"),
        ({"temperature": math.nan}, "positive number"),
        ({"formulation": "printed"}, "official, paper"),
        ({"max_pixels": 1}, "at least 2"),
        ({"max_pixels": 2.5}, r"max_pixels 2\.5: expected a whole number"),
        ({"max_pixels": math.nan}, "expected a whole number"),
        ({"max_pixels": "9"}, "max_pixels '9': expected a whole number"),
        (empty(0), "an image, a channel and a pixel at least"),
        (empty(1), "an image, a channel and a pixel at least"),
        (empty(2), "an image, a channel and a pixel at least"),
        ({"mask": torch.zeros(2, 0, 8)}, "no side 0"),
        ({"maps_a": [m.long() for m in random_maps(2, 0)]}, "maps of torch.int64: expected floating point"),
        ({"maps_b": [m.to(torch.complex64) for m in random_maps(2, 0)]}, "maps of torch.complex64"),
        ({"mask": torch.full((2, 8, 8), 2)}, "the value 2; expected 0"),
        ({"mask": torch.zeros(8, 8)}, r"expected \(B,H,W\)|equal batch sizes"),
        ({"maps_b": random_maps(2, 0, channels=4)}, "second pass"),
        ({"maps_a": random_maps(2, 0)[:1]}, "two or more maps"),
        ({"mask": np.zeros((2, 8, 8), np.uint8)}, r"mask of type numpy.ndarray; .* torch.from_numpy\(array\)"),
        ({"mask": torch.tensor(0)}, r"expected \(B,H,W\)"),
        ({"maps_a": [m.detach().numpy() for m in random_maps(2, 0)]}, r"maps_a\[0\] of type numpy.ndarray"),
        ({"maps_b": [None]}, r"maps_b\[0\] of type builtins.NoneType"),
        ({"maps_b": None}, "maps_b of type NoneType: expected a list of maps"),
    ],
)
def test_mistakes_of_mpc_loss_are_explained(change, message, formulation):
    arguments = {"maps_a": random_maps(2, 0), "maps_b": random_maps(2, 1), "mask": torch.zeros(2, 8, 8)}
    arguments |= {"formulation": formulation, **change}
    with pytest.raises(InputError, match=message):
        mpc_loss(**arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target": torch.zeros(2, 4, 4)}, "equal shapes"),
        ({"target": torch.full((2, 1, 4, 4), 3)}, "the value 3"),
        ({"alpha": 1.5}, "alpha in"),
        ({"target": np.zeros((2, 1, 4, 4))}, "target of type numpy.ndarray; expected a tensor"),
        ({"gamma": -1.0}, "gamma of at least 0"),
    ],
)
def test_mistakes_of_focal_loss_are_explained(change, message):
    with pytest.raises(InputError, match=message):
        focal_loss(**({"logits": torch.zeros(2, 1, 4, 4), "target": torch.zeros(2, 1, 4, 4)} | change))


# ------------------------------------------------------------------------------------------ one image after the other


@pytest.mark.parametrize("path", ["compact", "fixed"])
@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_second_derivatives_and_a_temperature_that_shall_learn_are_refused(formulation, path):
    """Both would otherwise leave out, in silence, what was formed by hand."""
    mask = torch.zeros(2, 32, 32, dtype=torch.uint8)
    mask[:, 8:20, 8:20] = 255
    maps = random_maps(2, 0), random_maps(2, 1)
    losses, _ = mpc_loss_per_image(*maps, mask, formulation, 0.3, path=path)
    with pytest.raises(RuntimeError, match="differentiated twice"):
        torch.autograd.grad(sum(value.sum() for value in losses.values()), maps[0], create_graph=True)
    with pytest.raises(InputError, match="temperature is a tensor that requires a gradient"):
        mpc_loss_per_image(*maps, mask, formulation, torch.nn.Parameter(torch.tensor(0.3)), path=path)


def test_other_weights_and_a_second_time_sweep_again():
    """What is formed on the way is the gradient of the plain sum; another is that of the path with whole maps."""
    mask = torch.stack([MASKS["block"], MASKS["mixed_with_ignored"], MASKS["no_tampered"]])
    maps_a, maps_b = random_maps(3, 0), random_maps(3, 1)
    used, weights = maps_a + maps_b[:1], (0.5, -2.0, 3.0)
    found = []
    for path in ("compact", "fixed"):
        generator = torch.Generator().manual_seed(7)
        terms, _ = mpc_loss_per_image(maps_a, maps_b, mask, "official", 0.1, 6, generator, path)
        plain = sum(v.sum() for v in terms.values())
        weighted = sum(w * (v * torch.arange(1.0, 4)).sum() for w, v in zip(weights, terms.values(), strict=True))
        found.append([torch.autograd.grad(x, used, retain_graph=True) for x in (plain, weighted, plain)])
    for compact, fixed in zip(*found, strict=True):
        assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-12) for x, y in zip(compact, fixed, strict=True))


def test_what_no_term_looks_at_gets_no_gradient_and_one_pass_may_be_both():
    maps = random_maps(1, 0)
    mask = MASKS["block"][None]
    mpc_loss(maps, maps, mask, terms=["within_image"])["total"].backward()
    assert [m.grad is None for m in maps] == [False, True, True, True]
    twice = [m.detach().clone().requires_grad_() for m in maps]
    one, two = (mpc_loss(maps, second, mask)["total"] for second in (maps, twice))
    alone, apart = torch.autograd.grad(one, maps[0])[0], torch.autograd.grad(two, [maps[0], twice[0]])
    assert one.item() == two.item() and torch.allclose(alone, sum(apart), rtol=1e-9, atol=1e-12)


def test_no_map_of_unit_vectors_is_ever_whole(monkeypatch):
    """Only drawn pixels are scaled, one image's at a time."""
    sizes, scale = [], images_module.unit_vectors
    monkeypatch.setattr(images_module, "unit_vectors", lambda x: sizes.append(len(x)) or scale(x))
    maps_a, maps_b = random_maps(3, 0), random_maps(3, 1)
    mpc_loss(maps_a, maps_b, MASKS["block"].expand(3, -1, -1), max_pixels=5)["total"].backward()
    assert max(sizes) == 5 and len(sizes) == 3 * 5 * 2
