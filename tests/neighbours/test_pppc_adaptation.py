"""PPPC's self-training: the released numbers, loop oracles, what the rules of mixing say, bad input."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mpc_lite.errors import InputError
from mpc_lite.neighbours.pppc.adaptation import (
    MIX_LABEL_RULES,
    ambiguity_weights,
    class_mix,
    contrast_scale,
    crop,
    draw_classes,
    draw_corners,
    ema_update,
    most_ambiguous,
    pseudo_labels,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "pppc_loss.npz"


@pytest.fixture(scope="module")
def golden():
    return {k: torch.from_numpy(v) for k, v in np.load(GOLDEN).items()}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------- teacher, schedule


def test_schedule_equals_the_released_code(golden):
    steps = golden["scale_iter"].tolist()
    for name, sharpness in (("scale_gta", 1.0), ("scale_dark", 10.0)):
        found = [contrast_scale(t, sharpness=sharpness) for t in steps]
        assert found == pytest.approx(golden[name].tolist(), rel=1e-9)
        assert found[-2:] == [0, 0]
    assert contrast_scale(49, 100) == math.exp(-0.25)


def test_teacher_averages_as_the_released_code_and_leaves_statistics_alone(golden):
    def network():
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False))

    teacher, student = network(), network()
    for model in (teacher, student):
        model[0].weight.data = golden["ema_student0"][:6].view(2, 3).clone()
        model[0].bias.data = golden["ema_student0"][6:].clone()
    student[1].running_mean.fill_(7)
    for t in range(1, 6):
        for p in student.parameters():
            p.data += t
        ema_update(teacher, student, t)
        found = torch.cat([p.detach().flatten() for p in teacher.parameters()])
        assert torch.allclose(found, golden["ema_teacher_after_t1_to_t5"][t - 1], rtol=1e-6)
    assert golden["ema_teacher_running_mean_unchanged"].all() and (teacher[1].running_mean == 0).all()
    ema_update(teacher, student, 0)
    assert torch.equal(teacher[0].weight, student[0].weight)
    before = student[0].weight.clone()
    student[0].weight.data += 1
    ema_update(teacher, student, 10**6)
    assert torch.allclose(teacher[0].weight, before + 0.001, rtol=1e-5)  # α ends at 0.999


# --------------------------------------------------------------------------------------------------------------- target


def test_pseudo_labels_are_the_likelier_class_and_q_the_share_that_is_sure():
    sure = math.log(0.968 / 0.032)
    logits = torch.tensor([[[[sure + 0.01, -sure - 0.01], [sure - 0.01, 0.1]]], [[[0.3, -0.3], [-0.1, 0.1]]]])
    labels, quality = pseudo_labels(logits, (2, 2))
    assert labels.tolist() == [[[1, 0], [1, 1]], [[1, 0], [0, 1]]] and labels.dtype == torch.uint8
    assert quality.tolist() == [0.5, 0]
    labels, quality = pseudo_labels(logits.bfloat16(), (8, 6), confidence=0.5)
    assert labels.shape == (2, 8, 6) and quality.tolist() == [1, 1] and quality.dtype == torch.float32


KEEP = {"gta19": {}, "synthia19": {"keep": 13, "without": (9, 14, 16)}, "two": {}}


@pytest.mark.parametrize("tag", KEEP)
def test_crop_is_the_one_that_the_released_code_chooses(golden, tag):
    boxes = golden[f"crop_{tag}_candidates"]  # y1, y2, x1, x2
    weights = ambiguity_weights(golden[f"crop_{tag}_proto_var_mean"], **KEEP[tag])
    corner = most_ambiguous(golden[f"crop_{tag}_seg"][None], weights, boxes[None, :, [0, 2]], 20)[0]
    assert corner.tolist() == golden[f"crop_{tag}_chosen"][[0, 2]].tolist()


def test_ambiguity_weights_are_a_softmax_cut_off_and_not_made_up_for():
    s = torch.tensor([[0.50, 0.54], [0.51, 0.51], [0.49, 0.51], [0.5, 0.5]], dtype=torch.float64)
    full = torch.softmax(s.mean(1) / 0.01, 0)
    assert torch.equal(ambiguity_weights(s), full)
    assert ambiguity_weights(s, keep=2).tolist() == [full[0].item(), full[1].item(), 0, 0]
    # Cut off first, then left out: no other class takes the place.
    assert ambiguity_weights(s, keep=2, without=(0,)).tolist() == [0, full[1].item(), 0, 0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), side=st.integers(1, 9), classes=st.integers(2, 4))
def test_most_ambiguous_crop_equals_the_loop(seed, side, classes):
    generator = seeded(seed)
    labels = torch.randint(0, classes, (3, 9, 12), generator=generator)
    weights = torch.rand(classes, generator=generator)
    corners = draw_corners(labels, side, 6, generator)
    found = most_ambiguous(labels, weights, corners, side)
    assert corners.min() >= 0 and (corners[..., 0] + side <= 9).all() and (corners[..., 1] + side <= 12).all()
    for b in range(3):
        counts = []
        for y, x in corners[b].tolist():
            piece = labels[b, y : y + side, x : x + side]
            counts.append([int((piece == k).sum()) for k in range(classes)])
        scores = [sum(w * n for w, n in zip(weights.double().tolist(), c, strict=True)) for c in counts]
        best = scores[corners[b].tolist().index(found[b].tolist())]
        assert best == pytest.approx(max(scores), rel=1e-6)
        cut = crop(labels, found, side)[b]
        y, x = found[b].tolist()
        assert torch.equal(cut, labels[b, y : y + side, x : x + side])


def test_of_equally_ambiguous_crops_the_first_is_taken():
    corners = torch.tensor([[[2, 2], [0, 0], [1, 2]]])
    assert most_ambiguous(torch.zeros(1, 6, 6), torch.tensor([0.3, 0.7]), corners, 3).tolist() == [[2, 2]]


@pytest.mark.parametrize("more_tampered", [True, False])
def test_with_two_classes_the_crop_has_most_or_fewest_tampered_pixels(more_tampered):
    """Score = w₀·area + (w₁ − w₀)·n₁."""
    labels = (torch.rand(4, 20, 20, generator=seeded(1)) > 0.6).long()
    s = torch.tensor([0.5, 0.503 if more_tampered else 0.497])
    corners = draw_corners(labels, 8, 10, seeded(2))
    chosen = crop(labels, most_ambiguous(labels, ambiguity_weights(s), corners, 8), 8).sum((1, 2))
    every = torch.stack([crop(labels, corners[:, i], 8).sum((1, 2)) for i in range(10)])
    assert torch.equal(chosen, every.amax(0) if more_tampered else every.amin(0))


def test_crop_cuts_pictures_of_any_number_of_channels():
    pictures = torch.arange(2 * 3 * 6 * 7).view(2, 3, 6, 7)
    corners = torch.tensor([[1, 4], [3, 0]])
    found = crop(pictures, corners, 3)
    assert torch.equal(found[0], pictures[0, :, 1:4, 4:7]) and torch.equal(found[1], pictures[1, :, 3:6, 0:3])


# ------------------------------------------------------------------------------------------------------------- ClassMix


def test_class_mix_equals_the_released_code(golden):
    labels = golden["mix_src_label"][:, 0]
    values = labels.unique().tolist()
    assert values == [0, 1, 2, 3, 255]
    draws = np.random.RandomState(11)
    chosen = torch.zeros(2, 5, dtype=torch.bool)
    for row in chosen:
        row[draws.choice(5, 3, replace=False)] = True
    images, mixed, weights = class_mix(
        golden["mix_src"], labels, golden["mix_tgt"], golden["mix_tgt_label"], 0.37, chosen
    )
    mask = golden["mix_mask"][:, 0]
    assert torch.equal(images, golden["mix_out"]) and torch.equal(mixed, golden["mix_out_label"][:, 0])
    assert torch.equal(weights, golden["mix_out_weight"][:, 0]) and torch.equal(weights == 1, mask == 1)


def test_half_of_the_batchs_classes_are_drawn_for_each_image():
    labels = torch.zeros(4000, 2, 2)
    labels[0] = torch.tensor([[1.0, 1], [0, 255]])
    for classes, part in ((3, labels), (2, labels.clamp(max=1))):
        chosen = draw_classes(part, generator=seeded(0))
        assert (chosen.sum(1) == 2 if classes == 3 else chosen.sum(1) == 1).all()  # ⌈3/2⌉, ⌈2/2⌉
        share = chosen.float().mean(0)[:classes]
        assert torch.allclose(share, torch.full((classes,), math.ceil(classes / 2) / classes), atol=0.03)
        assert classes == 3 or not chosen[:, 2].any()  # nothing is ignored there
    assert draw_classes(torch.zeros(3, 2, 2)).tolist() == [[True, False, False]] * 3


def test_batch_of_one_class_gives_back_the_source(golden):
    assert (golden["mix_single_class_mask"] == 1).all()
    source, target, labels = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
    for rule in MIX_LABEL_RULES:
        mixed = class_mix(source, labels, target, 1 - labels, torch.tensor([0.1, 0]), draw_classes(labels), rule)
        assert torch.equal(mixed[0], source) and torch.equal(mixed[1], labels) and (mixed[2] == 1).all()


def mix_oracle(source, source_labels, target, target_labels, quality, chosen, rule):
    """Pixel by pixel, an image at a time; `chosen`: for each image the labels to paste."""
    image, labels, weights = target.copy(), target_labels.copy(), np.ones(target_labels.shape, np.float32)
    for b in range(len(image)):
        left = [p for p in np.ndindex(*labels.shape[1:]) if source_labels[(b, *p)] not in chosen[b]]
        for y, x in np.ndindex(*labels.shape[1:]):
            if source_labels[b, y, x] in chosen[b]:
                image[b, :, y, x] = source[b, :, y, x]
                labels[b, y, x] = 1 if rule == "splice" and left else source_labels[b, y, x]
            else:
                weights[b, y, x] = quality[b]
    return image, labels, weights


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rule=st.sampled_from(MIX_LABEL_RULES))
def test_class_mix_equals_the_loop_and_changes_no_input(seed, rule):
    generator = seeded(seed)
    source, target = (torch.rand(3, 3, 4, 5, generator=generator) for _ in "ab")
    labels, pseudo = (torch.randint(0, 3, (3, 4, 5), generator=generator).to(torch.uint8) for _ in "ab")
    labels = torch.where(labels == 2, 255, labels)
    labels[2] = 0  # all of one class
    pseudo, quality = pseudo % 2, torch.rand(3, generator=generator)
    chosen = draw_classes(labels, generator=generator)
    given_ = (source, labels, target, pseudo, quality)
    before = [x.clone() for x in given_]
    found = class_mix(*given_, chosen, rule)
    named = [[v for v, c in zip((0, 1, 255), row, strict=True) if c] for row in chosen.tolist()]
    for ours, theirs in zip(found, mix_oracle(*(x.numpy() for x in given_), named, rule), strict=True):
        assert np.array_equal(ours.numpy(), theirs)
    assert all(torch.equal(a, b) for a, b in zip(before, given_, strict=True))


def test_rules_differ_where_an_authentic_piece_lands_in_another_image():
    labels = torch.tensor([[[0, 1], [0, 1]]], dtype=torch.uint8)
    images, pseudo, chosen = torch.rand(1, 3, 2, 2), torch.zeros_like(labels), torch.tensor([[True, False, False]])
    found = {rule: class_mix(images, labels, images, pseudo, 0.5, chosen, rule)[1].tolist() for rule in MIX_LABEL_RULES}
    assert found == {"released": [[[0, 0], [0, 0]]], "intra": [[[0, 0], [0, 0]]], "splice": [[[1, 0], [1, 0]]]}


# ------------------------------------------------------------------------------------------------ devices and bad input


def test_on_a_gpu_nothing_comes_back_to_the_host(fake_gpu):
    with fake_gpu, torch.device("cuda"):
        images, labels = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.uint8)
        pseudo, quality = pseudo_labels(torch.randn(2, 1, 8, 8), (32, 32))
        corners = most_ambiguous(pseudo, ambiguity_weights(torch.rand(2, 8)), draw_corners(images, 24), 24)
        source, target, given_, guessed = (crop(x, corners, 24) for x in (images, images, labels, pseudo))
        for rule in MIX_LABEL_RULES:
            mixed = class_mix(source, given_, target, guessed, quality, draw_classes(given_), rule)
            assert [x.shape[1:] for x in mixed] == [(3, 24, 24), (24, 24), (24, 24)]
            assert all(x.device.type == "cuda" for x in mixed)


def test_bad_input_is_named():
    images, labels = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4)
    chosen = draw_classes(labels)
    with pytest.raises(InputError, match="expected one of released, splice, intra"):
        class_mix(images, labels, images, labels, 1.0, chosen, "paste")
    with pytest.raises(InputError, match=r"expected \(B,C,H,W\) twice"):
        class_mix(images, labels, images[..., :3], labels, 1.0, chosen)
    with pytest.raises(InputError, match=r"expected \(B,C,H,W\) twice"):
        class_mix(images, labels[:, :3], images, labels, 1.0, chosen)
    with pytest.raises(InputError, match="a crop of 5 pixels"):
        draw_corners(images, 5)
    with pytest.raises(InputError, match="a crop of 0 pixels"):
        draw_corners(images, 0)
