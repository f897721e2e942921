"""PPPC: every pixel is a Gaussian, every class a Gaussian prototype, and contrast compares the two in closed form.

Two heads give each pixel a mean μ on the unit sphere and a log-variance s in (0,1) for every channel, σ² = eˢ. How
alike two Gaussians are is their expected likelihood, E = ∫ N(z; μ₀, σ₀²) N(z; μ₁, σ₁²) dz, which needs no samples.

Source: Hao et al., "Probabilistic Prototypical Pixel Contrast", arXiv 2409.18543, by its released code. The release
lacks the file that makes the prototypes; their rule is that of its acknowledged parent, PRCL (Eqs. 7-8 there).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.views import IGNORE, wide
from mpc_lite.errors import InputError

FLOOR = 1e-6  # the released heads and distances keep logarithms and roots this far from zero


class Gaussians(NamedTuple):
    """Diagonal Gaussians: mean and log_variance, tensors of one shape, (N,D) or (B,D,h,w)."""

    mean: Tensor
    log_variance: Tensor


# ----------------------------------------------------------------------------------------------------------- similarity


def _likelihood(d2: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
    both = torch.logaddexp(s0, s1)  # log(σ₀² + σ₁²)
    return -(d2 * torch.exp(-both) + both) / 2


def _bhattacharyya(d2: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
    v0, v1 = s0.exp(), s1.exp()
    roots = torch.log(v0 + FLOOR) + torch.log(v1 + FLOOR)
    return -d2 / (v0 + v1) / 4 + (roots / 2 - torch.log(v0 + v1)) / 2


def _wasserstein(d2: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
    return -(d2 + torch.sqrt(s0.exp() + FLOOR) - s1.exp())


def _kl(d2: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
    return -(s1 - s0 + torch.exp(s0 - s1) + d2 * torch.exp(-s1)) / 2


def _js(d2: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
    return (_kl(d2, s0, s1) + _kl(d2, s1, s0)) / 2


# One channel's share, of the squared distance of the means and both log-variances. PPPC trains with the first. The
# others are in its release too, not all in their textbook form: its Bhattacharyya coefficient lacks ½ log 2, which a
# softmax does not see; "wasserstein" compares σ₀ with σ₁² and is not W₂²; "kl" is −KL − ½.
SIMILARITIES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "likelihood": _likelihood,
    "bhattacharyya": _bhattacharyya,
    "wasserstein": _wasserstein,
    "kl": _kl,
    "js": _js,
}


def gaussian_similarity(first: Gaussians, second: Gaussians, kind: str = "likelihood") -> Tensor:
    """How alike each Gaussian of one set is to each of another, the mean over the D channels.

        likelihood:  s(0,1) = −½ · mean_d [ (μ₀ − μ₁)² / (σ₀² + σ₁²) + log(σ₀² + σ₁²) ],   μ of length 1
        log E = D·s − (D/2) log 2π,   E = ∫ N(z; μ₀, σ₀²) N(z; μ₁, σ₁²) dz

    first: (N,D). second: (M,D). Both means are L2-normalised here: a prototype's is not of length 1 by itself.
    kind: one of `SIMILARITIES`.
    Returns (N,M), in fp32 unless the input is double.
    Raises InputError for sets that do not fit together or an unknown kind.
    Source: released code (PPPC), contrastive loss.
    """
    if kind not in SIMILARITIES:
        raise InputError(f"similarity {kind!r}: expected one of {', '.join(SIMILARITIES)}")
    a, b, c, d = (tuple(x.shape) for x in (*first, *second))
    if len(a) != 2 or len(c) != 2 or a != b or c != d or a[1] != c[1]:
        raise InputError(f"mean and log_variance {a}, {b} with {c}, {d}: expected (N,D) twice and (M,D) twice")
    mean0, s0, mean1, s1 = (x.to(wide(x.dtype)) for x in (*first, *second))
    d2 = (F.normalize(mean0)[:, None] - F.normalize(mean1)[None]) ** 2
    return SIMILARITIES[kind](d2, s0[:, None], s1[None]).mean(-1)


# ----------------------------------------------------------------------------------------------------------------- loss

# Released: a mean over D channels, divided by 100: what means can move is 2e-5 of ln 2; variances move little more.
PRESETS = {
    "lite": {"reduction": "sum", "temperature": 0.1},
    "released": {"reduction": "mean", "temperature": 100.0},
}


def pppc_loss(
    pixels: Gaussians,
    prototypes: Gaussians,
    labels: Tensor,
    valid: Tensor | None = None,
    preset: str = "lite",
    reduction: str | None = None,
    temperature: float | None = None,
    bottleneck_weight: float = 1e-6,
    kind: str = "likelihood",
) -> dict[str, Tensor]:
    """Each pixel is drawn to the prototype of its class and pushed from the others; no pixel and no negative is drawn.

        ℓ_i = −log softmax_k( s(i, k) / τ )[y_i],    prototype = mean over the classes present of mean_{i: y_i = k} ℓ_i
        bottleneck = w · Σ_{i,d} ½ ( μ² + σ² − log σ² − 1 ),   KL of each valid pixel to N(0,1), of μ as given

    pixels:     (B,D,h,w) twice. prototypes: (K,D) twice, without gradient as a rule.
    labels:     (B,H,W) 0 … K−1, 255 ignored; brought to (h,w) by nearest neighbour, source index floor(i·H/h).
    valid:      (K,) bool, which prototypes exist; None: all. A pixel of a class without one is ignored.
    preset:     "lite", or "released" for the constants that its code has; reduction and temperature override it.
    reduction:  "mean" or "sum" over the D channels in s. temperature: τ > 0.
    Returns {"prototype", "bottleneck", "total"}: scalars, in fp32 unless the input is double; attached zeros when no
    pixel is valid (the release: NaN).
    Raises InputError for shapes that do not fit together, an option out of range or, on the CPU, an unknown label.
    Source: released code (PPPC), contrastive loss; `lite` and `valid` are ours.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    reduction = PRESETS[preset]["reduction"] if reduction is None else reduction
    temperature = PRESETS[preset]["temperature"] if temperature is None else temperature
    if reduction not in ("mean", "sum"):
        raise InputError(f"reduction {reduction!r}: expected mean or sum")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature {temperature}: expected a number above 0")
    _check_pixels(pixels, labels, len(prototypes.mean))
    mean, s = (x.permute(0, 2, 3, 1).flatten(0, 2) for x in pixels)
    mean, s = mean.to(wide(mean.dtype)), s.to(wide(s.dtype))
    logits = gaussian_similarity(Gaussians(mean, s), prototypes, kind) / temperature
    logits = logits * mean.shape[1] if reduction == "sum" else logits
    members = _members(labels, pixels.mean.shape[2:], len(prototypes.mean))
    if valid is not None:
        logits, members = logits.masked_fill(~valid, -math.inf), members & valid
    counts = members.sum(0)
    # Ignored pixels and classes without a prototype must not become 0 · ∞ here.
    losses = torch.where(members, -torch.log_softmax(logits, 1), 0)
    prototype = (losses.sum(0) / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)
    to_normal = (mean**2 + s.exp() - s - 1).sum(1) / 2
    bottleneck = bottleneck_weight * torch.where(members.any(1), to_normal, 0).sum()
    return {"prototype": prototype, "bottleneck": bottleneck, "total": prototype + bottleneck}


def _check_pixels(pixels: Gaussians, labels: Tensor, classes: int) -> None:
    shapes = [tuple(x.shape) for x in pixels]
    if shapes[0] != shapes[1] or len(shapes[0]) != 4 or labels.ndim != 3 or len(labels) != shapes[0][0]:
        raise InputError(f"pixels {shapes} with labels {tuple(labels.shape)}: expected (B,D,h,w) twice and (B,H,W)")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # on a GPU the look would cost a wait
        strange = (labels != IGNORE) & ((labels < 0) | (labels >= classes))
        if strange.any():
            raise InputError(
                f"labels hold {labels[strange][0].item():g}; expected 0 to {classes - 1}, one for each prototype, or "
                f"{IGNORE} (ignored)"
            )


def _members(labels: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """labels (B,H,W) -> (B·h·w, K) bool: which class each pixel of the map belongs to, if any."""
    labels = F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest").flatten()
    return labels[:, None] == torch.arange(classes, device=labels.device)


# ----------------------------------------------------------------------------------------------------------- the heads


class LogVarianceHead(nn.Module):
    """(B,C,h,w) -> log-variances (B,D,h,w) in (0,1); with rows of the weights of length 1:

        s = sigmoid( log( eˣ + 1e-6 ) ),    x = γ · BN( W₂ ReLU( BN( W₁ f ) ) ) + β

    Source: released code (PPPC); there σ² = eˢ, so 1 < σ² < e. (In PRCL the same output is σ² itself.)
    """

    def __init__(self, channels: int, dimensions: int):
        super().__init__()
        self.fc1 = nn.Parameter(nn.init.kaiming_normal_(torch.empty(dimensions, channels)))
        self.fc2 = nn.Parameter(nn.init.kaiming_normal_(torch.empty(dimensions, dimensions)))
        self.bn1, self.bn2 = nn.BatchNorm2d(dimensions), nn.BatchNorm2d(dimensions, affine=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.bn1(F.conv2d(features, F.normalize(self.fc1)[..., None, None])))
        x = self.gamma * self.bn2(F.conv2d(x, F.normalize(self.fc2)[..., None, None])) + self.beta
        # The release cuts x off at 80 before its exponential; log-add-exp cannot overflow.
        return torch.sigmoid(torch.logaddexp(x, torch.full_like(x, math.log(FLOOR))))


class GaussianHead(nn.Module):
    """Features (B,C,h,w) -> Gaussians (B,D,h,w): μ on the non-negative part of the unit sphere, s in (0,1).

    Source: released code (PPPC). A last ReLU makes μ non-negative, so two means are at most √2 apart.
    """

    def __init__(self, channels: int, dimensions: int):
        super().__init__()
        layers: list[nn.Module] = []
        for outputs in (channels, dimensions):
            layers += [nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.mean = nn.Sequential(*layers)
        self.log_variance = LogVarianceHead(channels, dimensions)

    def forward(self, features: Tensor) -> Gaussians:
        return Gaussians(F.normalize(self.mean(features)), self.log_variance(features))


# ------------------------------------------------------------------------------------------------------- the prototypes


class GaussianPrototypes(nn.Module):
    """One Gaussian a class, gathered from labelled pixels by precision weighting, without gradient.

        Λ_k ← ρ Λ_k + Σ_{i∈k} 1/σ_i²,    η_k ← ρ η_k + Σ_{i∈k} μ_i/σ_i²,    n_k ← ρ n_k + |k|
        μ̂_k = η_k / Λ_k,    σ̂²_k = 1/Λ_k ("posterior") or n_k/Λ_k ("harmonic")

    With ρ = 0 and "posterior" this is PRCL's rule: the normalised product of the class's Gaussians. That variance
    shrinks like 1/n, so a class looks certain for being large, and authentic pixels always are the large class; the
    harmonic mean of the pixels' variances, our default, does not. How PPPC sums over iterations is not known, since its
    release lacks the file; ρ is ours. A class that a batch does not show keeps its prototype.

    classes: K. dimensions: D. decay: ρ in [0,1].
    """

    def __init__(self, classes: int, dimensions: int, decay: float = 0.99, variance: str = "harmonic"):
        super().__init__()
        if not 0 <= decay <= 1 or variance not in ("harmonic", "posterior"):
            raise InputError(f"decay {decay}, variance {variance!r}: expected [0,1] and harmonic or posterior")
        self.decay, self.variance = decay, variance
        self.register_buffer("precision", torch.zeros(classes, dimensions))
        self.register_buffer("weighted_mean", torch.zeros(classes, dimensions))
        self.register_buffer("count", torch.zeros(classes))

    @torch.no_grad()
    def update(self, pixels: Gaussians, labels: Tensor) -> None:
        """Take in a batch: pixels (B,D,h,w) twice, labels (B,H,W) as for `pppc_loss`.

        Several processes take in their batches together. Raises InputError as `pppc_loss` does.
        """
        _check_pixels(pixels, labels, len(self.count))
        mean, s = (x.permute(0, 2, 3, 1).flatten(0, 2).to(self.precision.dtype) for x in pixels)
        members = _members(labels, pixels.mean.shape[2:], len(self.count)).T.to(mean.dtype)
        with torch.autocast(mean.device.type, enabled=False):  # thousands of pixels are summed here
            sums = torch.cat([members @ torch.exp(-s), members @ (mean * torch.exp(-s)), members.sum(1, True)], 1)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        precision, weighted_mean, count = sums.split([mean.shape[1], mean.shape[1], 1], 1)
        rest = torch.where(count > 0, self.decay, 1.0)
        self.precision.mul_(rest).add_(precision)
        self.weighted_mean.mul_(rest).add_(weighted_mean)
        self.count.mul_(rest[:, 0]).add_(count[:, 0])

    @property
    def valid(self) -> Tensor:
        """(K,) bool: the classes that have been seen."""
        return self.count > 0

    def gaussians(self) -> Gaussians:
        """(K,D) twice; zeros for a class that has not been seen, see `valid`."""
        precision = torch.where(self.valid[:, None], self.precision, 1.0)
        number = torch.where(self.valid, self.count, 1.0)[:, None]
        log_variance = (number.log() if self.variance == "harmonic" else 0) - precision.log()
        return Gaussians(self.weighted_mean / precision, log_variance)
