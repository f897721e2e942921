"""Slow references for the contrastive loss: one anchor, one pixel, one image at a time, with loops and no tricks.

They take NumPy arrays in float64 and share no code with the package. An image's labels come ready-made for each scale.
At the end, tensors to try a loss on.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F


def resize_mask_oracle(mask, size, shift=(0.0, 0.0)):
    """Bilinear (pixel centres, edges clamped), tampered above 127/255; a cell with any ignored weight is ignored.

    shift: added to the places that are read, in source pixels, rows and columns.
    """
    height, width = mask.shape
    out = np.zeros(size, dtype=np.uint8)
    for y in range(size[0]):
        for x in range(size[1]):
            tampered, ignored = 0.0, False
            for row, row_weight in _corners(y, size[0], height, shift[0]):
                for column, column_weight in _corners(x, size[1], width, shift[1]):
                    weight = row_weight * column_weight
                    if weight > 0:
                        tampered += weight * (mask[row, column] == 1)
                        ignored |= mask[row, column] == 255
            out[y, x] = 255 if ignored else int(tampered > 127 / 255)
    return out


def _corners(i, size_out, size_in, shift):
    position = max((i + 0.5) * size_in / size_out - 0.5 + shift, 0.0)
    low = min(int(position), size_in - 1)
    part = position - low
    return [(low, 1 - part), (min(low + 1, size_in - 1), part)]


def pixels(maps, labels, target):
    """Unit vectors of all pixels labelled `target`; maps: list of (D,h,w), labels: list of (h,w)."""
    found = []
    for m, g in zip(maps, labels, strict=True):
        for y in range(g.shape[0]):
            for x in range(g.shape[1]):
                if g[y, x] == target:
                    vector = m[:, y, x]
                    length = math.sqrt(float(np.dot(vector, vector)))
                    found.append(vector / length if length > 0 else vector)
    return found


def infonce_oracle(anchors, negatives, temperature):
    """Mean over anchors of −log(e^p / (e^p + Σ e^n)), p the mean similarity to the other anchors; 0 when undefined."""
    if len(anchors) < 2 or not negatives:
        return 0.0
    total = 0.0
    for i, anchor in enumerate(anchors):
        positive = np.mean([np.dot(anchor, other) for k, other in enumerate(anchors) if k != i])
        numerator = math.exp(positive / temperature)
        total += -math.log(numerator / (numerator + sum(math.exp(np.dot(anchor, n) / temperature) for n in negatives)))
    return total / len(anchors)


def official_oracle(maps_a, maps_b, labels, temperature):
    """One image by the released formula: {"within_image", "cross_scale", "cross_modality"}; None: it does not count."""
    a1, t1 = (pixels(maps_a[:1], labels[:1], c) for c in (0, 1))
    if len(a1) < 2 or not t1:
        return None
    a234, t234 = (pixels(maps_a[1:], labels[1:], c) for c in (0, 1))
    a_hat, t_hat = (pixels(maps_b[:1], labels[:1], c) for c in (0, 1))
    return {
        "within_image": infonce_oracle(a1, t1, temperature),
        "cross_scale": infonce_oracle(a1, t234, temperature) + infonce_oracle(a234, t1, temperature),
        "cross_modality": infonce_oracle(a1, t_hat, temperature) + infonce_oracle(a_hat, t1, temperature),
    }


def paper_oracle(maps_a, maps_b, labels, temperature):
    """One image by MPC Eqs. 1-3: anchors of both classes, mean over anchors, then over the classes present."""
    anchors = [pixels(maps_a[:1], labels[:1], c) for c in (0, 1)]
    if not anchors[0] or not anchors[1]:
        return None
    pools = {
        "within_image": anchors,
        "cross_scale": [pixels(maps_a[1:], labels[1:], c) for c in (0, 1)],
        "cross_modality": [pixels(maps_b[:1], labels[:1], c) for c in (0, 1)],
    }
    return {name: _paper_view(anchors, pool, temperature, name == "within_image") for name, pool in pools.items()}


def _paper_view(anchors, pool, temperature, own_pool):
    classes = []
    for c in (0, 1):
        losses = []
        for i, anchor in enumerate(anchors[c]):
            positives = [x for k, x in enumerate(pool[c]) if not (own_pool and k == i)]
            if positives and pool[1 - c]:
                attraction = np.mean([math.exp(np.dot(anchor, x) / temperature) for x in positives])
                repulsion = sum(math.exp(np.dot(anchor, x) / temperature) for x in pool[1 - c])
                losses.append(-math.log(attraction / repulsion))
        if losses:
            classes.append(sum(losses) / len(losses))
    return sum(classes) / len(classes) if classes else 0.0


def batch_oracle(image_oracle, maps_a, maps_b, labels, temperature):
    """Mean over the images that count, zeros when none does; maps: list of (B,D,h,w), labels: list of (B,h,w)."""
    terms = []
    for i in range(maps_a[0].shape[0]):
        view = [[m[i] for m in maps] for maps in (maps_a, maps_b)]
        terms.append(image_oracle(view[0], view[1], [g[i] for g in labels], temperature))
    counted = [t for t in terms if t is not None]
    names = ("within_image", "cross_scale", "cross_modality")
    mean = {n: sum(t[n] for t in counted) / len(counted) if counted else 0.0 for n in names}
    return {**mean, "total": sum(mean.values())}


def focal_oracle(logits, target, alpha, gamma, ignore=255):
    """MPC Eq. 5, pixel by pixel, the mean over the pixels that are not ignored."""
    losses = []
    for logit, label in zip(logits.ravel(), target.ravel(), strict=True):
        if label != ignore:
            p = 1 / (1 + math.exp(-logit))
            losses.append(
                -alpha * (1 - p) ** gamma * label * math.log(p) - (1 - alpha) * p**gamma * (1 - label) * math.log(1 - p)
            )
    return sum(losses) / len(losses) if losses else 0.0


def unit(*shape, seed=0, dtype=torch.float64):
    """Random unit vectors along the last axis, a leaf with gradient."""
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return F.normalize(vectors, dim=-1).requires_grad_()


def valid_rows(shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.3
