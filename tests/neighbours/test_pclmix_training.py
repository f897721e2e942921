"""PCLMix's network and stage: it learns from strokes, and what is left after training needs none of its helpers."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mpc_lite.data.stream import datasets
from mpc_lite.errors import InputError
from mpc_lite.neighbours.pclmix.network import DualDecoder, EmbeddingHead, two_logits
from mpc_lite.neighbours.pclmix.scribbles import scribbles
from mpc_lite.neighbours.pclmix.training import PCLMix, PCLMixStep, Scribbled
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import save_weights
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe
from mpc_lite.recipes.neighbour_keys import PCLMixSection
from mpc_lite.training.loop import Interrupted, train
from mpc_lite.training.progress import read_log

NETWORK = np.load(Path(__file__).parents[1] / "golden" / "pclmix_network.npz")


def recipe(**section):
    quick = {"data.validation_images": "4", "data.scenes": "[dead_leaves]", "data.workers": "0", "data.size": "64"}
    plan = {"steps": 3, "batch": 2, "validate_every": 3, "anchors": 40, "views": 10, "queue": 20, "embedding": 8}
    given = load_recipe("quickstart", "smoke", quick).as_dict()
    return Recipe(**given, pclmix=PCLMixSection(**{**plan, **section}))


def batch(size=64, n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.full((n, size, size), 255, dtype=torch.uint8)
    mask[:, :16], mask[:, 40:56, 8:40] = 0, 1  # at stride 8 sixteen cells and eight
    image = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    return {"image": image, "mask": mask, "turn": torch.zeros(n, dtype=torch.int64)}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_embedding_head_equals_the_release(mode):
    head = EmbeddingHead(24, 16).train(mode == "train")
    with torch.no_grad():
        for key, value in head.state_dict().items():
            name = f"pclmix.emb.{key.replace('layers', 'embed')}"
            a = torch.from_numpy(
                np.random.default_rng(zlib.crc32(name.encode())).standard_normal(value.shape).astype(np.float32)
            )
            if key.endswith("running_var"):
                value.copy_(1 + 0.1 * a.abs())
            elif value.ndim >= 2:
                value.copy_(a / a[0].numel() ** 0.5)
            elif value.ndim:
                value.copy_(1 + 0.1 * a if key.endswith("weight") else 0.1 * a)
    x = torch.from_numpy(NETWORK["embed_x"]).requires_grad_()
    out = head(x)
    g = np.random.default_rng(zlib.crc32(b"pclmix.emb.g")).standard_normal((2, 16, 5, 6)).astype(np.float32)
    (out * torch.from_numpy(g)).mean().backward()
    for found, name in ((out.detach(), "out"), (x.grad, "grad_x")):
        expected = torch.from_numpy(NETWORK[f"embed_{mode}_{name}"])
        assert (found - expected).norm() / expected.norm() < 1e-5


def test_the_model_is_bit_identical_without_the_auxiliary_decoder(tmp_path):
    torch.manual_seed(0)
    network = DualDecoder(MPC.build("nano"), 8).eval()
    images = torch.rand(2, 3, 64, 64)
    # With gradients: without them a plain call of MPC computes with a folded copy, which is equal up to rounding.
    both = network.model(images)
    assert torch.equal(network(images).main, two_logits(both, (64, 64)))
    del network.auxiliary, network.embed
    assert torch.equal(network.model(images), both)
    save_weights(tmp_path / "model.safetensors", network.model, {}, stage="pclmix")
    assert torch.equal(MPC.from_pretrained(tmp_path / "model.safetensors")(images), both)


def test_two_logits_are_the_sigmoid():
    logit = torch.randn(2, 1, 8, 8)
    assert torch.allclose(two_logits(logit, (8, 8)).softmax(1)[:, 1], logit[:, 0].sigmoid())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["lite", "released"])
@pytest.mark.parametrize("rule", ["released", "splice", "intra"])
def test_a_step_reaches_every_parameter(preset, rule):
    torch.manual_seed(0)
    settings = recipe(preset=preset, mix_label_rule=rule, contrast_after=0.0).pclmix
    step = PCLMixStep(MPC.build("nano"), settings).train()
    step.passes = 2
    sums = step(batch())
    terms = {"scribble", "mixed", "pseudo"}
    assert set(sums) == {f"{t}_{d}" for t in terms for d in ("main", "auxiliary")} | {
        "contrast",
        "consistency",
        "labelled",
        "total",
    }
    assert sums["labelled"].item() / 2 == pytest.approx((16 * 64 + 16 * 32) / 64**2)
    sums["total"].backward()
    assert all(p.grad is not None for p in step.parameters())
    assert step.queue.filled.any() and step.passes == 3
    assert any(p.grad.any() for p in step.network.embed.parameters()) == (preset == "released")  # its queue starts full
    step(batch())["total"].backward()
    assert any(p.grad.any() for p in step.network.embed.parameters())


def test_before_its_time_the_contrast_is_an_attached_zero():
    step = PCLMixStep(MPC.build("nano"), recipe(contrast_after=0.5).pclmix).train()
    sums = step(batch())
    sums["contrast"].backward()
    assert sums["contrast"].item() == 0 and not step.queue.filled.any()
    assert all(p.grad is not None and not p.grad.any() for p in step.network.embed.parameters())


def test_a_batch_without_scribbles_still_trains():
    step = PCLMixStep(MPC.build("nano"), recipe(contrast_after=0.0, mix_label_rule="released").pclmix).train()
    empty = {**batch(), "mask": torch.full((2, 64, 64), 255, dtype=torch.uint8)}
    sums = step(empty)
    assert sums["scribble_main"].item() == 0 and sums["mixed_main"].item() == 0 and sums["labelled"].item() == 0
    assert sums["total"].isfinite() and sums["pseudo_main"].item() > 0


def test_clock_and_queue_are_part_of_the_state():
    torch.manual_seed(0)
    settings = recipe(contrast_after=0.0).pclmix
    step, other = (PCLMixStep(MPC.build("nano"), settings).train() for _ in "ab")
    step(batch())
    other.load_state_dict(step.state_dict())
    assert other.passes == 1 and torch.equal(other.queue.entries, step.queue.entries)


def test_released_preset_with_a_short_queue_is_refused():
    with pytest.raises(InputError, match=r"41 anchors.*raise pclmix\.queue"):
        PCLMixStep(MPC.build("nano"), recipe(preset="released", anchors=41).pclmix)


def test_no_step_sees_a_mask():
    plan = recipe()
    images, _, _ = datasets(plan, "pclmix")
    weak = Scribbled(images, plan.pclmix, plan.seed)
    assert weak.split == "train" and weak.epoch is images.epoch
    for position in range(4):
        dense, item = images[position], weak[position]
        known = item["mask"] != 255
        assert 0 < known.float().mean() < 0.25 and torch.equal(item["mask"][known], dense["mask"][known])
        assert torch.equal(item["image"], dense["image"]) and torch.equal(item["mask"], weak[position]["mask"])


@pytest.mark.slow
def test_the_loop_trains_it(tmp_path):
    path = train(PCLMix, recipe(contrast_after=0.0), tmp_path, False, None, "cpu")
    assert path == tmp_path / "model.safetensors"
    assert set(load_file(path)) == set(MPC.build("nano").state_dict())
    assert MPC.from_pretrained(path)(torch.rand(1, 3, 64, 64)).shape == (1, 1, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["released", "splice", "intra"])
def test_on_a_gpu_a_step_brings_nothing_back_to_the_host(rule, fake_gpu):
    with fake_gpu:
        with torch.device("cuda"):
            step = PCLMixStep(MPC.build("nano"), recipe(contrast_after=0.0, mix_label_rule=rule).pclmix).train()
            image, mask = (torch.zeros(2, *shape, 64, 64, dtype=torch.uint8) for shape in ((3,), ()))
            data = {"image": image, "mask": mask, "turn": torch.zeros(2, dtype=torch.int64)}
        sums = step(data)
        assert all(value.device.type == "cuda" for value in sums.values()) and sums["total"].requires_grad


@pytest.mark.slow
def test_it_learns_from_strokes():
    """Half of each picture is noisier, each picture another half; a few strokes, and the rest is right as well."""
    torch.manual_seed(0)
    left = torch.cat([torch.ones(64, 32), torch.zeros(64, 32)], 1)
    truth = torch.stack([left, left.flip(1), left.T, left.T.flip(0)]).to(torch.uint8)
    noise = torch.randn(4, 3, 64, 64) * (6 + 54 * truth[:, None])
    weak = torch.stack([torch.from_numpy(scribbles(mask.numpy(), k)) for k, mask in enumerate(truth)])
    data = {"image": (128 + noise).clamp(0, 255).byte(), "mask": weak, "turn": torch.zeros(4, dtype=torch.int64)}
    step = PCLMixStep(MPC.build("nano"), recipe(contrast_after=0.1, steps=20).pclmix).train()
    optimizer = torch.optim.AdamW(step.parameters(), lr=5e-3)
    for _ in range(20):
        optimizer.zero_grad()
        (step(data)["total"] / 4).backward()
        optimizer.step()
    with torch.no_grad():
        found = step.eval().network(data["image"].float() / 255).main.argmax(1)
    unlabelled = weak == 255
    assert unlabelled.float().mean() > 0.8 and (found == truth)[unlabelled].float().mean() > 0.8  # chance: 0.5


@pytest.mark.slow
def test_a_run_that_stopped_resumes_with_its_helpers_to_the_same_weights(tmp_path):
    """The auxiliary decoder, the embedding head, the queue and the ramp's clock are in the checkpoint."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    plan = recipe(contrast_after=0.0)
    train(PCLMix, plan, whole, False, None, "cpu")
    broken.mkdir()
    (broken / "stop").touch()
    with pytest.raises(Interrupted, match="step 1 of 3"):
        train(PCLMix, plan, broken, False, None, "cpu")
    train(PCLMix, plan, broken, True, None, "cpu")
    ours, theirs = (load_file(out / "model.safetensors") for out in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    losses = [[x["loss"] for x in read_log(out / "log.jsonl") if "loss" in x] for out in (whole, broken)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
