"""MSCCNet's loss and the network that is trained: bad inputs, empty sets, sums that several batches share, learning."""

import pytest
import torch
import torch.nn.functional as F

from mpc_lite.data.augment.on_device import augment
from mpc_lite.errors import InputError
from mpc_lite.neighbours.mscc.network import MSCCNet, tampered_logit
from mpc_lite.neighbours.mscc.training import ClassCenterTraining, mscc_loss
from mpc_lite.network.folding import folded
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.loop import Stage


def logits(images=3, side=8, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"mask": (images, 2, side, side), "coarse": (images, 2, side, side), "image": (images, 2)}
    return {n: torch.randn(s, generator=generator, **options).requires_grad_() for n, s in shapes.items()}


def masks(images=3, side=32):
    mask = torch.zeros(images, side, side, dtype=torch.uint8)
    mask[0, 5:20, 7:30] = 1
    return mask


def batch(images=2, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 80, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    mask = torch.zeros(images, side, side, dtype=torch.uint8)
    for i in range(images - 1):  # the last one is authentic
        top, left = (8 * i) % (side // 2), (16 * i) % (side // 2)
        mask[i, top : top + side // 2, left : left + side // 2] = 1
    image += 150 * mask[:, None]
    return {"image": image, "mask": mask, "turn": torch.arange(images) % 8}


def training(**changes):
    changes = {"model.head": "mscc", "mscc.steps": 4, **changes}
    torch.manual_seed(0)
    return ClassCenterTraining(MPC.build("nano", "mscc"), load_recipe("quickstart", "smoke", changes))


def test_the_loss_is_three_cross_entropies():
    outputs, mask = logits(), masks()
    mask[1, :7] = 255
    losses = mscc_loss(outputs, mask)
    for name in ("mask", "coarse"):
        larger = F.interpolate(outputs[name], size=(32, 32), mode="bilinear", align_corners=False)
        expected = F.cross_entropy(larger, mask.long(), ignore_index=255)
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["image"].item() == pytest.approx(
        F.cross_entropy(outputs["image"], torch.tensor([1, 0, 0])).item(), rel=1e-5
    )
    assert losses["total"].item() == pytest.approx(sum(losses[n].item() for n in outputs), rel=1e-6)
    given = mscc_loss(outputs, mask, torch.tensor([0, 1, 0]))["image"]
    assert given.item() == pytest.approx(F.cross_entropy(outputs["image"], torch.tensor([0, 1, 0])).item(), rel=1e-5)


def test_sums_of_batches_make_the_mean_of_all():
    outputs, mask = logits(4), masks(4)
    whole = mscc_loss(outputs, mask)
    parts = [
        mscc_loss({n: x[part] for n, x in outputs.items()}, mask[part], reduction="sum") for part in ([0], [1, 2, 3])
    ]
    for name, value in whole.items():
        assert sum(p[name] for p in parts).item() / mask.numel() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_a_known_pixel_the_loss_is_an_attached_zero(reduction):
    outputs = logits()
    losses = mscc_loss(outputs, torch.full((3, 32, 32), 255), reduction=reduction)
    losses["total"].backward()
    assert all(value.item() == 0 for value in losses.values())
    assert all((x.grad == 0).all() for x in outputs.values())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_image_without_a_known_pixel_changes_nothing(reduction):
    outputs, mask = logits(), masks()
    mask[2] = 255
    found = mscc_loss(outputs, mask, reduction=reduction)
    alone = mscc_loss({n: x[:2] for n, x in outputs.items()}, mask[:2], reduction=reduction)
    assert all(found[n].item() == pytest.approx(alone[n].item(), rel=1e-5) for n in found)


@pytest.mark.parametrize("value", [0, 1])
def test_an_image_of_one_class_is_an_image_like_others(value):
    outputs = logits(1)
    losses = mscc_loss(outputs, torch.full((1, 32, 32), value))
    losses["total"].backward()
    assert all(x.grad.abs().sum() > 0 for x in outputs.values())
    # Every pixel pulls towards the class that is there, whatever the other one would have said.
    assert (outputs["mask"].grad[:, value] < 0).all() and (outputs["image"].grad[:, value] < 0).all()


def test_large_logits_stay_finite():
    outputs = {n: (1e4 * x).detach().requires_grad_() for n, x in logits().items()}
    mscc_loss(outputs, masks())["total"].backward()
    assert all(x.grad.isfinite().all() for x in outputs.values())


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", ["mask", "coarse", "image"])
def test_other_than_two_classes_are_refused(name, classes):
    outputs = logits()
    outputs[name] = outputs[name].detach()[:, :1].repeat_interleave(classes, 1)
    with pytest.raises(InputError, match=rf"logits \(3, {classes}.*expected \(B, 2"):
        mscc_loss(outputs, masks())
    with pytest.raises(InputError, match="two classes only"):
        tampered_logit(outputs[name])


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"mask \(2, 32, 32\) with 3 images"):
        mscc_loss(logits(), masks(2))
    with pytest.raises(InputError, match=r"mask \(3, 1, 32, 32\)"):
        mscc_loss(logits(), masks()[:, None])
    with pytest.raises(InputError, match="mask holds the value 2"):
        mscc_loss(logits(), 2 * masks())
    with pytest.raises(InputError, match="reduction 'none'"):
        mscc_loss(logits(), masks(), reduction="none")
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
        MPC.build("nano", "mscc")(torch.zeros(1, 1, 64, 64))
    with pytest.raises(InputError, match=r"mscc trains a network of model\.head mscc, found 4conv"):
        training(**{"model.head": "4conv"})


def test_a_logit_for_two_gives_the_softmax():
    two = torch.randn(2, 2, 5, 4)
    assert torch.allclose(tampered_logit(two).sigmoid(), two.softmax(1)[:, 1:], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("height,width", [(64, 64), (35, 61), (32, 96)])
def test_the_network_scores_images_of_any_size_from_32(height, width):
    torch.manual_seed(0)
    network = MPC.build("nano", "mscc").eval()
    images = torch.rand(2, 3, height, width)
    grid = (-(-height // 4), -(-width // 4))
    with torch.no_grad():
        outputs, score = network.outputs(images), network(images)
    assert score.shape == (2, 1, *grid) and outputs["image"].shape == (2, 2)
    assert outputs["mask"].shape == outputs["coarse"].shape == (2, 2, *grid)
    assert torch.allclose(score, outputs["mask"][:, 1:] - outputs["mask"][:, :1])
    assert torch.allclose(network.localize(network.encode(images)), score)
    with pytest.raises(InputError, match="grid 7×16"):
        network(torch.rand(1, 3, 28, 64))


def test_weights_bring_the_network_back(tmp_path):
    torch.manual_seed(0)
    network, images = MPC.build("nano", "mscc").eval(), torch.rand(1, 3, 64, 64)
    save_weights(tmp_path / "model.safetensors", network, {}, stage="mscc")
    loaded = MPC.from_pretrained(tmp_path / "model.safetensors")
    assert isinstance(loaded, MSCCNet) and loaded.head == "mscc"
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))
        assert torch.allclose(folded(loaded)(images), network(images), atol=1e-5)
    assert folded(loaded) is not loaded


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_on_a_gpu_nothing_of_network_and_loss_comes_back_to_the_host(reduction, fake_gpu):
    with fake_gpu:
        with torch.device("cuda"):
            network = MPC.build("nano", "mscc")
        outputs = network.outputs(torch.rand(2, 3, 64, 64, device="cuda"))
        mask = torch.zeros(2, 64, 64, device="cuda", dtype=torch.uint8)
        for value in mscc_loss(outputs, mask, reduction=reduction).values():
            assert value.device.type == "cuda" and value.dtype == torch.float32 and value.requires_grad


def test_the_stage_is_one_of_the_loop():
    stage = training()
    for name in (n for n in dir(Stage) if not n.startswith("_")):
        assert hasattr(stage, name), name
    for name in Stage.__annotations__:
        assert hasattr(stage, name), name
    given = batch()
    given["mask"][0, :3] = 255
    assert stage.count(given) == 2 * 64 * 64 - 3 * 64
    stage.prepare_epoch()
    sums = stage.network(given)
    sums["total"].backward()
    without = [name for name, p in stage.network.named_parameters() if p.grad is None]
    assert not without and not stage.partial and {"mask", "coarse", "image", "total"} == set(sums)


def test_the_stage_turns_images_and_masks_and_sums_the_loss_over_their_pixels():
    stage, given = training(), batch()
    stage.network.eval()
    images, turned = augment(given)
    expected = mscc_loss(stage.model.outputs(images.float() / 255), turned)
    for name, value in stage.network(given).items():
        assert value.item() / stage.count(given) == pytest.approx(expected[name].item(), rel=1e-4)


@pytest.mark.slow
def test_the_network_learns_a_few_images_and_is_scored_on_them():
    stage, given = training(), {**batch(4, 32), "turn": torch.zeros(4, dtype=torch.int64)}
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(stage.network.parameters(), lr=2e-3)
    losses = []
    stage.prepare_epoch()
    for _ in range(60):
        value = stage.network(given)["total"] / stage.count(given)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(value.item())
    assert losses[-1] < 0.2 * losses[0]
    scores = stage.validate(stage.model, [{"image": given["image"], "mask": list(given["mask"])}])
    assert scores["f1"] > 0.8 and scores["authentic_marked"] < 0.1
    assert not stage.model.training
