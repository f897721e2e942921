"""PCLMix against the released code's numbers (tests/golden/pclmix_*.npz), and what our own choices promise."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mpc_lite.errors import InputError
from mpc_lite.neighbours.pclmix import mixing as pclmix_mixing
from mpc_lite.neighbours.pclmix import queue as pclmix_queue
from mpc_lite.neighbours.pclmix.anchors import LITE_QUOTA, RELEASED_QUOTA, Quota, draw_anchors, embeddings_at
from mpc_lite.neighbours.pclmix.losses import (
    RELEASED_CONSISTENCY_EPOCHS,
    RELEASED_CONTRAST_AFTER,
    Weights,
    certainty_labels,
    certainty_threshold,
    consistency,
    contrast_ramp,
    mean_entropy,
    partial_cross_entropy,
    pclmix_terms,
    ramp,
    total,
)
from mpc_lite.neighbours.pclmix.mixing import MixDraw, box_masks, cutmix_boxes, draw_mix, mix
from mpc_lite.neighbours.pclmix.queue import ClassQueue, queue_contrast

GOLDEN = Path(__file__).parents[1] / "golden"
CONTRAST, STEP = (np.load(GOLDEN / f"pclmix_{name}.npz") for name in ("contrast", "step"))
VALUE, GRADIENT = 1e-5, 1e-5  # relative; float64 is compared to 1e-9, or to 1e-8 where inputs are made anew


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def recipe_array(name, *shape):
    """The arrays that the golden files do not hold but name."""
    return torch.from_numpy(rng(name).standard_normal(shape).astype(np.float32))


def unit(x, dim=-1):
    return F.normalize(x, dim=dim)


def tensor(array, dtype=torch.float32):
    return torch.from_numpy(np.asarray(array)).to(dtype)


def distance(found, expected):
    found, expected = found.detach().double(), tensor(expected, torch.float64)
    return ((found - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def released_loss(anchors, labels, queue, tau, implementation):
    return queue_contrast(anchors, labels, queue, None, tau, "released", implementation=implementation)


# ------------------------------------------------------------------------------------------------ contrast: golden


@pytest.mark.parametrize("implementation", ["fused", "dense"])
@pytest.mark.parametrize("case", ["mixed4", "background_only", "two_classes", "tau_half", "released_size"])
def test_contrast_of_given_anchors(case, implementation):
    if case == "released_size":
        x, queue = (
            unit(recipe_array(f"pclmix.con.{case}.{n}", *s)) for n, s in (("X", (6, 100, 256)), ("Q", (4, 500, 256)))
        )
    else:
        x, queue = tensor(CONTRAST[f"{case}_X"]), tensor(CONTRAST[f"{case}_Q"])
    views = x.shape[1]
    labels = tensor(CONTRAST[f"{case}_y"], torch.int64).repeat(views)  # view-major
    tau = float(CONTRAST[f"{case}_tau"])
    exact = 1e-8 if case == "released_size" else 1e-9
    for dtype, bound, suffix in ((torch.float32, VALUE, ""), (torch.float64, exact, "_f64")):
        a, q = (t.to(dtype, copy=True).requires_grad_() for t in (x, queue))
        loss = released_loss(a.transpose(0, 1).flatten(0, 1), labels, q, tau, implementation)
        if case != "released_size":  # under that name the file holds the loss of the case with sampling, tested below
            assert loss.item() == pytest.approx(float(CONTRAST[f"{case}_loss{suffix}"]), rel=bound)
        loss.backward()
        for name, grad in (("X", a.grad), ("Q", q.grad)):
            if case == "released_size":
                assert grad.double().norm().item() == pytest.approx(
                    float(CONTRAST[f"{case}_grad_{name}_norm{suffix}"]), rel=bound
                )
                assert distance(grad[..., ::7, ::16], CONTRAST[f"{case}_grad_{name}_sub"]) < GRADIENT
            else:
                assert distance(grad, CONTRAST[f"{case}_grad_{name}"]) < GRADIENT
        assert not q.grad[0].any()  # class 0 is never read


def test_contrast_closed_form_and_its_base_temperature():
    x, queue = tensor(CONTRAST["closed_X"])[0], tensor(CONTRAST["closed_Q"])
    labels = tensor(CONTRAST["closed_y"], torch.int64).repeat(4)
    assert pclmix_queue.RELEASED_BASE_TEMPERATURE == 0.07
    seen = 0
    for tau, base, _, loss64 in CONTRAST["closed_tau_base_loss32_loss64"]:
        formula = tau / base * math.log(1 + 5 * math.exp(-2 / tau) + 5 * math.exp(-1 / tau)) * 4 / (4 + 1e-5)
        assert loss64 == pytest.approx(formula, rel=1e-6)
        if base == 0.07:
            loss = released_loss(x.double(), labels, queue.double(), tau, "fused").item()
            assert loss == pytest.approx(loss64, rel=1e-9)
            seen += 1
    assert seen


@pytest.mark.parametrize("case", ["small2", "few_hard2", "released_size"])
def test_contrast_with_sampling(case):
    max_samples, max_views = map(int, CONTRAST[f"{case}_max_samples_views"])
    if case == "released_size":
        e = unit(recipe_array("pclmix.full.released_size.E", 2, 256, 28, 28), 1)
        queue = unit(recipe_array("pclmix.full.released_size.Q", 4, 500, 256))
    else:
        e, queue = tensor(CONTRAST[f"{case}_E"]), tensor(CONTRAST[f"{case}_Q"])
    side, classes = e.shape[2], len(queue)
    labels, pred = (
        F.interpolate(tensor(CONTRAST[f"{case}_{n}"]), size=(side, side), mode="nearest")[:, 0].long()
        for n in ("label", "pred")
    )
    anchors = draw_anchors(labels, pred, classes, Quota(max_samples, max_views, max_views + 1))
    stored, label = CONTRAST[f"{case}_anchor_flat_index"], CONTRAST[f"{case}_anchor_class"]
    sets, views = stored.shape
    assert torch.equal(anchors.number, torch.arange(sets * views))
    drawn = anchors.index.view(views, sets).T
    assert torch.equal(anchors.label, tensor(label, torch.int64).repeat(views))
    flat, wrong = labels.flatten(), (pred != labels).flatten()
    for k in range(sets):
        assert len(set(drawn[k].tolist())) == views  # without replacement
        assert (flat[drawn[k]] == int(label[k])).all()
        assert torch.equal(drawn[k] // side**2, tensor(stored[k] // side**2, torch.int64))
        assert int(wrong[drawn[k]].sum()) == int(CONTRAST[f"{case}_hard_per_anchor_set"][k])
    # The release's own draw, to compare the loss.
    index = tensor(stored.T.reshape(-1), torch.int64)
    assert torch.equal(
        wrong[index].view(views, sets).sum(0), tensor(CONTRAST[f"{case}_hard_per_anchor_set"], torch.int64)
    )
    exact = 1e-8 if case == "released_size" else 1e-9
    for dtype, bound, suffix in ((torch.float32, VALUE, ""), (torch.float64, exact, "_f64")):
        maps = e.to(dtype, copy=True).requires_grad_()
        loss = released_loss(embeddings_at(maps, index), anchors.label, queue.to(dtype), 0.07, "fused")
        loss.backward()
        assert loss.item() == pytest.approx(float(CONTRAST[f"{case}_loss{suffix}"]), rel=bound)
        assert maps.grad.double().norm().item() == pytest.approx(
            float(CONTRAST[f"{case}_grad_E_norm{suffix}"]), rel=bound
        )
        if case == "released_size":
            assert distance(maps.grad[:, ::16, ::3, ::3], CONTRAST[f"{case}_grad_E_sub"]) < GRADIENT
        else:
            assert distance(maps.grad, CONTRAST[f"{case}_grad_E"]) < GRADIENT


# ----------------------------------------------------------------------------------------------- whole step: golden


def test_ramps_and_threshold():
    for t, theta, con in zip(STEP["ramp_iter"], STEP["theta_ln2"], STEP["con_ramp"], strict=True):
        assert certainty_threshold(t / 60000) == pytest.approx(theta, rel=1e-12)
        assert contrast_ramp(t / 60000) == pytest.approx(con, rel=1e-12)
    for epoch, value in zip(STEP["het_epoch"], STEP["het_ramp"], strict=True):
        assert ramp(epoch / RELEASED_CONSISTENCY_EPOCHS) == pytest.approx(value, rel=1e-12)


def test_cutmix_rectangles():
    boxes = cutmix_boxes(tensor(STEP["cutmix_uniforms"], torch.float64), (64, 48))
    assert torch.equal(boxes, tensor(STEP["cutmix_rect_y0x0y1x1"], torch.int64))
    share = box_masks(boxes, (64, 48)).double().mean((1, 2))
    assert torch.allclose(share, tensor(STEP["cutmix_area_fraction"], torch.float64))


def released4():
    """Inputs of the case of released size, from their recipe."""
    n = "pclmix.step.released4."
    shared, inputs = rng(n + "shared").standard_normal((2, 4, 4, 4)), {}
    for v in ("seg", "seg_tf"):
        coarse = 3 * shared + rng(n + v + ".blk").standard_normal((2, 4, 4, 4))
        fine = np.kron(coarse, np.ones((56, 56))) + 0.3 * rng(n + v).standard_normal((2, 4, 224, 224))
        inputs[v] = tensor(fine.astype(np.float32))
    for v in ("mixc", "mixt"):
        inputs[v] = 2 * recipe_array(n + v, 2, 4, 224, 224)
    inputs["embed"] = unit(recipe_array(n + "E", 2, 256, 28, 28), 1)
    inputs["queue"] = unit(recipe_array(n + "Q", 4, 500, 256))
    r, scribble = rng(n + "scr"), np.full((2, 1, 224, 224), 4, np.uint8)
    scribble[r.random(scribble.shape) < 0.05] = 0
    chosen = r.random(scribble.shape) < 0.05
    scribble[chosen] = r.integers(0, 4, size=int(chosen.sum()))
    inputs["scribble"] = scribble
    inputs["cutmask"] = box_masks(tensor(STEP["released4_cutmask_rect_y0x0y1x1"], torch.int64), (224, 224))
    inputs["image"] = torch.zeros(2, 1, 224, 224)
    return inputs


def step_inputs(case, dtype):
    family = case.split("_")[0]
    names = ("seg", "seg_tf", "mixc", "mixt", "embed", "queue", "image", "scribble", "cutmask")
    inputs = released4() if case == "released4" else {n: STEP[f"{family}_{n}"] for n in names}
    scribble, mask = (
        torch.as_tensor(inputs.pop(n)).view(len(inputs["seg"]), *inputs["seg"].shape[2:]) for n in names[-2:]
    )
    return (
        {k: torch.as_tensor(v).to(dtype) for k, v in inputs.items()},
        scribble.masked_fill(scribble == 4, 255),
        mask.bool(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", ["two_a", "two_b", "two_warm", "four", "released4"])
def test_a_whole_step(case, dtype):
    stored = {k[len(case) + 1 :]: STEP[k] for k in STEP.files if k.startswith(case + "_")}
    values, scribble, cutmask = step_inputs(case, dtype)
    iteration, epoch, weight_t, weight_c = stored["iter_epoch_lt_lc"]
    leaves = {k: values[k].requires_grad_() for k in ("seg", "seg_tf", "mixc", "mixt", "embed")}
    main, auxiliary, second_main, second_auxiliary, embed = leaves.values()
    sub = {"": (...,)} if case != "released4" else {"_sub": (..., slice(None, None, 23), slice(None, None, 19))}
    suffix, cut = next(iter(sub.items()))

    # certainty
    progress = float(iteration) / RELEASED_CONTRAST_AFTER[1]
    threshold = certainty_threshold(progress)
    assert threshold == pytest.approx(float(stored["threshold"]), rel=1e-12)
    assert distance(mean_entropy(main, auxiliary)[:, None][cut], stored[f"uncertainty{suffix}"]) < VALUE
    certain = certainty_labels(main, auxiliary, scribble, threshold)
    signed = certain.long().masked_fill(certain == 255, -1)
    if case == "released4":
        assert torch.equal(
            torch.bincount(signed.flatten() + 1, minlength=6), tensor(stored["certainty_hist"], torch.int64)
        )
        assert torch.equal(signed[:, ::8, ::8], tensor(stored["certainty"], torch.int64)[:, 0])
    elif case != "two_warm":
        assert torch.equal(signed[:, None], tensor(stored["certainty"], torch.int64))

    # contrast and memory
    queue = ClassQueue(*values["queue"].shape, "released").to(dtype)
    queue.entries.copy_(values["queue"])
    queue.pointer.fill_(values["queue"].shape[1] - 1)
    contrast = embed.sum() * 0
    if iteration > RELEASED_CONTRAST_AFTER[0]:
        label = tensor(stored["anchor_class"], torch.int64).repeat(stored["anchor_flat_index"].shape[1])
        index = tensor(stored["anchor_flat_index"].T.reshape(-1), torch.int64)
        contrast = released_loss(embeddings_at(embed, index), label, queue.entries, 0.07, "fused")
        ratio = main.shape[2] // embed.shape[2]
        grid = certain[:, ::ratio, ::ratio]
        quota = {
            "two_a": Quota(40, 6, 7),
            "two_b": Quota(40, 6, 7),
            "four": Quota(60, 6, 7),
            "released4": RELEASED_QUOTA,
        }
        drawn = draw_anchors(grid, main.argmax(1)[:, ::ratio, ::ratio], main.shape[1], quota[case])
        assert torch.equal(drawn.label, label)
        queue.update(embed.detach(), grid)
    rows = [0, 1, 498, 499] if case == "released4" else slice(None)
    assert distance(queue.entries[:, rows], stored["queue_after" + suffix]) < VALUE
    assert torch.equal(queue.pointer, tensor(stored["queue_ptr_after"], torch.int64))

    # mixture
    orders = [tensor(stored[n], torch.int64) for n in ("perm_cnn", "perm_tf")]
    draw = MixDraw(*orders, cutmask, torch.tensor(float(stored["dice"]) > 0.5))
    mixed = mix(values["image"], scribble, main, auxiliary, draw)
    labels = [mixed.scribble.long().masked_fill(mixed.scribble == 255, 4)[:, None], mixed.pseudo]
    for name, found in zip(("scribble_mixed", "pseudo_label"), labels, strict=True):
        if case == "released4":
            hist = torch.bincount(found.flatten() + 1, minlength=6)
            assert torch.equal(hist, tensor(stored[f"{name}_hist"], torch.int64))
            found = found[..., ::8, ::8]
        assert torch.equal(found, tensor(stored[name], torch.int64)), name
    if case != "released4":
        assert torch.equal(mixed.images.float(), tensor(stored["img_mixed"]))

    # terms, total, gradients
    terms = pclmix_terms((main, auxiliary), (second_main, second_auxiliary), scribble, mixed, contrast, "released")
    weights = Weights(auxiliary=float(weight_t), contrast=float(weight_c))
    ramps = contrast_ramp(progress), ramp(float(epoch) / RELEASED_CONSISTENCY_EPOCHS)
    assert weights.consistency * ramps[1] == pytest.approx(float(stored["het_weight"]), rel=1e-12)
    assert weights.contrast * ramps[0] == pytest.approx(float(stored["con_weight"]), rel=1e-12)
    loss = total(terms, weights, *ramps)
    names = {"scribble": "sup_no_mix", "mixed": "sup_mixed", "pseudo": "unsup_mixed"}
    theirs = {f"{a}_{d}": f"loss_{b}_{e}" for a, b in names.items() for d, e in (("main", "cnn"), ("auxiliary", "tf"))}
    theirs |= {"contrast": "loss_contra", "consistency": "loss_het"}
    assert set(terms) == set(theirs)
    tail, bound = ("_f64", 1e-9) if dtype == torch.float64 else ("", VALUE)
    for name, value in {**terms, "": loss}.items():
        assert value.item() == pytest.approx(float(stored[(theirs[name] if name else "loss") + tail]), rel=bound), name
    loss.backward()
    for name, leaf in leaves.items():
        if f"grad_{name}" in stored:
            assert distance(leaf.grad, stored[f"grad_{name}"]) < GRADIENT, name
        elif case == "released4":
            strided = leaf.grad[:, ::32, ::5, ::5] if name == "embed" else leaf.grad[cut]
            assert distance(strided, stored[f"grad_{name}_sub"]) < GRADIENT, name
            assert leaf.grad.double().norm().item() == pytest.approx(
                float(stored[f"grad_{name}_norm{tail}"]), rel=bound
            ), name
        else:
            assert case == "two_warm" and name == "embed" and not leaf.grad.any()  # an attached zero


# --------------------------------------------------------------------------------------------- contrast: our choices


def random_case(n=40, classes=2, length=12, channels=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    anchors = unit(torch.randn(n, channels, generator=generator, dtype=dtype))
    entries = unit(torch.randn(classes, length, channels, generator=generator, dtype=dtype))
    labels = torch.randint(classes, (n,), generator=generator)
    filled = torch.rand(classes, length, generator=generator) < 0.7
    return anchors, labels, entries, filled


def slow_contrast(anchors, labels, entries, filled, tau):
    """The default, with loops."""
    values = []
    for a, y in zip(anchors.tolist(), labels.tolist(), strict=True):
        sims = [[sum(p * q for p, q in zip(a, e, strict=True)) / tau for e in row] for row in entries.tolist()]
        own = [s for s, f in zip(sims[y], filled[y].tolist(), strict=True) if f]
        rest = [s for k, row in enumerate(sims) if k != y for s, f in zip(row, filled[k].tolist(), strict=True) if f]
        if own and rest:
            values.append(sum(math.log(1 + sum(math.exp(n - p) for n in rest)) for p in own) / len(own))
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("implementation", ["fused", "dense"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_default_contrast_against_loops(implementation, classes, tau, monkeypatch):
    monkeypatch.setattr(pclmix_queue, "CHUNK_ELEMENTS", 100)  # several chunks
    case = random_case(classes=classes)
    found = queue_contrast(*case, tau, implementation=implementation)
    assert found.item() == pytest.approx(slow_contrast(*case, tau), rel=1e-12)


@pytest.mark.parametrize("preset", ["lite", "released"])
def test_gradients_numerically_and_against_the_twin(preset, monkeypatch):
    monkeypatch.setattr(pclmix_queue, "CHUNK_ELEMENTS", 60)
    anchors, labels, entries, filled = random_case(n=10, length=5, channels=3)
    filled = filled if preset == "lite" else None
    valid = torch.arange(10) != 3
    anchors.requires_grad_(), entries.requires_grad_()

    def loss(a, e, implementation="fused"):
        return queue_contrast(a, labels, e, filled, 0.3, preset, valid, implementation=implementation)

    assert torch.autograd.gradcheck(loss, (anchors, entries))
    for x, y in zip(
        *(torch.autograd.grad(loss(anchors, entries, i), (anchors, entries)) for i in ("fused", "dense")), strict=True
    ):
        assert torch.allclose(x, y, rtol=1e-10, atol=1e-14)
    without = torch.autograd.grad(loss(anchors, entries), anchors)[0]
    assert not without[3].any()


def test_closed_forms_of_the_default():
    anchor = torch.eye(4, dtype=torch.float64)[:1]
    for others, expected in (
        (-anchor, math.log(1 + 5 * math.exp(-4))),
        (torch.eye(4)[1:2].double(), math.log(1 + 5 * math.exp(-2))),
    ):
        entries = torch.stack([others.expand(5, 4), anchor.expand(5, 4)])
        assert queue_contrast(anchor, torch.tensor([1]), entries, temperature=0.5).item() == pytest.approx(expected)
    assert math.log(1 + 5 * math.exp(-4)) == pytest.approx(0.0876245, abs=1e-7)


def test_released_pushes_background_away_and_pulls_nothing():
    """A class-0 anchor meets zero vectors as positives: log(1 + Σ e^{sim/τ}) whatever class 0 looks like."""
    anchors, _, entries, _ = random_case(n=4, length=6)
    loss = queue_contrast(anchors, torch.zeros(4, dtype=torch.int64), entries, None, 0.5, "released")
    pushes = (1 + (anchors @ entries[1].T / 0.5).exp().sum(1)).log()
    assert loss.item() == pytest.approx((pushes.mean() * 0.5 / 0.07).item(), rel=1e-5)
    moved = torch.stack([-entries[0], entries[1]])
    assert queue_contrast(anchors, torch.zeros(4, dtype=torch.int64), moved, None, 0.5, "released") == loss
    lite = [queue_contrast(anchors, torch.zeros(4, dtype=torch.int64), e, None, 0.5) for e in (entries, moved)]
    assert lite[0] != lite[1]


def test_the_queue_holds_both_classes_by_default_and_the_released_one_never_class_0():
    maps = unit(torch.randn(2, 6, 4, 4), 1)
    labels = torch.full((2, 4, 4), 255)
    labels[:, 0], labels[1, 3] = 0, 1
    lite, released = ClassQueue(2, 5, 6), ClassQueue(2, 5, 6, "released")
    before = released.entries.clone()
    for queue in (lite, released):
        queue.update(maps, labels)
    assert lite.filled.sum(1).tolist() == [2, 1] and lite.pointer.tolist() == [2, 1]
    for slot, image in enumerate((0, 1)):
        assert torch.allclose(lite.entries[0, slot], unit(maps[image, :, 0].mean(1)), atol=1e-6)
    assert torch.allclose(lite.entries[1, 0], unit(maps[1, :, 3].mean(1)), atol=1e-6)
    assert torch.equal(released.entries[0], before[0]) and released.pointer.tolist() == [0, 1]
    assert not torch.equal(released.entries[1], before[1])


def test_a_queue_wraps_and_lets_the_oldest_go():
    queue = ClassQueue(1, 3, 2)
    for angle in range(5):
        direction = torch.tensor([math.cos(angle), math.sin(angle)])
        queue.update(direction.view(1, 2, 1, 1), torch.zeros(1, 1, 1))
    expected = torch.tensor([[math.cos(a), math.sin(a)] for a in (3, 4, 2)])
    assert torch.allclose(queue.entries[0], expected) and queue.pointer.item() == 2


def test_an_empty_queue_or_a_missing_class_is_a_zero_on_the_graph():
    anchors, labels, entries, _ = random_case(n=6)
    anchors.requires_grad_()
    for filled in (torch.zeros(2, 12, dtype=torch.bool), torch.tensor([[True], [False]]).expand(2, 12)):
        for implementation in ("fused", "dense"):
            loss = queue_contrast(anchors, labels, entries, filled, implementation=implementation)
            assert loss.item() == 0 and not torch.autograd.grad(loss, anchors)[0].any()
    for preset in ("lite", "released"):
        none = queue_contrast(anchors[:0], labels[:0], entries, preset=preset)
        assert none.item() == 0 and none.requires_grad


def test_no_class_qualifies():
    """The release's sampler then returns nothing, and the loss stops; here it is a zero."""
    assert CONTRAST["no_anchor_error"]
    labels = torch.full((1, 4, 4), 255)
    drawn = draw_anchors(labels, labels)
    assert len(drawn.index) == 0
    maps = torch.randn(1, 6, 4, 4, requires_grad=True)
    loss = queue_contrast(embeddings_at(maps, drawn.index), drawn.label, random_case()[2].float(), preset="released")
    loss.backward()
    assert loss.item() == 0 and not maps.grad.any()


def test_small_regions_become_anchors_by_default_only():
    labels = torch.zeros(1, 28, 28, dtype=torch.int64)
    labels[0, :4, :9] = 1  # 36 cells, the largest region of the data it was released for
    classes = [draw_anchors(labels, labels, 2, quota).label.unique().tolist() for quota in (LITE_QUOTA, RELEASED_QUOTA)]
    assert classes == [[0, 1], [0]]


@pytest.mark.parametrize("right", [0, 1, 4, 9, 10])
def test_a_scarce_kind_is_taken_whole_and_filled_up_from_the_other(right):
    labels = torch.full((1, 4, 5), 255)
    labels[0, :2] = 0  # ten pixels, of which the first `right` are predicted right
    predicted = (torch.arange(20).view(1, 4, 5) >= right).long()
    index = draw_anchors(labels, predicted, 2, Quota(100, 8, 1)).index
    easy = int((index < right).sum())
    assert len(set(index.tolist())) == 8 and index.max() < 10
    assert easy == max(min(4, right), 8 - (10 - right))  # half, all there are, or what the hard ones leave


@pytest.mark.parametrize("quota", [Quota(30, 6, 2), Quota(9, 20, 1)])
def test_fixed_and_compact_draws_are_the_same(quota):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 3, (3, 5, 7), generator=generator)
    predicted = torch.randint(0, 3, (3, 5, 7), generator=generator)
    keys = torch.rand(3, 35, generator=generator)
    fixed, compact = (draw_anchors(labels, predicted, 3, quota, keys, path) for path in ("fixed", "compact"))
    rows = fixed.valid.nonzero().squeeze(1)
    rows = rows[fixed.number[rows].argsort()]
    assert all(torch.equal(x[rows], y) for x, y in zip(fixed, compact, strict=True))
    assert len(fixed.index) == 9 * min(quota.views, 35) and len(rows) <= max(quota.anchors, 9)
    anchors, entries = unit(torch.randn(3, 6, 5, 7, dtype=torch.float64), 1), random_case(classes=3)[2]
    losses = [
        queue_contrast(embeddings_at(anchors, d.index), d.label, entries, None, 0.2, p, d.valid, d.number).item()
        for d in (fixed, compact)
        for p in ("lite", "released")
    ]
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-12)


def test_more_anchors_than_columns_is_explained():
    anchors, labels, entries, _ = random_case(n=25)
    with pytest.raises(InputError, match=r"25 anchors for 2 x 12 entries.*preset='lite'"):
        queue_contrast(anchors, labels, entries, preset="released")
    assert queue_contrast(anchors, labels, entries).isfinite()


# ----------------------------------------------------------------------------------------- certainty, mixing, terms


def test_certainty_for_two_classes():
    top = torch.tensor([0.5, 0.78, 0.79, 0.99])
    logits = torch.stack([top, 1 - top]).log().view(1, 2, 1, 4)
    unlabelled = torch.full((1, 1, 4), 255)
    kept = [
        (certainty_labels(logits, logits, unlabelled, certainty_threshold(t)) != 255)[0, 0].tolist() for t in (0, 1)
    ]
    assert kept == [[False, False, True, True], [True] * 4]
    other = logits.flip(3)
    assert torch.equal(mean_entropy(logits, other), mean_entropy(other, logits))
    scribble = torch.tensor([[[1, 255, 255, 1]]])
    assert certainty_labels(logits, logits, scribble, certainty_threshold(0)).tolist() == [[[1, 255, 0, 1]]]


def mixing_case(batch=4, side=24, seed=3):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, side, side, generator=generator)
    scribble = torch.randint(0, 3, (batch, side, side), generator=generator)
    logits = [torch.randn(batch, 2, side, side, generator=generator, requires_grad=True) for _ in "ab"]
    return images, scribble.masked_fill(scribble == 2, 255), *logits, draw_mix(batch, (side, side), "cpu", generator)


def test_complementary_pastes_add_up_to_both_streams():
    images, scribble, main, auxiliary, draw = mixing_case()
    boxes = draw.boxes[:1].expand_as(draw.boxes)  # the same rectangle in both directions
    a, b = (mix(images, scribble, main, auxiliary, draw._replace(boxes=x)) for x in (boxes, ~boxes))
    assert torch.equal(a.images + b.images, images[draw.main] + images[draw.auxiliary])
    for m, order in ((True, draw.main), (False, draw.auxiliary)):
        whole = draw._replace(boxes=torch.full_like(boxes, m), main_on_top=torch.tensor(True))
        mixed = mix(images, scribble, main, auxiliary, whole)
        assert torch.equal(mixed.images, images[order]) and torch.equal(mixed.scribble, scribble[order])
        assert torch.equal(mixed.pseudo, (main if m else auxiliary)[order].argmax(1))
    assert set(a.scribble.unique().tolist()) <= {0, 1, 255} and not a.pseudo.requires_grad


def test_the_three_rules():
    images, scribble, main, auxiliary, draw = mixing_case()
    draw = draw._replace(
        main=torch.tensor([0, 1, 2, 3]), auxiliary=torch.tensor([0, 2, 3, 1]), main_on_top=torch.tensor(True)
    )
    copies = images.flip(1)
    released, splice, intra = (
        mix(images, scribble, main, auxiliary, draw, rule, copies) for rule in pclmix_mixing.MIX_LABEL_RULES
    )
    inside = draw.boxes
    assert torch.equal(released.images, splice.images)
    foreign = inside & torch.tensor([False, True, True, True])[:, None, None]  # image 0 was pasted into itself
    for name in ("scribble", "pseudo"):
        found, plain = getattr(splice, name), getattr(released, name)
        assert (found[foreign] == 1).all() and torch.equal(found[~foreign], plain[~foreign])
    assert torch.equal(intra.scribble, scribble)  # nothing moved: every label is still true
    assert torch.equal(intra.images, torch.where(inside[:, None], copies, images))
    assert torch.equal(intra.pseudo, torch.where(inside, main.argmax(1), auxiliary.argmax(1)))


def test_patches_cover_a_fifth():
    share = draw_mix(2000, (64, 64), "cpu", torch.Generator().manual_seed(0)).boxes.double().mean((1, 2))
    assert share.mean().item() == pytest.approx(0.2, abs=1e-3) and share.min() > 0.19 and share.max() < 0.21


def test_consistency_is_zero_for_equal_decoders_and_symmetric():
    a, b = torch.randn(2, 2, 4, 4), torch.randn(2, 2, 4, 4)
    for preset in ("lite", "released"):
        assert consistency(a, a, preset) == 0 and consistency(a, b, preset) == consistency(b, a, preset)
    assert consistency(a, a + 3) < 1e-12 < consistency(a, a + 3, "released")  # the same probabilities


def test_an_image_without_scribbles_has_a_defined_zero():
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = partial_cross_entropy(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_first_pass_gets_no_gradient_through_the_classes_of_the_mixture():
    images, scribble, main, auxiliary, draw = mixing_case()
    mixed = mix(images, scribble, main, auxiliary, draw)
    second = [torch.randn(4, 2, 24, 24, requires_grad=True) for _ in "ab"]
    nothing = torch.full_like(scribble, 255)
    terms = pclmix_terms((main, auxiliary), second, nothing, mixed, torch.zeros(()), "lite")
    for name in ("pseudo_main", "pseudo_auxiliary", "mixed_main"):
        grads = torch.autograd.grad(terms[name], [main, auxiliary, *second], allow_unused=True, retain_graph=True)
        assert grads[0] is None and grads[1] is None and any(g is not None for g in grads[2:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: mix(*c, "shuffle"), "released, splice, intra"),
        (lambda c: mix(*c, "intra"), "needs copies"),
        (lambda c: mix(c[0], c[1], *(x.repeat(1, 2, 1, 1) for x in c[2:4]), c[4], "splice"), "found 4 classes"),
        (lambda c: mix(c[0], c[1].clamp(max=7), *c[2:]), "the value 7"),
        (lambda c: mix(c[0], c[1][:, :9], *c[2:]), "expected"),
        (lambda c: certainty_labels(c[2][:, :1], c[3][:, :1], c[1], 0.5), "two_logits"),
        (lambda c: consistency(c[2], c[3], "paper"), "lite or released"),
        (lambda c: ClassQueue(2, 3, 4).update(torch.ones(4, 4, 1, 1), torch.zeros(4, 1, 1)), "4 images"),
        (lambda c: ClassQueue(1, 3, 4, "released"), "two classes"),
        (lambda c: draw_anchors(c[1], c[1][:1]), "twice"),
        (lambda c: draw_anchors(c[1], c[1], quota=Quota(0, 1, 1)), "at least 1"),
        (lambda c: draw_anchors(c[1], c[1], path="slow"), "compact"),
        (lambda c: queue_contrast(torch.ones(2, 3), torch.tensor([0, 5]), torch.ones(2, 4, 3)), "0 to 1"),
        (lambda c: queue_contrast(torch.ones(2, 3), torch.zeros(2).long(), torch.ones(2, 4, 5)), r"\(K,M,D\)"),
        (lambda c: queue_contrast(torch.ones(2, 3), torch.zeros(3).long(), torch.ones(2, 4, 3)), "labels"),
        (
            lambda c: queue_contrast(torch.ones(2, 3), torch.zeros(2).long(), torch.ones(2, 4, 3), None, 0.0),
            "temperature",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call(mixing_case())


@pytest.mark.parametrize("preset", ["lite", "released"])
def test_on_a_gpu_nothing_comes_back_to_the_host(preset, fake_gpu):
    with fake_gpu:
        logits = [torch.randn(2, 2, 32, 32, device="cuda").bfloat16().requires_grad_() for _ in range(4)]
        scribble = torch.zeros(2, 32, 32, device="cuda", dtype=torch.uint8)
        embedding = torch.randn(2, 8, 8, 8, device="cuda", requires_grad=True)
        queue = ClassQueue(2, 6, 8, preset).cuda()
        certain = certainty_labels(*logits[:2], scribble, 0.5)[:, ::4, ::4]
        drawn = draw_anchors(certain, logits[0].argmax(1)[:, ::4, ::4])
        rows = embeddings_at(embedding, drawn.index)
        contrast = queue_contrast(
            rows, drawn.label, queue.entries, queue.filled, 0.07, preset, drawn.valid, drawn.number
        )
        queue.update(embedding.detach(), certain)
        images = torch.rand(2, 3, 32, 32, device="cuda")
        draw = draw_mix(2, (32, 32), "cuda")
        for rule in pclmix_mixing.MIX_LABEL_RULES:
            mixed = mix(images, scribble, *logits[:2], draw, rule, images)
        terms = pclmix_terms(logits[:2], logits[2:], scribble, mixed, contrast, preset)
        loss = total(terms, Weights())
        assert loss.device.type == "cuda" and loss.dtype == torch.float32 and loss.requires_grad
