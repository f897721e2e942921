"""What a method beside MPC is scored with: the authors' metrics against scikit-learn, loops and closed forms."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, matthews_corrcoef

from mpc_lite.data.manifest import read_manifest
from mpc_lite.evaluation.metrics import Counts
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.neighbours.pppc.stage import shifted
from mpc_lite.network.model import MPC
from mpc_lite.reproduce.neighbour_scores import arm_of, figures_of, format_scores, hausdorff95, matthews, own_metrics


class Brightness(torch.nn.Module):
    """Marks bright pixels: logits (B,1,H,W) of images (B,3,H,W)."""

    def forward(self, images):
        return 200 * (images.mean(1, keepdim=True) - 0.5)


@pytest.fixture
def manifest(tmp_path):
    """Three images of 32x32 whose bright part is not quite the mask; the last one is authentic."""
    rng, rows = np.random.default_rng(0), ["image,mask,label,source"]
    for k in range(3):
        image, mask = np.full((32, 32, 3), 20, np.uint8), np.zeros((32, 32), np.uint8)
        if k < 2:
            mask[8:20, 8:24] = 255
            image[10:22, 8 + 4 * k : 24] = 230
        else:
            image[rng.random((32, 32)) < 0.05] = 230
        Image.fromarray(image).save(tmp_path / f"{k}.png")
        Image.fromarray(mask).save(tmp_path / f"{k}.mask.png")
        rows.append(f"{k}.png,{f'{k}.mask.png' if k < 2 else ''},{int(k < 2)},made")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "m.csv"


def test_pooled_metrics_are_those_of_scikit_learn(manifest):
    samples = read_manifest(manifest)
    found = own_metrics(Localizer(Brightness(), "pad"), samples)
    marked = np.stack([np.asarray(Image.open(s.image)).mean(2) > 127.5 for s in samples]).ravel()
    truth = np.stack([np.asarray(Image.open(s.mask)) > 0 if s.mask else np.zeros((32, 32), bool) for s in samples])
    per_image = [f1_score(t.ravel(), m) for t, m in zip(truth[:2], marked.reshape(3, -1)[:2], strict=True)]
    truth = truth.ravel()
    expected = {
        "pixel_accuracy": accuracy_score(truth, marked),
        "macro_f1": f1_score(truth, marked, average="macro"),
        "miou": jaccard_score(truth, marked, average="macro"),
        "mcc": matthews_corrcoef(truth, marked),
        "dice": np.mean(per_image),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    after = [shifted(torch.from_numpy(read_image(s.image).transpose(2, 0, 1)), 0.7, 65).numpy() for s in samples]
    assert found["target_miou"] == pytest.approx(
        jaccard_score(truth, np.stack(after).mean(1).ravel() > 127.5, average="macro")
    )
    assert "image_auc" not in found
    assert found["hd95"] == pytest.approx(3, abs=2)


@pytest.mark.slow
def test_an_image_head_is_scored_on_whole_photographs(manifest):
    torch.manual_seed(0)
    found = own_metrics(Localizer(MPC.build("nano", "mscc").eval(), "pad"), read_manifest(manifest))
    assert found["image_accuracy"] in (pytest.approx(1 / 3), pytest.approx(2 / 3), 0, 1)
    assert 0 <= found["image_auc"] <= 1


def test_without_a_tampered_image_what_is_undefined_is_none(manifest):
    found = own_metrics(Localizer(Brightness(), "pad"), read_manifest(manifest)[2:])
    assert found["dice"] is None and found["hd95"] is None and found["mcc"] == 0
    empty = own_metrics(Localizer(Brightness(), "pad"), [])
    assert empty["pixel_accuracy"] is None
    text = format_scores(
        {
            "protocols": {"mpc": {"f1": 0.5, "iou": 0.25}},
            "null_splices": {"n": 4, "f1": 0.125, "iou": 0.1, "auc": None},
            "own_metrics": empty,
        }
    )
    assert "mpc       0.500  0.250" in text and "null splices (4): F1 0.125, pixel AUC –" in text and "dice –" in text


@pytest.mark.parametrize("counts", [(5, 1, 2, 90), (0, 0, 3, 4), (7, 0, 3, 0)])
def test_matthews(counts):
    tp, fp, fn, tn = counts
    truth = [1] * tp + [0] * fp + [1] * fn + [0] * tn
    marked = [1] * (tp + fp) + [0] * (fn + tn)
    assert matthews(Counts(*counts)) == pytest.approx(matthews_corrcoef(truth, marked))


def test_hausdorff_distance_of_borders():
    truth = np.zeros((40, 40), bool)
    truth[10:20, 10:20] = True
    assert hausdorff95(truth, truth) == 0
    assert hausdorff95(np.roll(truth, 7, 1), truth) == pytest.approx(7)
    assert hausdorff95(np.zeros_like(truth), truth) == 50 and hausdorff95(truth, np.zeros_like(truth)) == 50
    outer, rng = np.ones_like(truth), np.random.default_rng(0)
    noisy = truth | (rng.random(truth.shape) < 0.02)

    def border(region):  # every pixel with a neighbour, or the image's edge, outside
        padded = np.pad(region, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(region & ~inner)

    for marked in (outer, noisy):
        a, b = border(marked), border(truth)
        apart = np.linalg.norm(a[:, None] - b[None], axis=2)
        expected = np.percentile(np.concatenate([apart.min(1), apart.min(0)]), 95)
        assert hausdorff95(marked, truth) == pytest.approx(expected, abs=1e-4)


def test_figures_of_a_run_of_the_comparison():
    run = {
        "parameters": {"arm": "pclmix"},
        "recipe": {"choice": {"arm": "pclmix"}},
        "seconds": 90.0,
        "average": {"f1": 0.4, "iou": 0.3},
        "sets": {"a": {"n": 3, "auc": 0.9}, "b": {"n": 1, "auc": 0.5}, "c": {"n": 7, "auc": None}},
        "protocols": {"best_threshold": {"f1": 0.6, "iou": 0.5}},
        "null_splices": {"n": 8, "f1": 0.2, "iou": 0.1, "auc": 0.55},
        "image_level": {"auc": 0.7, "false_alarm_rate": 0.9},
        "own_metrics": {"dice": 0.4, "image_auc": 0.1},
    }
    assert arm_of(run) == "pclmix"
    assert arm_of({**run, "parameters": {"arm": "pclmix", "pclmix.mix_label_rule": "splice"}}) is None
    assert arm_of({**run, "parameters": {}, "recipe": {"choice": {"arm": "mpc"}}}) == "mpc"
    figures = figures_of(run)
    assert figures["auc"] == pytest.approx(0.8) and figures["minutes"] == 1.5 and figures["null_f1"] == 0.2
    assert (figures["image_auc"], figures["head_image_auc"], figures["false_alarms"]) == (0.7, 0.1, 0.9)
