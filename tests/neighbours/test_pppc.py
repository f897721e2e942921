"""PPPC's parts: the released numbers, loop oracles, closed forms, and what becomes of bad input."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc_lite.errors import InputError
from mpc_lite.neighbours.pppc.gaussians import (
    PRESETS,
    SIMILARITIES,
    GaussianHead,
    GaussianPrototypes,
    Gaussians,
    LogVarianceHead,
    gaussian_similarity,
    pppc_loss,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}


def relative_l2(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


def gaussians(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(*shape, generator=generator, dtype=dtype)
    s = torch.rand(*shape, generator=generator, dtype=dtype)
    return Gaussians(mean.requires_grad_(), s.requires_grad_())


def integral(values, z):
    """On a fine grid, of a function that has died away at its ends."""
    return values.sum() * (z[1] - z[0])


def random_labels(*shape, classes=2, seed=0):
    values = torch.tensor([*range(classes), 255])
    return values[torch.randint(0, classes + 1, shape, generator=torch.Generator().manual_seed(seed))]


# ------------------------------------------------------------------------------------------- the authors' released code


@pytest.mark.parametrize(
    ("kind", "name"), list(zip(SIMILARITIES, ["elk", "bhattacharyya", "wasserstein", "kl", "js"], strict=True))
)
def test_similarities_and_gradients_equal_the_released_code(kind, name):
    g = golden("pppc_similarity")
    first = Gaussians(g["mu0"].requires_grad_(), g["s0"].requires_grad_())
    second = Gaussians(g["mu1"].requires_grad_(), g["s1"].requires_grad_())
    value = gaussian_similarity(first, second, kind)
    assert relative_l2(value, g[name]) < 1e-6
    (value * g["g"]).sum().backward()
    for k, leaf in zip(("mu0", "s0", "mu1", "s1"), (*first, *second), strict=True):
        assert relative_l2(leaf.grad, g[f"{name}_grad_{k}"]) < 1e-5, k


CASES = ("released19", "sharp19", "two_classes", "two_released", "raw_mu", "one_class")


def case_inputs(g, case, dtype):
    pixels = Gaussians(*(g[f"{case}_{k}"].to(dtype).requires_grad_() for k in ("mu", "s")))
    prototypes = Gaussians(*(g[f"{case}_proto_{k}"].to(dtype) for k in ("mu", "s")))
    temperature, scale = g[f"{case}_temp_scale"].tolist()
    return (pixels, prototypes, g[f"{case}_label"][:, 0]), {"preset": "released", "temperature": temperature}, scale


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_the_released_code(case):
    g = golden("pppc_loss")
    given_, options, scale = case_inputs(g, case, torch.float64)
    if options["temperature"] == 100:
        assert options["temperature"] == PRESETS["released"]["temperature"]
        del options["temperature"]  # then the preset alone says it
    terms = pppc_loss(*given_, **options)
    expected = {"prototype": "proto", "bottleneck": "vib", "total": "total_unscaled"}
    for name, theirs in expected.items():
        assert terms[name].item() == pytest.approx(g[f"{case}_{theirs}_f64"].item(), rel=1e-9), name
    assert (scale * terms["total"]).item() == pytest.approx(g[f"{case}_loss_f64"].item(), rel=1e-9)
    given_, options, scale = case_inputs(g, case, torch.float32)
    loss = scale * pppc_loss(*given_, **options)["total"]
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(g[f"{case}_loss"].item(), rel=1e-6)
    loss.backward()
    for k, leaf in zip(("mu", "s"), given_[0], strict=True):
        assert relative_l2(leaf.grad, g[f"{case}_grad_{k}"]) < 1e-5, k


def test_labels_are_brought_to_the_map_as_the_release_does():
    g = golden("pppc_loss")
    labels = torch.where(g["resize_in"][:, 0] < 3, g["resize_in"][:, 0], 255)
    small = torch.where(g["resize_out_8x8"][:, 0] < 3, g["resize_out_8x8"][:, 0], 255)
    pixels, prototypes = gaussians(1, 4, 8, 8), gaussians(3, 4, seed=1)
    large, ready = (pppc_loss(pixels, prototypes, x)["total"] for x in (labels, small))
    assert large == ready


def test_without_a_valid_pixel_the_loss_is_an_attached_zero_where_the_release_has_nan():
    assert golden("pppc_loss")["all_ignored_loss"].isnan()
    pixels = gaussians(2, 4, 3, 3)
    terms = pppc_loss(pixels, gaussians(2, 4, seed=1), torch.full((2, 12, 12), 255))
    assert all(value.item() == 0 for value in terms.values())
    terms["total"].backward()
    assert all((leaf.grad == 0).all() for leaf in pixels)


def released_weights(module, prefix, names):
    """Fill a module by the recipe of the golden files; names: our parts -> the release's."""
    state = {}
    for key, value in module.state_dict().items():
        ours = max((n for n in names if key.startswith(n)), key=len)
        full = prefix + names[ours] + key.removeprefix(ours)
        if key.endswith("num_batches_tracked"):
            state[key] = value
            continue
        rng = np.random.default_rng(zlib.crc32(full.encode()))
        a = torch.from_numpy(rng.standard_normal(tuple(value.shape)).astype(np.float32))
        if key.endswith(("running_var", "gamma")):
            a = 1 + 0.1 * a.abs()
        elif value.ndim >= 2:
            a = a / math.sqrt(math.prod(value.shape[1:]))
        elif key.endswith("weight"):
            a = 1 + 0.1 * a
        else:
            a = 0.1 * a
        state[key] = a
    module.load_state_dict(state)
    return module


HEADS = {
    "mean.0": "convs.0.conv",
    "mean.1": "convs.0.bn",
    "mean.3": "convs.1.conv",
    "mean.4": "convs.1.bn",
    "log_variance.": "uncertain_head.",
}


def objective(outputs, prefix):
    shapes = [tuple(x.shape) for x in outputs]
    draws = [np.random.default_rng(zlib.crc32(f"{prefix}g{i}".encode())) for i in range(len(outputs))]
    weights = [torch.from_numpy(r.standard_normal(s).astype(np.float32)) for r, s in zip(draws, shapes, strict=True)]
    return sum((out * w.to(out.dtype)).mean() for out, w in zip(outputs, weights, strict=True))


@pytest.mark.parametrize("mode", ["eval", "train", "saturated"])
def test_log_variance_head_equals_the_released_code(mode):
    g = golden("pppc_heads")
    head = released_weights(LogVarianceHead(24, 16), "pppc.uh.", {"": ""}).train(mode == "train")
    if mode == "saturated":
        head.gamma.data.fill_(300.0)
    x = g["uh_x"].requires_grad_()
    s = head(x)
    loss = objective([s], "pppc.uh.")
    loss.backward()
    assert relative_l2(s, g[f"uh_{mode}_out0"]) < 1e-5
    assert loss.item() == pytest.approx(g[f"uh_{mode}_L_f64"].item(), rel=1e-5)
    assert relative_l2(x.grad, g[f"uh_{mode}_grad_x"]) < (1e-4 if mode == "saturated" else 1e-5)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_both_heads_equal_the_released_code(mode):
    g = golden("pppc_heads")
    head = released_weights(GaussianHead(24, 16), "pppc.proj.", HEADS).train(mode == "train")
    x = g["uh_x"].requires_grad_()
    pixels = head(x)
    loss = objective(pixels, "pppc.proj.")
    loss.backward()
    for i, out in enumerate(pixels):
        assert relative_l2(out, g[f"proj_{mode}_out{i}"]) < 1e-5
    assert loss.item() == pytest.approx(g[f"proj_{mode}_L_f64"].item(), rel=1e-5)
    assert relative_l2(x.grad, g[f"proj_{mode}_grad_x"]) < 1e-5
    assert (pixels.mean >= 0).all() and torch.allclose(pixels.mean.norm(dim=1), torch.ones(2, 5, 6))


def test_heads_of_the_released_size_equal_the_released_code():
    g = golden("pppc_heads")
    head = released_weights(GaussianHead(2048, 512), "pppc.projfull.", HEADS).eval()
    rng = np.random.default_rng(zlib.crc32(b"pppc.projfull.x"))
    x = torch.from_numpy(rng.standard_normal((1, 2048, 3, 4)).astype(np.float32)).requires_grad_()
    pixels = head(x)
    loss = objective(pixels, "pppc.projfull.")
    loss.backward()
    for i, out in enumerate(pixels):
        assert relative_l2(out[:, ::16], g[f"projfull_out{i}"]) < 1e-5
    assert loss.item() == pytest.approx(g["projfull_L_f64"].item(), rel=1e-5)
    assert relative_l2(x.grad[:, ::16], g["projfull_grad_x"]) < 1e-5


def test_prototypes_equal_the_parents_rule():
    """PRCL's σ is a variance; its three prototypes are those of the classes present."""
    g = golden("prcl_parent")
    labels = torch.where(g["mask"][:, 0] > 0, g["cls"].long(), 255)
    prototypes = GaussianPrototypes(4, 8, decay=0, variance="posterior")
    prototypes.update(Gaussians(g["mu"], g["sigma"].log()), labels)
    mean, log_variance = prototypes.gaussians()
    assert prototypes.valid.nonzero().flatten().tolist() == g["class_of_proto"].tolist() == [0, 1, 3]
    assert relative_l2(mean[prototypes.valid], g["proto_mu"]) < 1e-6
    assert relative_l2(log_variance.exp()[prototypes.valid], g["proto_sigma"]) < 1e-6


@pytest.mark.parametrize("i", [0, 1, 2])
def test_similarity_equals_the_parents(i):
    g = golden("prcl_parent")
    mean, log_variance = g["proto_mu"], g["proto_sigma"].log()
    others = [(i + 1) % 3, (i + 2) % 3]
    found = gaussian_similarity(
        Gaussians(mean[i : i + 1], log_variance[i : i + 1]), Gaussians(mean[others], log_variance[others])
    )
    assert relative_l2(found[0], g[f"proto_sim{i}"]) < 1e-6
    anchors, others = ([g[f"{x}_{y}{i}"] for y in ("mu", "sigma")] for x in ("anchor", "all"))
    rows = [
        gaussian_similarity(Gaussians(am, av.log()), Gaussians(om, ov.log()))[0]
        for am, av, om, ov in zip(*anchors, *others, strict=True)
    ]
    assert relative_l2(torch.stack(rows), g[f"logits{i}"]) < 1e-5


# --------------------------------------------------------------------------------------------------------- loop oracles


def similarity_oracle(mean0, s0, mean1, s1):
    a, b = mean0 / np.linalg.norm(mean0), mean1 / np.linalg.norm(mean1)
    total = 0.0
    for d in range(len(a)):
        variance = math.exp(s0[d]) + math.exp(s1[d])
        total += (a[d] - b[d]) ** 2 / variance + math.log(variance)
    return -total / 2


def loss_oracle(pixels, prototypes, labels, temperature, summed, weight, valid):
    """One pixel at a time; arrays (B,D,h,w), (K,D), (B,h,w)."""
    (mean, s), (mean_k, s_k) = ([x.detach().numpy() for x in pair] for pair in (pixels, prototypes))
    by_class, bottleneck = {}, 0.0
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label == 255 or not valid[label]:
            continue
        m, v = mean[b, :, y, x], s[b, :, y, x]
        logits = {}
        for k in range(len(mean_k)):
            if valid[k]:
                likeness = similarity_oracle(m, v, mean_k[k], s_k[k]) / (1 if summed else len(m))
                logits[k] = likeness / temperature
        by_class.setdefault(label, []).append(math.log(sum(map(math.exp, logits.values()))) - logits[label])
        bottleneck += weight * sum((m[d] ** 2 + math.exp(v[d]) - v[d] - 1) / 2 for d in range(len(m)))
    means = [sum(losses) / len(losses) for losses in by_class.values()]
    return (sum(means) / len(means) if means else 0.0), bottleneck


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 4),
    reduction=st.sampled_from(["mean", "sum"]),
    temperature=st.floats(0.3, 10),
    unseen=st.integers(-1, 3),
)
def test_loss_equals_the_loop(seed, classes, reduction, temperature, unseen):
    pixels, prototypes = gaussians(2, 5, 3, 4, seed=seed), gaussians(classes, 5, seed=seed + 1)
    labels = random_labels(2, 3, 4, classes=classes, seed=seed)
    valid = torch.arange(classes) != unseen
    terms = pppc_loss(
        pixels,
        prototypes,
        labels,
        valid,
        reduction=reduction,
        temperature=temperature,
        bottleneck_weight=1e-3,
    )
    expected = loss_oracle(pixels, prototypes, labels, temperature, reduction == "sum", 1e-3, valid)
    assert terms["prototype"].item() == pytest.approx(expected[0], rel=1e-9, abs=1e-12)
    assert terms["bottleneck"].item() == pytest.approx(expected[1], rel=1e-9)
    terms["total"].backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (*pixels, *prototypes))


def test_without_any_prototype_the_loss_is_a_zero_with_finite_gradients():
    pixels, prototypes = gaussians(1, 4, 2, 2), gaussians(2, 4, seed=1)
    terms = pppc_loss(pixels, prototypes, torch.zeros(1, 2, 2), torch.tensor([False, False]))
    terms["total"].backward()
    assert terms["total"].item() == 0 and all((leaf.grad == 0).all() for leaf in (*pixels, *prototypes))


def test_loss_has_the_gradient_of_its_value():
    pixels, prototypes = gaussians(1, 3, 2, 2), gaussians(2, 3, seed=1)
    labels = torch.tensor([[[0, 1], [1, 255]]])

    def total(*x):
        return pppc_loss(Gaussians(*x[:2]), Gaussians(*x[2:]), labels)["total"]

    assert torch.autograd.gradcheck(total, (*pixels, *prototypes))


# --------------------------------------------------------------------------------------------------------- closed forms


def test_likelihood_is_the_integral_of_the_product_of_two_gaussians():
    """In one dimension unit means are ±1; the kernel itself is checked at the specification's 0.218762."""
    z = np.linspace(-30, 30, 400_001)

    def normal(mean, variance):
        return np.exp(-((z - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    def kernel(d2, v0, v1):
        x = [torch.tensor(v, dtype=torch.float64) for v in (d2, math.log(v0), math.log(v1))]
        return math.exp(SIMILARITIES["likelihood"](*x).item() - math.log(2 * math.pi) / 2)

    assert kernel(0.8**2, 0.7, 1.9) == pytest.approx(0.218762, abs=5e-7)
    for m0, m1, v0, v1 in ((0.3, -0.5, 0.7, 1.9), (1, -1, 1, 2.5), (1, 1, 0.1, 0.2)):
        expected = integral(normal(m0, v0) * normal(m1, v1), z)
        assert kernel((m0 - m1) ** 2, v0, v1) == pytest.approx(expected, rel=1e-9)
    one = Gaussians(torch.tensor([[3.0]]).double(), torch.tensor([[math.log(1.5)]]).double())
    two = Gaussians(torch.tensor([[-0.2]]).double(), torch.tensor([[0.0]]).double())
    found = gaussian_similarity(one, two).item() - math.log(2 * math.pi) / 2
    assert found == pytest.approx(math.log(integral(normal(1, 1.5) * normal(-1, 1), z)), rel=1e-9)


def test_variance_stops_where_both_together_are_the_squared_distance():
    d2 = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    s0 = torch.tensor([0.1, 0.5, math.log(2.0)], dtype=torch.float64, requires_grad=True)
    s1 = torch.tensor([0.7, 0.2, 0.0], dtype=torch.float64)
    SIMILARITIES["likelihood"](d2, s0, s1).sum().backward()
    both = s0.exp() + s1.exp()
    assert torch.allclose(s0.grad, s0.exp() / both * (d2 / both - 1) / 2, rtol=1e-12)
    assert s0.grad[2].abs() < 1e-15 and (s0.grad[:2] < 0).all()  # both = 3 = d² in the last


def test_bhattacharyya_is_the_textbooks_up_to_a_constant_and_kl_too():
    first, second = gaussians(3, 6), gaussians(3, 6, seed=1)
    unit = [Gaussians(F.normalize(x.mean), x.log_variance) for x in (first, second)]
    normals = [torch.distributions.Normal(x.mean, (x.log_variance / 2).exp()) for x in unit]
    kl = torch.distributions.kl_divergence(*normals).mean(-1)
    assert torch.allclose(gaussian_similarity(first, second, "kl").diagonal(), -kl - 0.5, rtol=1e-10)
    (m0, v0), (m1, v1) = ((n.mean, n.variance) for n in normals)
    distance = ((m0 - m1) ** 2 / (v0 + v1) / 4 + torch.log((v0 + v1) / (2 * (v0 * v1).sqrt())) / 2).mean(-1)
    found = gaussian_similarity(first, second, "bhattacharyya").diagonal()
    assert torch.allclose(found, -distance - math.log(2) / 2, atol=2e-6)  # the release's 1e-6 in the logarithms


def test_prototype_is_the_normalised_product_of_the_gaussians():
    mean = torch.tensor([0.0, 2.0, 4.0]).view(1, 1, 1, 3)
    log_variance = torch.tensor([1.0, 0.5, 4.0]).log().view(1, 1, 1, 3)
    found = {}
    for variance in ("posterior", "harmonic"):
        prototypes = GaussianPrototypes(1, 1, decay=1, variance=variance)
        prototypes.update(Gaussians(mean, log_variance), torch.zeros(1, 1, 3))
        found[variance] = [x.item() for x in prototypes.gaussians()]
    z = np.linspace(-20, 20, 100_001)
    product = np.exp(-(z**2) / 2 - (z - 2) ** 2 - (z - 4) ** 2 / 8)
    product /= integral(product, z)
    middle = integral(z * product, z)
    spread = integral((z - middle) ** 2 * product, z)
    assert found["posterior"][0] == pytest.approx(middle, rel=1e-6) == pytest.approx(1.53846, abs=1e-5)
    assert math.exp(found["posterior"][1]) == pytest.approx(spread, rel=1e-6) == pytest.approx(0.30769, abs=1e-5)
    assert found["harmonic"][0] == found["posterior"][0]
    assert math.exp(found["harmonic"][1]) == pytest.approx(3 / (1 + 2 + 0.25), rel=1e-6)


def prototype_state(*batches, **options):
    prototypes = GaussianPrototypes(3, 4, **options).double()
    for pixels, labels in batches:
        prototypes.update(pixels, labels)
    return prototypes


def test_prototypes_of_two_halves_are_those_of_the_whole():
    pixels, labels = gaussians(4, 4, 3, 3), random_labels(4, 3, 3, classes=3)
    halves = [(Gaussians(*(x[i : i + 2] for x in pixels)), labels[i : i + 2]) for i in (0, 2)]
    whole, merged = prototype_state((pixels, labels), decay=1), prototype_state(*halves, decay=1)
    for a, b in zip(whole.gaussians(), merged.gaussians(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


def test_equal_variances_give_the_plain_mean_and_a_posterior_that_shrinks_with_the_pixels():
    mean, labels = gaussians(2, 4, 3, 3).mean, random_labels(2, 3, 3, classes=3)
    pixels = Gaussians(mean, torch.full_like(mean, math.log(1.7)))
    for variance in ("posterior", "harmonic"):
        found, log_variance = prototype_state((pixels, labels), variance=variance).gaussians()
        for k in range(3):
            members = mean.permute(0, 2, 3, 1)[labels == k]
            assert torch.allclose(found[k], members.mean(0), rtol=1e-12)
            n = len(members) if variance == "posterior" else 1
            assert torch.allclose(log_variance[k].exp(), torch.full((4,), 1.7 / n, dtype=torch.float64), rtol=1e-12)


def test_prototypes_forget_by_decay_and_keep_what_a_batch_does_not_show():
    first, second = gaussians(1, 4, 2, 2), gaussians(1, 4, 2, 2, seed=1)
    labels = torch.tensor([[[0, 1], [0, 1]]]), torch.tensor([[[0, 0], [0, 255]]])
    prototypes = prototype_state((first, labels[0]), (second, labels[1]), decay=0.5)
    weighed = [
        0.5 * (1 / first.log_variance.exp())[0, :, :, 0].sum(1),
        (1 / second.log_variance.exp())[0].flatten(1)[:, :3].sum(1),
    ]
    assert torch.allclose(prototypes.precision[0], sum(weighed), rtol=1e-12)
    alone = prototype_state((first, labels[0]), decay=0.5)
    assert torch.equal(prototypes.gaussians().mean[1], alone.gaussians().mean[1])
    assert prototypes.count.tolist() == [0.5 * 2 + 3, 2, 0] and prototypes.valid.tolist() == [True, True, False]
    assert not prototypes.gaussians().mean.requires_grad


@pytest.mark.parametrize(("preset", "expected"), [("lite", None), ("released", 0.693069)])
def test_two_classes_are_a_softplus_and_the_released_constants_make_it_flat(preset, expected):
    """Antipodal unit prototypes, σ² = 1 everywhere, D = 64: with sum and τ = 1 it is log(1 + 1/e) = 0.3133."""
    mean = F.normalize(torch.randn(1, 64, 1, 1, dtype=torch.float64), dim=1)
    pixels = Gaussians(mean, torch.zeros_like(mean))
    both = torch.cat([mean, -mean]).flatten(1)
    prototypes = Gaussians(both, torch.zeros_like(both))

    def value(**options):
        return pppc_loss(pixels, prototypes, torch.zeros(1, 1, 1), preset=preset, **options)["prototype"].item()

    own, other = gaussian_similarity(Gaussians(mean[:, :, 0, 0], torch.zeros(1, 64)), prototypes)[0].tolist()
    factor = {"sum": 64, "mean": 1}[PRESETS[preset]["reduction"]] / PRESETS[preset]["temperature"]
    assert value() == pytest.approx(math.log1p(math.exp(-factor * (own - other))), rel=1e-9)
    assert value(reduction="sum", temperature=1) == pytest.approx(0.3133, abs=5e-5)
    if expected:
        assert value() == pytest.approx(expected, abs=5e-7) and abs(value() - math.log(2)) < 1e-4
    else:
        assert value() < 1e-4  # the default tells the two apart


def test_bottleneck_is_the_kl_to_the_standard_normal():
    pixels, labels = gaussians(2, 5, 3, 3), random_labels(2, 3, 3)
    value = pppc_loss(pixels, gaussians(2, 5, seed=1), labels, bottleneck_weight=1.0)["bottleneck"]
    normals = torch.distributions.Normal(pixels.mean, (pixels.log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(normals, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert value.item() == pytest.approx(kl[labels != 255].sum().item(), rel=1e-10)
    standard = Gaussians(torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 2, 2))
    assert pppc_loss(standard, gaussians(2, 5, seed=1), torch.zeros(1, 2, 2))["bottleneck"] == 0


def test_small_temperatures_stay_finite():
    """Sum over 512 channels and τ = 0.01: the exponentials themselves would underflow."""
    pixels, prototypes = gaussians(1, 512, 4, 4, dtype=torch.float32), gaussians(2, 512, seed=1, dtype=torch.float32)
    loss = pppc_loss(pixels, prototypes, random_labels(1, 4, 4), temperature=0.01)["total"]
    loss.backward()
    assert loss.isfinite() and all(torch.isfinite(leaf.grad).all() for leaf in pixels)


# ------------------------------------------------------------------------------------------------ devices and bad input


def test_on_a_gpu_nothing_comes_back_to_the_host(fake_gpu):
    with fake_gpu, torch.device("cuda"):
        head, prototypes = GaussianHead(12, 8), GaussianPrototypes(2, 8)
        pixels = head(torch.randn(2, 12, 8, 8, device="cuda"))
        labels = torch.zeros(2, 32, 32, device="cuda", dtype=torch.uint8)
        prototypes.update(pixels, labels)
        narrow = Gaussians(*(x.bfloat16() for x in pixels))
        for preset in PRESETS:
            terms = pppc_loss(narrow, prototypes.gaussians(), labels, prototypes.valid, preset=preset)
            for value in terms.values():
                assert value.device.type == "cuda" and value.dtype == torch.float32 and value.requires_grad


@pytest.mark.slow
def test_loss_compiles_into_one_graph():
    pixels, prototypes, labels = gaussians(1, 4, 3, 3), gaussians(2, 4, seed=1), random_labels(1, 3, 3)
    compiled = torch.compile(pppc_loss, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(pixels, prototypes, labels)["total"], pppc_loss(pixels, prototypes, labels)["total"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": "published"}, "expected one of lite, released"),
        ({"reduction": "max"}, "expected mean or sum"),
        ({"temperature": 0}, "temperature 0: expected a number above 0"),
        ({"kind": "cosine"}, "expected one of likelihood"),
        ({"labels": torch.full((2, 3, 3), 2)}, "labels hold 2; expected 0 to 1"),
        ({"labels": torch.full((2, 3, 3), -1)}, "labels hold -1"),
        ({"labels": torch.zeros(2, 1, 3, 3)}, r"expected \(B,D,h,w\) twice and \(B,H,W\)"),
        ({"labels": torch.zeros(1, 3, 3)}, r"expected \(B,D,h,w\) twice and \(B,H,W\)"),
        ({"prototypes": gaussians(2, 5)}, r"expected \(N,D\) twice and \(M,D\) twice"),
        ({"prototypes": gaussians(1, 2, 4)}, r"expected \(N,D\) twice and \(M,D\) twice"),
        ({"pixels": Gaussians(torch.zeros(2, 4, 3, 3), torch.zeros(2, 1, 3, 3))}, r"expected \(B,D,h,w\) twice"),
    ],
)
def test_bad_input_is_named(change, message):
    usual = {"pixels": gaussians(2, 4, 3, 3), "prototypes": gaussians(2, 4), "labels": torch.zeros(2, 3, 3)}
    with pytest.raises(InputError, match=message):
        pppc_loss(**{**usual, **change})


def test_prototypes_refuse_what_they_cannot_use():
    with pytest.raises(InputError, match="harmonic or posterior"):
        GaussianPrototypes(2, 4, variance="mean")
    with pytest.raises(InputError, match="labels hold 2"):
        GaussianPrototypes(2, 4).update(gaussians(1, 4, 2, 2), torch.full((1, 2, 2), 2))


def test_an_image_without_a_class_counts_the_other_alone():
    pixels, prototypes = gaussians(1, 4, 2, 2), gaussians(2, 4, seed=1)
    value = pppc_loss(pixels, prototypes, torch.ones(1, 2, 2), temperature=1)["prototype"]
    logits = 4 * gaussian_similarity(Gaussians(*(x[0].flatten(1).T for x in pixels)), prototypes)
    assert value.item() == pytest.approx(F.cross_entropy(logits, torch.ones(4, dtype=torch.int64)).item(), rel=1e-10)
