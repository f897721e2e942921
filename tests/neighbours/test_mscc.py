"""MSCCNet's module and head against the released code's numbers, loops, closed forms and their own promises."""

import copy
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn

from mpc_lite.errors import InputError
from mpc_lite.neighbours.mscc.attention import MSCC, MSCCHead, attend, dct_bank, modulate, recover
from mpc_lite.neighbours.mscc.training import mscc_loss
from tests.neighbours.oracles_mscc import bank_oracle, module_oracle

GOLDEN = Path(__file__).parents[1] / "golden"
MODULE = dict(np.load(GOLDEN / "mscc_module.npz"))
HEAD = dict(np.load(GOLDEN / "msccnet_head.npz"))
WAYS = ("fused", "plain")
# Ours -> the names under which the golden weights were drawn. Our convolution of [X, O] is kept as two halves.
RELEASED = {
    "coarse.": "decoder_map.",
    "mix_groups.": "gcn.conv1.",
    "mix_channels.": "gcn.conv2.",
    "normalise.0.": "bottleneck.1.",
    "on_pixels.": "bottleneck.0.",
    "on_centers.": "bottleneck.0.",
    "levels.": "bottleneck",
    "aggregate.": "bottleneck_fusion.",
    "classifier.": "decoder.",
    "image.": "classifer.fc.",
}


def released_name(name: str) -> str:
    prefix, rest = ("mscc.", name.removeprefix("mscc.")) if name.startswith("mscc.") else ("", name)
    for ours, theirs in RELEASED.items():
        if rest.startswith(ours):
            rest = theirs + rest.removeprefix(ours)
            break
    if rest[: len("bottleneck") + 1] in ("bottleneck0", "bottleneck1", "bottleneck2"):  # levels count from 1 there
        rest = f"bottleneck{int(rest[10]) + 1}{rest[11:]}"
    return prefix + rest


def draw(name: str, *shape: int) -> torch.Tensor:
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


@torch.no_grad()
def fill(module: torch.nn.Module, prefix: str) -> None:
    """The weights under which the golden numbers were computed: from the CRC of each tensor's released name."""
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        half = "on_pixels" in name or "on_centers" in name
        shape = list(tensor.shape)
        shape[1:2] = [2 * n for n in shape[1:2]] if half else shape[1:2]
        values = draw(prefix + released_name(name), *shape)
        if name.endswith("running_var"):
            values = 1 + 0.1 * values.abs()
        elif values.ndim >= 2:
            values = values / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values = 0.1 * values
        tensor.copy_(values.chunk(2, 1)["on_centers" in name] if half else values)


def released_gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in module.named_parameters():
        theirs = released_name(name)
        found[theirs] = torch.cat([found[theirs], parameter.grad], 1) if theirs in found else parameter.grad
    return found


def off(ours: torch.Tensor, golden: np.ndarray) -> float:
    """Relative L2 distance."""
    golden = np.asarray(golden, np.float64)
    return float(np.linalg.norm(ours.detach().double().numpy() - golden) / np.linalg.norm(golden))


def check_gradients(module: torch.nn.Module, golden: dict[str, np.ndarray], tag: str, bound: float) -> None:
    gradients = released_gradients(module)
    names = [str(name) for name in golden[f"{tag}_param_names"]]
    assert sorted(gradients) == sorted(names)
    for name, norm in zip(names, golden[f"{tag}_param_grad_norms"], strict=True):
        assert gradients[name].double().norm().item() == pytest.approx(norm, rel=bound, abs=1e-8), name
        if f"{tag}_grad_{name}" in golden:
            assert off(gradients[name], golden[f"{tag}_grad_{name}"]) < bound, name


class Threshold(torch.nn.Module):
    """A ReLU that lets through what lies above `least`."""

    def __init__(self, least: float):
        super().__init__()
        self.least = least

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values > self.least, values, 0)


CASES = {"k2": (64, 24, 2), "k2_train": (64, 24, 2), "k8f": (64, 64, 8), "rect": (128, 16, 2)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tag", CASES)
def test_the_module_gives_the_released_numbers(tag, way):
    """In double precision, as below: there the released code's rounding is the only one, whatever the processor."""
    (channels, outputs, k), weights = CASES[tag], tag.removesuffix("_train")
    module = MSCC(channels, outputs, k=k, dropout=0, implementation=way).train(tag.endswith("_train"))
    fill(module, f"mscc.{weights}.")
    single = copy.deepcopy(module)(torch.from_numpy(MODULE[f"{weights}_x"]))
    module.double()
    x = torch.from_numpy(MODULE[f"{weights}_x"]).double().requires_grad_()

    def golden(name):
        return MODULE.get(f"{tag}_{name}")

    features, coarse = module(x)
    if tag.endswith("_train"):
        assert off(module.coarse[1].running_mean, golden("bn_running_mean")) < 1e-6
        assert off(module.coarse[1].running_var, golden("bn_running_var")) < 1e-6
    maps, centers = module.maps_and_centers(x)
    mixed = module.graph(centers)
    attention = attend(x, mixed)
    found = {
        "S": modulate(x, dct_bank(*x.shape[2:]).double()),
        "M": maps.flatten(0, 1).unflatten(2, x.shape[2:]),
        "Z": centers,
        "Zpp": mixed,
        "P": attention.flatten(3).mT,
        "O": recover(attention, mixed),
        "out": features,
        "map": coarse,
    }
    compared = {name: off(value, golden(name)) for name, value in found.items() if golden(name) is not None}
    assert {"M", "Z", "Zpp", "P", "out", "map"} <= set(compared) and max(compared.values()) < 1e-5, compared
    assert off(single.features, golden("out")) < 1e-5 and off(single.coarse, golden("map")) < 1e-5
    weighted = [(found[n] * draw(f"mscc.{weights}.g_{n}", *found[n].shape)).mean() for n in ("out", "map")]
    sum(weighted).backward()
    assert sum(weighted).item() == pytest.approx(float(golden("L_f64")), rel=1e-5)
    assert off(x.grad, golden("grad_x")) < 1e-5
    check_gradients(module, MODULE, tag, 1e-5)


@pytest.mark.parametrize("tag", CASES)
def test_in_double_precision_the_value_is_exact(tag):
    (channels, outputs, k), weights = CASES[tag], tag.removesuffix("_train")
    module = MSCC(channels, outputs, k=k, dropout=0).train(tag.endswith("_train"))
    fill(module, f"mscc.{weights}.")
    found = module.double()(torch.from_numpy(MODULE[f"{weights}_x"]).double().requires_grad_())
    names = zip(found, ("g_out", "g_map"), strict=True)
    value = sum((x * draw(f"mscc.{weights}.{name}", *x.shape)).mean() for x, name in names)
    assert value.item() == pytest.approx(float(MODULE[f"{tag}_L_f64"]), rel=2e-7)  # their bank is rounded to fp32


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_released_configuration_gives_the_released_numbers(way):
    module = MSCC(512, 512, dropout=0, implementation=way).eval()
    fill(module, "mscc.ffpp.")
    x = 3 * draw("mscc.ffpp.x", 1, 512, 64, 64)
    with torch.no_grad():
        single = module(x)
    module.double()
    x = x.double().requires_grad_()
    # One of two million values before this ReLU is -6.2e-8, and +1e-7 in the released run: by their rounding it counts.
    module.normalise[1] = Threshold(-1e-7)
    features, coarse = module(x)
    weighted = [(features * draw("mscc.ffpp.g_out", *features.shape)).mean()]
    weighted.append((coarse * draw("mscc.ffpp.g_map", *coarse.shape)).mean())
    sum(weighted).backward()
    with torch.no_grad():
        spectral = modulate(x, dct_bank(64, 64).double())
        maps, centers = module.maps_and_centers(x)
        mixed = module.graph(centers)
        attention = attend(x, mixed)
        recovered = recover(attention, mixed)
    maps = maps[0].unflatten(2, (64, 64))
    part = (0, slice(None, None, 32), slice(None, None, 13), slice(None, None, 11))
    for name, value in {"S": spectral, "O": recovered, "out": features}.items():
        assert off(value[part], MODULE[f"ffpp_{name}"]) < 1e-5, name
    assert off(single.features[part], MODULE["ffpp_out"]) < 1e-5
    assert off(maps[:, :, ::9, ::7], MODULE["ffpp_M"]) < 1e-5
    assert off(coarse[0, :, ::9, ::7], MODULE["ffpp_map"]) < 1e-5
    assert off(attention[0].flatten(2).mT[:, ::37], MODULE["ffpp_P"]) < 1e-5
    assert off(centers, MODULE["ffpp_Z"]) < 1e-5 and off(mixed, MODULE["ffpp_Zpp"]) < 1e-5
    norms = [x.double().norm().item() for x in (spectral, maps, centers, mixed, attention, recovered, features, coarse)]
    norms += [abs(sum(weighted).item()), x.grad.double().norm().item()]
    assert norms == pytest.approx(np.abs(MODULE["ffpp_norms"]).tolist(), rel=1e-5)
    assert off(x.grad[part], MODULE["ffpp_grad_x"]) < 1e-5
    check_gradients(module, MODULE, "ffpp", 1e-5)


def test_the_bank_is_the_released_one_and_orthonormal():
    assert off(dct_bank(8, 8), MODULE["bank_8x8x64"]) < 1e-6
    assert off(dct_bank(10, 12), MODULE["bank_10x12x128"]) < 1e-6
    assert off(dct_bank(64, 64)[:, ::9, ::7], MODULE["bank_64x64x64_sub"]) < 1e-6
    gram = torch.einsum("ihw,jhw->ij", *[dct_bank(64, 64)] * 2)
    assert torch.allclose(gram, torch.eye(64), atol=1e-6)
    assert off(gram, MODULE["bank_64x64x64_gram"]) < 1e-6
    assert np.abs(dct_bank(9, 11, 5, torch.float64).numpy() - bank_oracle(9, 11, 5)).max() < 1e-14


def test_each_wave_goes_to_one_run_of_channels():
    found = modulate(torch.ones(1, 192, 8, 8), dct_bank(8, 8))[0]
    of_base = MODULE["bank_8x8_C192_chan_of_base"]
    assert all(torch.equal(found[i], dct_bank(8, 8)[base]) for i, base in enumerate(of_base))


def test_the_whole_bank_gives_an_image_back_and_modulation_does_not():
    x = torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bank = dct_bank(16, 16, 16, torch.float64)
    coefficients = torch.einsum("ihw,hw->i", bank, x)
    assert torch.allclose(torch.einsum("i,ihw->hw", coefficients, bank), x, atol=1e-12)
    assert coefficients.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-12)
    # What MSCC does instead: multiply by each of the lowest 64 waves. Their sum is another picture altogether.
    summed = modulate(x.expand(1, 64, 16, 16), dct_bank(16, 16, 8, torch.float64))[0].sum(0)
    correlation = torch.corrcoef(torch.stack([summed.flatten(), x.flatten()]))[0, 1]
    assert abs(correlation) < 0.5 and (summed - x).norm() > 0.5 * x.norm()


def test_a_mirror_turns_the_sign_of_odd_waves_and_of_their_centres():
    """So the module is not equivariant: what it learnt of one orientation does not hold for another by itself."""
    bank, v = dct_bank(9, 12, dtype=torch.float64), torch.arange(64) % 8
    assert torch.allclose(bank.flip(2), bank * (1 - 2 * (v % 2))[:, None, None], atol=1e-14)
    torch.manual_seed(0)
    x, maps = torch.randn(2, 64, 9, 12, dtype=torch.float64), torch.randn(2, 1, 9, 12, dtype=torch.float64)
    upright, mirrored = ((modulate(x, bank) * m).sum((2, 3)) for x, m in ((x, maps), (x.flip(3), maps.flip(3))))
    assert torch.allclose(mirrored, upright * (1 - 2 * (v % 2)), atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 8), (10, 12), (9, 11)])
@pytest.mark.parametrize("way", WAYS)
def test_a_centre_is_a_dct_coefficient_of_class_map_times_feature(shape, way):
    torch.manual_seed(0)
    module = MSCC(128, 8, implementation=way).double().eval()
    x = torch.randn(2, 128, *shape, dtype=torch.float64, requires_grad=True)
    maps, centers = (t.detach().numpy() for t in module.maps_and_centers(x))
    features = x.detach().numpy().reshape(2, 4, 32, *shape)
    for image, group, k, channel in [(0, 0, 0, 0), (0, 3, 1, 31), (1, 1, 0, 17), (1, 2, 1, 5)]:
        wave = (group * 32 + channel) // 2
        product = maps[image, group, k].reshape(shape) * features[image, group, channel]
        coefficient = dctn(product, norm="ortho")[wave // 8, wave % 8]
        assert centers[image, group, k, channel] == pytest.approx(coefficient, rel=1e-10, abs=1e-12)


def test_attention_to_two_centres_is_a_gate():
    x, centers = torch.randn(2, 8, 3, 5, dtype=torch.float64), torch.randn(2, 2, 2, 4, dtype=torch.float64)
    difference = centers[:, :, 1] - centers[:, :, 0]
    gate = torch.einsum("bgchw,bgc->bghw", x.unflatten(1, (2, 4)), difference).sigmoid()
    assert torch.allclose(attend(x, centers)[:, :, 1], gate)
    equal = centers[:, :, :1].expand(-1, -1, 2, -1)
    assert torch.allclose(recover(attend(x, equal), equal), equal[:, :, 0].flatten(1)[:, :, None, None].expand_as(x))


def test_a_graph_without_edges_keeps_what_is_not_negative():
    module = MSCC(64, 8)
    torch.nn.init.zeros_(module.mix_groups.weight)
    torch.nn.init.eye_(module.mix_channels.weight)
    centers = torch.randn(2, 4, 2, 16)
    assert torch.equal(module.graph(centers), centers.relu())


@pytest.mark.parametrize("bases,k,shape", [(4, 2, (5, 7)), (2, 1, (4, 3)), (2, 2, (3, 3))])
@pytest.mark.parametrize("way", WAYS)
def test_the_module_agrees_with_loops(bases, k, shape, way):
    torch.manual_seed(1)
    channels = 2 * bases * bases
    module = MSCC(channels, 3, classes=3, k=k, bases=bases, implementation=way).double().eval()
    for norm in (module.coarse[1], module.normalise[0]):
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(2, channels, *shape, dtype=torch.float64, requires_grad=True)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    expected = module_oracle(x.detach().numpy(), state, k * k, bases)
    maps, centers = module.maps_and_centers(x)
    mixed = module.graph(centers)
    attention = attend(x, mixed)
    features, coarse = module(x)
    found = (maps.unflatten(3, shape), centers, mixed, attention, recover(attention, mixed), coarse, features)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours.detach().numpy() - theirs).max() < 1e-10


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels,k,shape", [(64, 2, (9, 11)), (192, 8, (8, 8)), (512, 2, (8, 10)), (128, 1, (10, 8))])
def test_fused_and_plain_agree_in_values_gradients_and_statistics(channels, k, shape, training):
    results = []
    x = torch.randn(3, channels, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    for way in WAYS:
        torch.manual_seed(5)
        module = MSCC(channels, 8, k=k, dropout=0.3, implementation=way).double().train(training)
        given = x.clone().requires_grad_()
        features, coarse = module(given)  # equal seeds: the dropout of both ways draws the same numbers
        (features.square().sum() + (coarse * coarse.detach().cos()).sum()).backward()
        gradients = [p.grad for p in module.parameters()]
        results.append([features, coarse, given.grad, *gradients, *[b.double() for b in module.buffers()]])
    for fused, plain in zip(*results, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-9, atol=1e-9 * plain.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_the_fused_gradients_are_those_of_finite_differences(training):
    torch.manual_seed(0)
    module = MSCC(8, 3, k=2, bases=2, dropout=0).double().train(training)
    torch.nn.init.normal_(module.coarse[1].bias)  # at 0, cells where a wave is 0 would sit on the ReLU's kink
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    parameters = [p for name, p in module.named_parameters() if name.startswith("coarse")]
    assert torch.autograd.gradcheck(lambda x, *_: module.maps_and_centers(x), (x, *parameters))


def test_gradients_reach_the_features_as_pixels_and_as_centres():
    torch.manual_seed(0)
    module = MSCC(64, 8).eval()
    x = torch.randn(1, 64, 8, 8, requires_grad=True)
    mixed = module.graph(module.maps_and_centers(x)[1])
    for pixels, centers in ((x, mixed.detach()), (x.detach(), mixed)):
        value = recover(attend(pixels, centers), centers).square().sum()
        assert torch.autograd.grad(value, x, retain_graph=True)[0].abs().max() > 0


def test_autocast_keeps_the_sums_in_float32():
    torch.manual_seed(0)
    module = MSCC(64, 8).eval()
    x = torch.randn(2, 64, 16, 16, requires_grad=True)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        features, coarse = module(x.bfloat16())
    assert coarse.dtype == torch.float32 and off(coarse, exact.coarse.detach()) < 0.02
    assert off(features, exact.features.detach()) < 0.05
    features.float().sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("channels,bases", [(32, 8), (63, 8), (70, 8), (8, 4)])
def test_channels_that_the_bank_cannot_carry_are_refused(channels, bases):
    with pytest.raises(InputError, match=f"{channels} channels for {bases**2} waves.*change channels"):
        MSCC(channels, 8, bases=bases)
    with pytest.raises(InputError, match=f"{channels} channels"):
        modulate(torch.ones(1, channels, 8, 8), dct_bank(8, 8, bases))


@pytest.mark.parametrize("shape", [(4, 4), (7, 64), (64, 7)])
def test_a_grid_without_room_for_the_waves_is_refused(shape):
    with pytest.raises(InputError, match=f"grid {shape[0]}×{shape[1]}.*larger images"):
        dct_bank(*shape)
    with pytest.raises(InputError, match="grid"):
        MSCC(64, 8)(torch.zeros(1, 64, *shape))


def test_other_bad_inputs_are_refused():
    with pytest.raises(InputError, match="64 waves in 9 groups"):
        MSCC(576, 8, k=3)
    with pytest.raises(InputError, match="implementation 'fast'"):
        MSCC(64, 8, implementation="fast")
    with pytest.raises(InputError, match=r"features \(1, 32, 8, 8\): expected \(B, 64, H, W\)"):
        MSCC(64, 8)(torch.zeros(1, 32, 8, 8))
    with pytest.raises(InputError, match="1 levels of features: expected 2"):
        MSCCHead((8, 8), 64)([torch.zeros(1, 8, 8, 8)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_on_a_gpu_nothing_comes_back_to_the_host(way, training, fake_gpu):
    with fake_gpu:
        with torch.device("cuda"):
            head = MSCCHead((16, 16, 16), 64, implementation=way).train(training)
        levels = [torch.randn(2, 16, s, s, device="cuda", requires_grad=True) for s in (16, 8, 4)]
        for logits in head(levels).values():
            assert logits.device.type == "cuda" and logits.requires_grad


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_head_gives_the_released_numbers(mode, way):
    head = MSCCHead((64, 128, 256), 64, dropout=0, implementation=way).train(mode == "train")
    fill(head, "msccnet.")
    levels = [torch.from_numpy(HEAD[f"b{i}"]) for i in (2, 3, 4)]
    single = copy.deepcopy(head)(levels)
    head.double()
    levels = [level.double().requires_grad_() for level in levels]
    outputs = head(levels)
    losses = mscc_loss(outputs, torch.from_numpy(HEAD["y"]), torch.from_numpy(HEAD["y_img"]))
    losses["total"].backward()
    names = {"mask": "mask_logits", "coarse": "map", "image": "img_logits"}
    for ours, theirs in names.items():
        assert off(outputs[ours], HEAD[f"{mode}_{theirs}"]) < 1e-5
        assert off(single[ours], HEAD[f"{mode}_{theirs}"]) < 1e-5
    names = {"image": "loss_img_cls", "coarse": "loss_pix_cls_map", "mask": "loss_pix_cls_mask", "total": "loss_total"}
    for ours, theirs in names.items():
        assert losses[ours].item() == pytest.approx(float(HEAD[f"{mode}_{theirs}_f64"].item()), rel=1e-6)
    if mode == "eval":
        assert off(head.features(levels), HEAD["eval_X"]) < 1e-5
        assert off(head.mscc(head.features(levels)).features, HEAD["eval_mscc_out"]) < 1e-5
    assert off(levels[0].grad, HEAD[f"{mode}_grad_b2"]) < 1e-5
    assert off(levels[1].grad[:, ::8], HEAD[f"{mode}_grad_b3_sub"]) < 1e-5
    assert off(levels[2].grad[:, ::8], HEAD[f"{mode}_grad_b4_sub"]) < 1e-5
    check_gradients(head, HEAD, mode, 1e-5)


def test_the_levels_meet_on_the_grid_of_the_first():
    torch.manual_seed(0)
    head = MSCCHead((4, 6), 64).eval()
    levels = [torch.randn(1, 4, 9, 13), torch.randn(1, 6, 5, 7)]
    coarser = F.interpolate(head.levels[1](levels[1]), size=(9, 13), mode="bilinear", align_corners=True)
    expected = head.aggregate(torch.cat([head.levels[0](levels[0]), coarser], 1))
    assert torch.equal(head.features(levels), expected)
    outputs = head(levels)
    assert outputs["mask"].shape == outputs["coarse"].shape == (1, 2, 9, 13)
    assert torch.allclose(outputs["image"], head.image(levels[1].mean((2, 3))))
