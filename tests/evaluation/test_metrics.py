"""Protocols against scikit-learn, slow oracles, hand-made tables and the corner cases that tell them apart."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from mpc_lite.errors import InputError
from mpc_lite.evaluation.metrics import Counts, count, counts_by_level, f1, histogram, ignore_border, iou, pixel_auc
from mpc_lite.evaluation.protocols import PROTOCOLS, ImageScore, get_protocol
from mpc_lite.inference.score_map import TOP, image_score, level_of, quantise
from tests.evaluation import oracles


def score(protocol: str, score_map, mask):
    return PROTOCOLS[protocol].score_image(np.asarray(score_map, np.float32), np.asarray(mask, np.uint8))


def random_case(seed: int, ties: bool = False):
    """A map that knows something of its mask: 40×52, both classes present."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 52), np.uint8)
    y, x, h, w = rng.integers(2, 20, size=4)
    mask[y : y + h, x : x + w] = 1
    score_map = np.clip(0.3 * mask + rng.random(mask.shape) * 0.7, 0, 1).astype(np.float32)
    return (np.round(score_map * 6) / 6).astype(np.float32) if ties else score_map, mask


def synthetic_set(n: int = 16, side: int = 112):
    """Masks with one ellipse each, the maps of a good detector, and those of one that is timid on some images."""
    rng = np.random.default_rng(3)
    masks, good, mediocre = [], [], []
    for _ in range(n):
        mask = np.zeros((side, side), np.uint8)
        centre = tuple(int(v) for v in rng.integers(30, side - 30, size=2))
        axes = tuple(int(v) for v in rng.integers(14, 28, size=2))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        soft = np.roll(cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 1), 1, axis=1)  # a border a pixel off
        masks.append(mask)
        good.append(0.02 + 0.96 * soft)
        mediocre.append(0.05 + soft * rng.uniform(0.2, 0.9))
    return masks, good, mediocre


# ------------------------------------------------------------------------------------------------------------- counts


def test_hand_made_table():
    mask = np.uint8([[1, 1, 1, 0], [0, 0, 255, 255]])
    score_map = np.float32([[0.9, 0.6, 0.2, 0.7], [0.1, 0.5, 0.9, 0.1]])
    counts = count(score_map, mask)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (2, 1, 1, 2)  # 0.5 itself is not marked, 255 does not count
    assert f1(counts) == pytest.approx(4 / 6) and iou(counts) == pytest.approx(2 / 4)
    assert score("macro", score_map, mask).f1 == pytest.approx((4 / 6 + 4 / 6) / 2)
    assert score("permuted", score_map, mask).f1 == pytest.approx(4 / 6)
    inverted = score("mpc", 1 - score_map, mask)
    assert inverted.counts == Counts(tp=1, fp=1, fn=2, tn=2)  # not quite the inverse: 1 - 0.5 is not marked either
    assert inverted.f1 == pytest.approx(2 / 5)


def test_inverting_the_map_exchanges_the_counts():
    counts = Counts(tp=5, fp=7, fn=11, tn=13)
    assert counts.inverted() == Counts(tp=11, fp=13, fn=5, tn=7)
    assert counts.authentic() == Counts(tp=13, fp=11, fn=7, tn=5)
    assert f1(counts.inverted()) == pytest.approx(2 * 11 / (2 * 11 + 13 + 5))  # not 2·5 over it, a known slip


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_against_scikit_learn_and_oracles(seed, ties):
    score_map, mask = random_case(seed, ties)
    marked, truth = (score_map > 0.5).ravel(), mask.ravel()
    foreground = score("mpc", score_map, mask)
    assert foreground.f1 == pytest.approx(f1_score(truth, marked))
    assert foreground.iou == pytest.approx(jaccard_score(truth, marked))
    assert foreground.auc == pytest.approx(roc_auc_score(truth, quantise(score_map).ravel()), abs=1e-12)
    assert score("macro", score_map, mask).f1 == pytest.approx(f1_score(truth, marked, average="macro"))
    both = max(f1_score(truth, marked), f1_score(truth, ~marked))
    assert score("permuted", score_map, mask).f1 == pytest.approx(both)
    assert score("permuted", 1 - score_map, mask).f1 == pytest.approx(
        max(f1_score(truth, 1 - score_map.ravel() > 0.5), f1_score(truth, 1 - score_map.ravel() <= 0.5))
    )
    c = count(score_map, mask, 0.3)
    assert (c.tp, c.fp, c.fn, c.tn) == oracles.counts(score_map, mask, 0.3)


@pytest.mark.parametrize("seed", range(3))
def test_best_threshold_tries_every_threshold(seed):
    score_map, mask = random_case(seed, ties=True)
    best = score("best_threshold", score_map, mask)
    assert best.f1 == pytest.approx(oracles.best_f1(score_map, mask))
    assert f1(count(score_map, mask, best.threshold)) == pytest.approx(best.f1)  # and says which one it was
    neighbours = np.uint16(40000) + mask  # two levels with nothing between them
    found = PROTOCOLS["best_threshold"].score_image(neighbours, mask)
    assert found.f1 == 1 and f1(count(neighbours, mask, found.threshold)) == 1
    inverted = 1 - score_map
    assert score("trufor_best", inverted, mask).f1 == pytest.approx(
        oracles.best_f1(quantise(inverted), ignore_border(mask), permuted=True)
    )


@pytest.mark.parametrize("seed", range(3))
def test_pixel_auc_counts_ties_half(seed):
    score_map, mask = random_case(seed, ties=True)
    small_map, small_mask = score_map[::3, ::3], mask[::3, ::3]
    assert pixel_auc(histogram(small_map, small_mask)) == pytest.approx(oracles.auc(small_map, small_mask))
    assert pixel_auc(histogram(np.full((9, 9), 0.7), np.eye(9, dtype=np.uint8))) == 0.5
    assert pixel_auc(histogram(np.random.default_rng(0).random((9, 9)), np.ones((9, 9), np.uint8))) is None


def test_counts_by_level_has_every_threshold():
    score_map, mask = random_case(1)
    curve = counts_by_level(histogram(score_map, mask))
    assert curve.tp.shape == (TOP + 2,)
    assert (curve.tp[0], curve.tp[-1]) == (mask.sum(), 0)
    assert np.all(curve.tp + curve.fp + curve.fn + curve.tn == mask.size)
    for threshold in (0.0, 0.25, 0.5, 127 / 255, 0.99, 1.0):
        level = level_of(threshold)
        assert (curve.tp + curve.fp)[level] == (quantise(score_map) > threshold * TOP + 1e-6).sum()


def test_counting_in_parts_changes_nothing(monkeypatch):
    score_map, mask = random_case(2)
    whole = histogram(score_map, mask)
    monkeypatch.setattr("mpc_lite.evaluation.metrics.PART", 100)
    assert np.array_equal(histogram(score_map, mask), whole)


# -------------------------------------------------------------------------------------------------------- quantisation


def test_levels_keep_the_decision_at_one_half():
    around = np.float32([[0.0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, np.nextafter(np.float32(0.5), 1), 1]])
    levels = quantise(around)
    assert list(levels[0]) == [0, 32767, 32767, 32768, 65535]
    assert np.array_equal(levels > 0.5 * TOP, around > 0.5)


def test_levels_survive_the_way_through_floats():
    levels = np.arange(TOP + 1, dtype=np.uint16)[None]
    assert np.array_equal(quantise(levels / np.float32(TOP)), levels)
    assert np.array_equal(quantise(levels), levels)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), 200.0), "divide by 255"),
        (np.full((4, 4), -0.1), "sigmoid"),
        (np.zeros((1, 4, 4)), r"\(H,W\)"),
        (np.zeros((0, 4)), r"\(H,W\)"),
        (np.full((4, 4), 0.5 + 1j), "complex128; expected real numbers"),
        (np.full((4, 4), "0.5"), "expected real numbers"),
        (np.full((4, 4), 0.5, object), "expected real numbers"),
    ],
)
def test_bad_maps_are_refused(bad, says):
    with pytest.raises(InputError, match=says):
        quantise(bad)


@pytest.mark.parametrize("threshold", [math.nan, np.float32("nan"), "0.5", None])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(InputError, match=r"threshold .*; expected a number, such as 0.5"):
        count(*random_case(0), threshold)


@pytest.mark.parametrize(
    "bad", [torch.zeros(4, 5, dtype=torch.bfloat16), torch.zeros(4, 5).requires_grad_(), [[0], []]]
)
def test_what_numpy_takes_for_no_array_is_told_what_to_be(bad):
    good = np.zeros((4, 5))
    for measure in (count, histogram):
        for name, pair in (("score map", (bad, good)), ("mask", (good, bad))):
            with pytest.raises(InputError, match=rf"{name}: .* is no array .*x\.detach\(\)\.float\(\)"):
                measure(*pair)
    with pytest.raises(InputError, match=r"mask: .* is no array"):
        ignore_border(bad)
    for mask, says in (
        *((good + value, rf"mask value {value:g}") for value in (128.0, -1.0, 0.5)),
        *((np.zeros(shape, np.uint8), "mask of shape") for shape in ((), (0, 4), (3,))),
    ):
        with pytest.raises(InputError, match=says):
            ignore_border(mask)
    with pytest.raises(InputError, match="erosion -1, dilation 3; expected squares of at least 1 pixel"):
        ignore_border(good, -1, 3)
    plain = torch.zeros(4, 5)  # shares its memory with an array
    assert count(plain, plain) == count(plain.numpy(), plain.numpy())


@pytest.mark.parametrize("kind", ["?", "uint8", "int8", "int64", "uint16", "float16", "float32", "float64"])
def test_a_mask_may_be_of_any_real_kind(kind):
    score_map, mask = random_case(0)
    expected = histogram(score_map, mask)
    assert np.array_equal(histogram(score_map, mask.astype(kind)), expected)
    if kind not in ("?", "int8"):
        mask[:3] = 255
        assert np.array_equal(histogram(score_map, mask.astype(kind)), histogram(score_map, mask))


def test_bad_masks_are_refused():
    with pytest.raises(InputError, match="resize the score map"):
        histogram(np.zeros((4, 5)), np.zeros((5, 4), np.uint8))
    with pytest.raises(InputError, match="mask value 128"):
        histogram(np.zeros((4, 5)), np.full((4, 5), 128, np.uint8))
    for value, kinds in ((0.7, "d"), (np.nan, "fd"), (-0.2, "d"), (-1, "bild"), (254, "hf")):
        for kind in kinds:
            mask = np.zeros((4, 5), kind)
            mask[3, 2] = value
            for measure in (histogram, count):
                with pytest.raises(InputError, match=f"mask value {value}"):
                    measure(np.zeros((4, 5)), mask)
    with pytest.raises(InputError, match="mask of complex64; expected real numbers"):
        count(np.zeros((4, 5)), np.zeros((4, 5), np.complex64))
    with pytest.raises(InputError, match="score map of complex128; expected real numbers"):
        count(np.full((4, 5), 0.3 + 0.4j), np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match=r"unknown protocol 'f1'.*mpc_legacy"):
        get_protocol("f1")


# ----------------------------------------------------------------------------------------------------------- protocols


def test_the_border_is_what_minimum_and_maximum_filters_leave():
    rng = np.random.default_rng(0)
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 0:50] = 1  # touches the image's edge, where nothing lies outside to be ignored
    mask[70:80, 90:100] = 1  # too thin to survive the erosion
    mask[rng.integers(0, 10), 100:] = 1
    kept = ignore_border(mask)
    assert np.array_equal(kept == 1, minimum_filter(mask, 15) == 1)
    assert np.array_equal(kept == 0, maximum_filter(mask, 11) == 0)
    assert kept[40, 0] == 1 and kept[75, 95] == 255
    mask[40, 20] = mask[5, 5] = 255  # ignored before, ignored after
    assert ignore_border(mask)[40, 20] == ignore_border(mask)[5, 5] == 255
    square = np.zeros((64, 64), np.uint8)
    square[16:47, 16:47] = 1
    assert (ignore_border(square) == 1).sum() == 17**2 and (ignore_border(square) == 0).sum() == 64**2 - 41**2


def test_a_wrong_border_costs_nothing_under_trufor_only():
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    wide = np.zeros((64, 64), np.float32)
    wide[12:52, 12:52] = 1
    assert score("trufor", wide, mask).f1 == 1
    assert score("mpc", wide, mask).f1 == pytest.approx(2 * 32**2 / (32**2 + 40**2))


def test_legacy_threshold_and_iou():
    mask = np.ones((2, 2), np.uint8)
    between = np.full((2, 2), 0.499, np.float32)  # above 127/255 = 0.49804, below 0.5
    assert score("mpc", between, mask).f1 == 0
    legacy = score("mpc_legacy", between, mask)
    assert legacy.f1 == 1 and legacy.iou == pytest.approx(4 / (4 + 1e-6), abs=1e-12) and legacy.iou < 1
    assert score("mpc_legacy", np.full((2, 2), 127 / 255, np.float32), mask).f1 == 0  # 127 is not > 127


def test_empty_truth():
    empty, black = np.zeros((8, 8), np.uint8), np.zeros((8, 8))
    dot = black.copy()
    dot[3, 3] = 1
    for name in PROTOCOLS:
        nothing, alarm = score(name, black, empty), score(name, dot, empty)
        assert nothing.auc is None and alarm.auc is None
        if name == "macro":  # the authentic class is found: one half for free
            assert nothing.f1 == 0.5 and alarm.f1 == pytest.approx(63 * 2 / (63 * 2 + 1) / 2)
        else:
            assert nothing.f1 == alarm.f1 == 0
        assert nothing.iou == (1 if name == "mpc_legacy" else 0) and alarm.iou == 0


@pytest.mark.slow
def test_how_far_the_protocols_disagree():
    """The table of the book: the same eight outputs under every protocol, closed forms where there are any."""
    masks, good, mediocre = synthetic_set()
    area = np.array([m.mean() for m in masks])
    mean = {}
    outputs = {
        "black": [np.zeros(m.shape) for m in masks],
        "white": [np.ones(m.shape) for m in masks],
        "constant": [np.full(m.shape, 0.5) for m in masks],
        "good": good,
        "inverted": [1 - g for g in good],
        "mediocre": mediocre,
        "stretched": [(s - s.min()) / (s.max() - s.min()) for s in mediocre],
    }
    for output, maps in outputs.items():
        for name, protocol in PROTOCOLS.items():
            mean[output, name] = protocol.score_set(zip(maps, masks, strict=True))

    def of(output, protocol, key="f1"):
        return mean[output, protocol][key]

    white = np.mean(2 * area / (1 + area))  # F1 of marking everything
    assert of("black", "mpc") == of("black", "mpc", "iou") == of("black", "pooled") == 0
    assert of("black", "macro") == pytest.approx(np.mean((1 - area) / (2 - area)))
    assert 0.4 < of("black", "macro") < 0.5
    for output, protocol in [
        ("white", "mpc"),
        ("white", "permuted"),
        ("black", "permuted"),
        ("black", "best_threshold"),
    ]:
        assert of(output, protocol) == pytest.approx(white)
    assert of("white", "mpc", "iou") == pytest.approx(area.mean())
    assert of("white", "pooled") == pytest.approx(2 * area.mean() / (1 + area.mean()))
    assert of("black", "trufor") == pytest.approx(of("white", "trufor")) and 0 < of("white", "trufor") < white
    assert of("constant", "mpc") == 0 and of("constant", "mpc_legacy") == pytest.approx(white)
    assert of("constant", "mpc", "auc") == 0.5

    assert min(of("good", name) for name in PROTOCOLS) > 0.95
    assert of("inverted", "mpc") < 0.1 and of("inverted", "macro") < 0.1 and of("inverted", "pooled") < 0.1
    assert of("inverted", "best_threshold") == pytest.approx(white, abs=0.02)
    assert of("inverted", "permuted") == pytest.approx(of("good", "permuted"), abs=1e-3)
    assert of("inverted", "trufor") == of("good", "trufor") == 1
    assert of("inverted", "mpc", "auc") == pytest.approx(1 - of("good", "mpc", "auc"), abs=1e-6)

    # A timid detector: order of the table, and min-max stretching turns it into a good one.
    assert of("mediocre", "mpc") < of("mediocre", "permuted") < of("mediocre", "macro")
    assert of("mediocre", "macro") < of("mediocre", "best_threshold") < of("mediocre", "trufor_best")
    assert of("mediocre", "trufor") < of("mediocre", "trufor_best")
    assert of("stretched", "mpc") - of("mediocre", "mpc") > 0.15
    assert of("stretched", "best_threshold") == pytest.approx(of("mediocre", "best_threshold"), abs=1e-3)


def test_pooled_weighs_pixels_and_mpc_weighs_images():
    small, large = np.ones((10, 10), np.uint8), np.ones((30, 30), np.uint8)
    pairs = [(np.ones((10, 10)), small), (np.zeros((30, 30)), large)]
    assert PROTOCOLS["mpc"].score_set(pairs)["f1"] == pytest.approx(0.5)
    assert PROTOCOLS["pooled"].score_set(pairs)["f1"] == pytest.approx(2 * 100 / (2 * 100 + 900))
    assert PROTOCOLS["pooled"].score_set(pairs)["iou"] == pytest.approx(100 / 1000)


def test_summary_of_a_set():
    cases = [random_case(seed) for seed in range(12)]
    summary = PROTOCOLS["mpc"].score_set(cases)
    single = [score("mpc", *case) for case in cases]
    assert summary["n"] == 12
    assert summary["f1"] == pytest.approx(np.mean([s.f1 for s in single]))
    assert summary["auc"] == pytest.approx(np.mean([s.auc for s in single]))
    low, high = summary["f1_ci95"]
    assert low < summary["f1"] < high
    spread = 1.96 * np.std([s.f1 for s in single]) / np.sqrt(12)
    assert high - low == pytest.approx(2 * spread, rel=0.25)
    assert PROTOCOLS["mpc"].score_set(cases) == summary  # the bootstrap's seed is fixed
    assert PROTOCOLS["mpc"].score_set(cases[:1])["f1_ci95"] is None
    all_ones = (np.random.default_rng(0).random((5, 5)), np.ones((5, 5), np.uint8))
    assert PROTOCOLS["mpc"].score_set([*cases, all_ones])["auc"] == pytest.approx(summary["auc"])  # leaves the mean
    with pytest.raises(InputError, match="at least one"):
        PROTOCOLS["mpc"].score_set([])


def test_every_protocol_says_what_it_is():
    assert list(PROTOCOLS) == [
        *("mpc", "mpc_legacy", "macro", "permuted", "trufor", "best_threshold", "trufor_best", "pooled")
    ]
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and len(protocol.description) > 20 and protocol.source


@pytest.mark.parametrize("shape", [(64, 64), (37, 51), (5, 100), (3, 2), (8, 8)])
def test_image_score_against_the_oracle(shape):
    score_map = np.random.default_rng(shape[0]).random(shape).astype(np.float32)
    assert image_score(score_map) == pytest.approx(oracles.image_score(score_map), abs=1e-7)
    levels = quantise(score_map)
    assert image_score(levels) == pytest.approx(oracles.image_score(levels) / TOP, abs=1e-9)


def test_one_stray_pixel_raises_no_alarm():
    stray = np.zeros((64, 64), np.float32)
    stray[20, 20] = 1
    assert image_score(stray) == pytest.approx(1 / 64)


def test_interval_of_a_lead_is_paired_and_of_an_average_stratified():
    """Scores that differ by a constant lead by just that, however much the images spread."""
    protocol, rng = PROTOCOLS["mpc"], np.random.default_rng(0)
    masks = [np.zeros((20, 20), np.uint8) for _ in range(30)]
    for mask in masks:
        mask[: rng.integers(4, 16)] = 1
    exact = [protocol.score_image(m.astype(np.float32), m) for m in masks]
    blank = [protocol.score_image(np.zeros((20, 20), np.float32), m) for m in masks]
    whole = [protocol.score_image(np.ones((20, 20), np.float32), m) for m in masks]
    assert protocol.interval([exact], [blank]) == [1.0, 1.0]
    assert protocol.interval([whole], [whole]) == [0.0, 0.0]
    low, high = protocol.interval([whole])
    mean = np.mean([s.f1 for s in whole])
    assert low < mean < high and high - low == pytest.approx(4 * np.std([s.f1 for s in whole]) / 30**0.5, rel=0.3)
    # Two sets that do not vary inside: resampling within each leaves the weighted mean where it is.
    assert protocol.interval([exact[:10], blank]) == pytest.approx([0.25, 0.25])
    assert protocol.interval([exact[:1]]) is None
    for name in PROTOCOLS:  # a set for each camera, say: no draw changes anything, and nothing is certain for it
        each = PROTOCOLS[name].score_image(np.ones((20, 20), np.float32), masks[0])
        assert PROTOCOLS[name].interval([[each], [each]]) is None


@pytest.mark.slow
@pytest.mark.parametrize("lead", [False, True], ids=["f1", "lead"])
@pytest.mark.parametrize("sizes", [[2], [2, 1, 1], [130], [40, 7, 1], [5] * 9], ids=str)
@pytest.mark.parametrize("name", ["mpc", "pooled"])
def test_the_interval_is_that_of_one_draw_at_a_time_to_the_bit(name, sizes, lead):
    protocol, rng = PROTOCOLS[name], np.random.default_rng(0)

    def drawn_scores(n):
        counted = [Counts(*(int(x) for x in row)) for row in rng.integers(0, 9, (n, 4))]
        return [
            ImageScore(f1=float(x), iou=0.0, auc=None, threshold=0.5, counts=c)
            for x, c in zip(rng.random(n), counted, strict=True)
        ]

    sets, beside = ([drawn_scores(n) for n in sizes] for _ in range(2))

    def rows(scores):
        if name == "mpc":
            return np.array([(s.f1, s.iou) for s in scores])
        return np.array([(s.counts.tp, s.counts.fp, s.counts.fn, s.counts.tn) for s in scores])

    def mean_f1(values):
        return values.mean(axis=0)[0] if name == "mpc" else f1(Counts(*values.sum(axis=0)))

    expected = oracles.interval([rows(s) for s in sets], [rows(s) for s in beside] if lead else [], mean_f1)
    assert protocol.interval(sets, beside if lead else None) == list(expected)
