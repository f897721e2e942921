"""PPPC trains: its step, its data, and a run of the loop that stops, resumes and ends with a network of MPC's."""

import json

import cv2
import numpy as np
import pytest
import torch
import torch.multiprocessing
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from torch import nn

from mpc_lite.data.manifest import Sample
from mpc_lite.data.stream import Forgeries, ManifestImages
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import degrade
from mpc_lite.neighbours.pppc import step as pppc_step
from mpc_lite.neighbours.pppc.gaussians import GaussianPrototypes, Gaussians
from mpc_lite.neighbours.pppc.stage import DomainAdaptation, DomainPairs, shifted
from mpc_lite.neighbours.pppc.step import AdaptationStep, joined, weighted_cross_entropy
from mpc_lite.neighbours.stages import train_neighbour
from mpc_lite.network.hrformer import DropPath
from mpc_lite.network.model import MPC
from mpc_lite.network.weights import read_facts
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import load_recipe
from mpc_lite.recipes.neighbour_keys import PPPCSection, Shift
from mpc_lite.training.loop import Interrupted
from tests.neighbours.two_processes import take_in_share

SIZE = 32


def recipe(**options):
    """Nano, 32 pixels, forgeries; `options` of the section `pppc`."""
    quick = {"data.validation_images": "4", "data.scenes": "[dead_leaves]", "data.authentic_share": "0"}
    quick["data.size"] = str(SIZE)
    plan = {"steps": 4, "batch": 2, "validate_every": 2, "checkpoint_every": 2, "start": 0.5}
    section = PPPCSection(**{**plan, **options})
    return Recipe(**{**load_recipe("quickstart", "smoke", quick).as_dict(), "pppc": section})


def textured_batch(images=4, seed=0):
    """Source: noise, stronger on the left, where it is tampered. Target: more of the kind after a shift."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 80, (2 * images, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    image[..., :12] += torch.randint(0, 170, image[..., :12].shape, dtype=torch.uint8, generator=generator)
    mask = torch.zeros(images, SIZE, SIZE, dtype=torch.uint8)
    mask[..., :12] = 1
    target = torch.stack([shifted(x, 0.9, 80) for x in image[images:]])
    return {"image": image[:images], "mask": mask, "turn": torch.zeros(images, dtype=torch.int64), "target": target}


def step(seed=0, **options):
    torch.manual_seed(seed)
    return AdaptationStep(MPC.build("nano"), PPPCSection(**{"steps": 100, "start": 0, **options})).train()


# ----------------------------------------------------------------------------------------------------------------- step


def test_cross_entropy_is_the_weighted_mean_over_known_pixels():
    logits = torch.randn(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 255]).repeat(8).view(2, 3, 4)
    weights = torch.rand(2, 3, 4, dtype=torch.float64)
    pairs = [(torch.sigmoid(logits[b, 0, y, x]), labels[b, y, x], weights[b, y, x]) for b, y, x in np.ndindex(2, 3, 4)]
    losses = [-w * torch.log(p if y == 1 else 1 - p) for p, y, w in pairs if y != 255]
    found = weighted_cross_entropy(logits, labels, weights)
    assert found.item() == pytest.approx((sum(losses) / len(losses)).item(), rel=1e-9)
    nothing = weighted_cross_entropy(logits, torch.full((2, 3, 4), 255))
    assert nothing.item() == 0 and (torch.autograd.grad(nothing, logits)[0] == 0).all()


def test_features_are_what_the_head_reads():
    model = MPC.build("nano").eval()
    with torch.no_grad():
        maps = model.encode(torch.rand(1, 3, 72, 64))
        assert torch.equal(model.decoder(joined(maps)), model.localize(maps))


@pytest.mark.slow
def test_a_tiny_recipe_overfits_and_the_default_contrast_learns():
    network, batch = step(sharpness=0, confidence=0.6), textured_batch()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 3e-3)
    history = []
    for _ in range(20):
        sums = network(batch)
        assert sums["total"].item() == pytest.approx(sum(v.item() for k, v in sums.items() if k != "total"), rel=1e-6)
        sums["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append({name: value.item() / 4 for name, value in sums.items()})
    assert history[-1]["source"] < 0.4 * history[0]["source"]
    assert history[-1]["source_contrast"] < 0.5 * history[0]["source_contrast"]
    assert history[0]["source_contrast"] == pytest.approx(np.log(2), abs=0.2)  # two classes, nothing known yet
    assert max(h["target_contrast"] for h in history) > 0  # the teacher became sure of something


@pytest.mark.slow
def test_the_released_constants_do_not_move_the_contrast():
    network, batch = step(preset="released", sharpness=0), textured_batch()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 3e-3)
    values = []
    for _ in range(10):
        sums = network(batch)
        sums["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(sums["source_contrast"].item() / 4)
    # 1e-6 · ½(μ² + eˢ − s − 1) summed over 4·8·8 pixels and 64 channels is the rest
    bottleneck = 1e-6 * 4 * 64 * 64 * 0.5
    assert all(abs(v - np.log(2)) < 1e-3 + bottleneck for v in values)


@pytest.mark.slow
def test_contrast_waits_for_its_start_and_ends_with_the_last_step():
    network, batch = step(steps=4, start=0.5), textured_batch()
    with torch.no_grad():
        values = [network(batch)["source_contrast"].item() for _ in range(4)]
    assert values[:2] == [0, 0] and values[2] > 0 and values[3] == 0


def test_a_step_reads_the_iteration_once_for_all_its_micro_batches():
    network, batch = step(steps=4, start=0.5, accumulate=2), textured_batch()
    with torch.no_grad():
        assert [network(batch)["source_contrast"].item() > 0 for _ in range(6)] == [False] * 4 + [True] * 2


def test_teacher_averages_the_student_without_its_noise():
    network, batch = step(), textured_batch()
    teacher = network.guidance.teacher
    assert not any(m.training for m in teacher.modules() if isinstance(m, DropPath))
    assert all(m.training for m in teacher.modules() if isinstance(m, nn.BatchNorm2d))
    assert any(m.training for m in network.model.modules() if isinstance(m, DropPath))
    assert not any(p.requires_grad for p in teacher.parameters())
    network(batch)["total"].backward()
    with torch.no_grad():  # the teacher, not the student with its noise, embeds the source for the prototypes
        pixels = teacher[1](joined(teacher[0].encode(batch["image"].float() / 255)))
    expected = GaussianPrototypes(2, 64)
    expected.update(pixels, batch["mask"][:, ::4, ::4])
    for ours, theirs in zip(network.guidance.prototypes.gaussians(), expected.gaussians(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    before = [p.clone() for p in teacher.parameters()]
    student = [*network.model.parameters(), *network.guidance.heads.parameters()]
    with torch.no_grad():
        for p in student:
            p += 1
    network(batch)  # t = 1: α = ½
    for old, new, p in zip(before, teacher.parameters(), student, strict=True):
        assert torch.allclose(new, (old + p) / 2, atol=1e-6)


def test_of_a_target_of_which_the_teacher_is_nowhere_sure_nothing_is_learnt():
    batch = textured_batch()
    with torch.no_grad():
        unsure, sure = (step(confidence=c)(batch)["target_contrast"].item() for c in (0.999999, 0.5))
    assert unsure == 0 < sure


def test_with_everything_ignored_a_step_learns_nothing_from_the_source():
    network, batch = step(), textured_batch()
    batch["mask"] = torch.full_like(batch["mask"], 255)
    sums = network(batch)
    assert sums["source"] == 0 and sums["source_contrast"] == 0 and not network.guidance.prototypes.valid.any()
    sums["total"].backward()
    assert sums["total"].isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_batch_of_authentic_images_mixes_nothing_in(monkeypatch):
    seen = []
    mix = pppc_step.class_mix
    monkeypatch.setattr(pppc_step, "class_mix", lambda *a: seen.append((a, mix(*a))) or seen[-1][1])
    network, batch = step(), textured_batch()
    batch["mask"] = torch.zeros_like(batch["mask"])
    sums = network(batch)
    [((source, *_), (mixed, labels, _))] = seen
    assert torch.equal(mixed, source) and not labels.any() and sums["total"].isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["released", "intra"])
def test_only_the_rule_intra_mixes_one_scene_with_itself(rule, monkeypatch):
    seen = []
    mix = pppc_step.class_mix
    monkeypatch.setattr(pppc_step, "class_mix", lambda *a: seen.append(a) or mix(*a))
    images = Forgeries(recipe(), "train")
    data = DomainPairs(images, Shift(ratio=[1.0, 1.0], quality=[98, 98]), 0, twins=rule == "intra")
    batch = torch.utils.data.default_collate([data[i] for i in range(4)])
    batch["turn"] = torch.arange(1, 5)
    step(mix_label_rule=rule)(batch)
    source, target = seen[0][0], seen[0][2]
    same = F.cosine_similarity((source - source.mean()).flatten(1), (target - target.mean()).flatten(1))
    assert (same > 0.9).all() if rule == "intra" else (same < 0.8).all()


@pytest.mark.slow
def test_on_a_gpu_nothing_comes_back_to_the_host(fake_gpu):
    with fake_gpu, torch.device("cuda"):
        network = step()
        batch = {
            "image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8),
            "mask": torch.zeros(2, SIZE, SIZE, dtype=torch.uint8),
            "turn": torch.zeros(2, dtype=torch.int64),
            "target": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8),
        }
        assert all(v.device.type == "cuda" and v.shape == () for v in network(batch).values())


@pytest.mark.slow
def test_two_processes_gather_the_prototypes_of_all_their_pixels(tmp_path):
    pixels, labels = (torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)), torch.randint(0, 2, (2, 4, 4))
    torch.save([(tuple(x[i : i + 1] for x in pixels), labels[i : i + 1]) for i in (0, 1)], tmp_path / "batches.pt")
    torch.multiprocessing.spawn(take_in_share, (str(tmp_path),), nprocs=2)
    whole = GaussianPrototypes(2, 3)
    whole.update(Gaussians(*pixels), labels)
    for i in (0, 1):
        for name, value in torch.load(tmp_path / f"{i}.pt").items():
            assert torch.allclose(value, whole.state_dict()[name], rtol=1e-5)


# ----------------------------------------------------------------------------------------------------------------- data


def test_a_shift_makes_smaller_saves_and_brings_back_and_leaves_the_image_alone():
    image = textured_batch(1)["image"][0]
    before = image.clone()
    found = shifted(image, 0.5, 60)
    small = degrade(image.permute(1, 2, 0).numpy(), [("resize_ratio", 0.5), ("jpeg_quality", 60)])
    assert small.shape == (16, 16, 3)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), cv2.resize(small, (SIZE, SIZE)))
    assert torch.equal(image, before) and found.dtype == torch.uint8


def test_target_images_are_others_than_the_sources_and_bring_no_mask():
    images = Forgeries(recipe(), "train")
    data = DomainPairs(images, Shift(), seed=0)
    item = data[3]
    assert set(item) == {"image", "mask", "turn", "target"}
    assert torch.equal(item["image"], images[6]["image"]) and torch.equal(item["mask"], images[6]["mask"])
    again = DomainPairs(images, Shift(), seed=0)[3]
    assert all(torch.equal(item[k], again[k]) for k in item)
    other = images[7]["image"]
    assert F.l1_loss(item["target"].float(), other.float()) < F.l1_loss(item["target"].float(), item["image"].float())
    assert not torch.equal(item["target"], other)
    assert not torch.equal(item["target"], DomainPairs(images, Shift(), seed=1)[3]["target"])


def test_twins_are_the_source_images_themselves_shifted():
    images = Forgeries(recipe(), "train")
    item = DomainPairs(images, Shift(ratio=[0.7, 0.7], quality=[60, 60]), seed=0, twins=True)[3]
    assert torch.equal(item["image"], images[3]["image"])
    assert torch.equal(item["target"], shifted(images[3]["image"], 0.7, 60))


def rows(folder, number):
    samples = []
    for i in range(number):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((SIZE, SIZE, 3), 20 * i, np.uint8)).save(path)
        samples.append(Sample(path, None, 0, "flat"))
    return samples


def test_a_row_is_source_or_target_in_all_epochs_however_often_it_occurs(tmp_path):
    entries = np.array([0, 0, 1, 2, 3, 3, 4])
    images = ManifestImages(recipe(), "train", rows(tmp_path, 5), entries)
    data = DomainPairs(images, Shift(ratio=[1.0, 1.0], quality=[100, 100]), seed=0)
    seen = [data[p] for p in range(3 * data.epoch)]
    levels = [{round(item[name].float().mean().item() / 20) for item in seen} for name in ("image", "target")]
    assert levels == [{0, 2, 4}, {1, 3}] and data.epoch == 4
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert any(isinstance(x, str) and "1.png" in x for x in (data[p] for p in range(data.epoch)))
    with pytest.raises(InputError, match="one training row"):
        DomainPairs(ManifestImages(recipe(), "train", rows(tmp_path, 1)), Shift(), seed=0)


def test_options_that_make_no_sense_are_refused():
    for wrong in ({"shift": {"ratio": [0.9, 0.5]}}, {"mix_label_rule": "paste"}, {"crop": 0}, {"temperature": 0.0}):
        with pytest.raises(ValidationError):
            PPPCSection(**wrong)


# ---------------------------------------------------------------------------------------------------------------- stage


def lines(out):
    return [json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_that_stopped_resumes_with_its_teacher_to_the_same_weights(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    path = train_neighbour(recipe(), whole, device="cpu")
    steps = [x for x in lines(whole) if "loss" in x]
    assert [x["step"] for x in steps] == [1, 2, 3, 4]
    assert steps[0]["source_contrast"] == 0 and steps[2]["source_contrast"] > 0
    scores = next(x["validation"] for x in lines(whole) if "validation" in x)
    assert scores["score"] == pytest.approx((scores["f1"] + scores["iou"]) / 2, abs=1e-5)  # of the source
    assert {"target_f1", "target_iou", "target_score"} <= set(scores)
    assert MPC.from_pretrained(path).size == "nano" and read_facts(path)["stage"] == "pppc"

    broken.mkdir()
    (broken / "stop").touch()
    with pytest.raises(Interrupted, match="step 1 of 4"):
        train_neighbour(recipe(), broken, device="cpu")
    state = torch.load(broken / "pppc.state", weights_only=True)["companion"]
    assert any(k.startswith("teacher.") for k in state) and state["prototypes.count"].any()
    assert state["_extra_state"] == {"micro_batches": 1}
    train_neighbour(recipe(), broken, resume=True, device="cpu")
    ours, theirs = (MPC.from_pretrained(x / "model.safetensors").state_dict() for x in (broken, whole))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    losses = [[x["loss"] for x in lines(out) if "loss" in x] for out in (whole, broken)]
    assert losses[0] == losses[1]


def test_target_masks_do_not_choose_the_weights(monkeypatch):
    plan = recipe()
    stage = DomainAdaptation(MPC.build("nano"), plan)
    batch = textured_batch(2)
    batches = [{"image": batch["image"], "mask": list(batch["mask"])}]
    seen = []
    shift = shifted
    monkeypatch.setattr("mpc_lite.neighbours.pppc.stage.shifted", lambda *a: seen.append(a[1:]) or shift(*a))
    scores = stage.validate(stage.model, iter(batches))
    plain = super(DomainAdaptation, stage).validate(stage.model, batches)
    assert {k: scores[k] for k in plain} == plain and {f"target_{k}" for k in plain} <= set(scores)
    assert seen == [(0.7, 65)] * 2
    assert stage.count(batch) == 2
