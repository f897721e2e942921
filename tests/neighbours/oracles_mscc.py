"""MSCC's module with loops: one image, one group, one pixel, one sum at a time, in float64, without the package."""

import math

import numpy as np


def bank_oracle(height, width, bases):
    """(bases², height, width), each cell from the definition of the orthonormal DCT-II."""
    bank = np.zeros((bases * bases, height, width))
    for u in range(bases):
        for v in range(bases):
            for h in range(height):
                for w in range(width):
                    rows = math.sqrt((1 if u == 0 else 2) / height) * math.cos(math.pi * u * (h + 0.5) / height)
                    columns = math.sqrt((1 if v == 0 else 2) / width) * math.cos(math.pi * v * (w + 0.5) / width)
                    bank[u * bases + v, h, w] = rows * columns
    return bank


def module_oracle(x, state, groups, bases):
    """x (B,C,H,W) and the module's state in evaluation mode, NumPy arrays -> M, Z, Z'', P, O, coarse map, features."""
    images, channels, height, width = x.shape
    bank, c = bank_oracle(height, width, bases), channels // groups
    run = channels // len(bank)
    classes = len(state["coarse.4.bias"])
    maps = np.zeros((images, groups, classes, height, width))
    centers = np.zeros((images, groups, classes, c))
    attention, features = np.zeros_like(maps), np.zeros((images, channels, height, width))
    coarse = np.full((images, classes, height, width), state["fuse.bias"][0])
    mixed = np.zeros_like(centers)
    for b in range(images):
        for g in range(groups):
            for h in range(height):
                for w in range(width):
                    s = [x[b, i, h, w] * bank[i // run, h, w] for i in range(g * c, (g + 1) * c)]
                    hidden = norm_oracle(state["coarse.0.weight"][:, :, 0, 0] @ s, state, "coarse.1")
                    logits = state["coarse.4.weight"][:, :, 0, 0] @ hidden + state["coarse.4.bias"]
                    maps[b, g, :, h, w] = logits
                    coarse[b, :, h, w] += state["fuse.weight"][0, g, 0, 0] * logits
                    for k in range(classes):
                        centers[b, g, k] += logits[k] * np.asarray(s)
        for g in range(groups):
            summed = centers[b, g].copy()
            for other in range(groups):
                summed += state["mix_groups.weight"][g, other, 0, 0] * centers[b, other]
            mixed[b, g] = np.maximum(summed, 0) @ state["mix_channels.weight"].T
            for h in range(height):
                for w in range(width):
                    scores = [float(x[b, g * c : (g + 1) * c, h, w] @ center) for center in mixed[b, g]]
                    weights = np.exp(np.asarray(scores) - max(scores))
                    attention[b, g, :, h, w] = weights / weights.sum()
                    features[b, g * c : (g + 1) * c, h, w] = attention[b, g, :, h, w] @ mixed[b, g]
    kernel = np.concatenate([state["on_pixels.weight"], state["on_centers.weight"]], 1)
    both = np.pad(np.concatenate([x, features], 1), ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((images, len(kernel), height, width))
    for b in range(images):
        for h in range(height):
            for w in range(width):
                sums = [float((both[b, :, h : h + 3, w : w + 3] * one).sum()) for one in kernel]
                out[b, :, h, w] = norm_oracle(np.asarray(sums), state, "normalise.0")
    return maps, centers, mixed, attention, features, coarse, out


def norm_oracle(values, state, name):
    """ReLU of the batch norm in evaluation mode."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return np.maximum((values - mean) / np.sqrt(variance + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"], 0)
