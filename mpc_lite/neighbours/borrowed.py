"""Ideas that a summary of MPC named and MPC does not have: what they would mean here. Nothing uses them unless asked.

Each is "in the style of" a paper of another field, reduced to what makes sense for a forged photograph:
    `pixel_distillation`   pixel-wise contrastive distillation (PCD, Huang & Guo, arXiv 2211.00218)
    `PixelContextGate`     pyramid pixel context adaption (PPCANet, Zhang et al., arXiv 2303.01917)
    `AsymmetricScale`      multi-level asymmetric contrastive learning (MACL, Zeng et al., arXiv 2309.11876)
    `view_pair`            "multiple image scales or rotations", a phrase without a paper: MPC's views are two passes
                           with DropPath and four scales of one image, never a turned or resized one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpc_lite.contrast.sampling import check_temperature
from mpc_lite.contrast.views import unit_vectors, wide
from mpc_lite.errors import InputError

Encode = Callable[[Tensor], Tensor | Sequence[Tensor]]
DOWN = 4  # the dominant branch of `AsymmetricScale` sees a quarter of each side


def pixel_distillation(
    student: Tensor, teacher: Tensor, queue: Tensor, temperature: float = 0.2, targets: str = "hard"
) -> Tensor:
    """In the style of PCD: each pixel of a student finds the teacher's pixel of its place among image vectors.

        hard:  mean_i −log p(s_i)_0,    soft:  mean_i KL(p(t_i) ‖ p(s_i)),    p(x_i) = softmax(x_i·[t_i, Q] / τ)

    "hard" is PCD's. Its minimum is not the teacher: the queue pushes a student that has arrived still further. "soft"
    is zero, its minimum, exactly where student and teacher agree (ours; with τ → 0 for the teacher it is "hard").

    student, teacher: (B,D,h,w), one view of one batch, any length: unit vectors are made here. No gradient reaches the
    teacher. queue: (M,D) unit vectors, the teacher's means of other images (`pclmix_queue.ClassQueue` of one class).
    PCD's SpatialAdaptor, which turns a head on vectors into one on maps, would be the identity: ours are convolutions.
    Returns a scalar. Raises InputError for shapes that do not fit, a temperature that is not positive, unknown targets.
    """
    check_temperature(temperature, learns=True)
    if student.ndim != 4 or student.shape != teacher.shape or queue.ndim != 2 or queue.shape[1] != student.shape[1]:
        shapes = f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, queue {tuple(queue.shape)}"
        raise InputError(f"{shapes}: expected (B,D,h,w) twice and (M,D); project the student to the teacher's channels")
    if targets not in ("hard", "soft"):
        raise InputError(f"targets {targets!r}: expected hard or soft")
    s, t = (unit_vectors(x).flatten(2).transpose(1, 2).flatten(0, 1) for x in (student, teacher.detach()))
    candidates = queue.detach().to(s.dtype).T

    def log_share(x: Tensor) -> Tensor:
        logits = torch.cat([(x * t).sum(1, keepdim=True), x @ candidates], 1) / temperature
        return logits.to(wide(logits.dtype)).log_softmax(1)

    if targets == "hard":
        return -log_share(s)[:, 0].mean()
    return F.kl_div(log_share(s), log_share(t), reduction="batchmean", log_target=True)


class PixelContextGate(nn.Module):
    """In the style of PPCANet: each pixel is weighted by its own channels, averaged in groups of several sizes.

        y = x · 2σ( b + Σ_s w_s · norm(c_s) ),    c: the means of 1, 2, 4 … groups of channels, norm over the image

    "Pyramid" means groups of channels, no pyramid of images. All pixels share the weights, which start at zero: the
    gate is the identity, bit by bit, until it learns otherwise. Group sizes, shared weights and the factor 2 are ours;
    the paper's integration could not be verified.

    channels: D, a multiple of each number in `groups`.
    """

    def __init__(self, channels: int, groups: Sequence[int] = (1, 2, 4)):
        super().__init__()
        if not groups or any(g < 1 or channels % g for g in groups):
            raise InputError(f"groups {tuple(groups)} of {channels} channels: expected divisors of {channels}")
        self.groups = tuple(groups)
        self.combine = nn.Conv2d(sum(groups), 1, 1)
        nn.init.zeros_(self.combine.weight)
        nn.init.zeros_(self.combine.bias)

    def context(self, x: Tensor) -> Tensor:
        """(B,D,h,w) -> (B,S,h,w), S the sum of `groups`: the mean of each group of channels at each pixel."""
        return torch.cat([x.unflatten(1, (g, -1)).mean(2) for g in self.groups], 1)

    def forward(self, x: Tensor) -> Tensor:
        context = self.context(x)
        centred = context - context.mean((2, 3), keepdim=True)
        normal = centred * (centred.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()
        return x * (2 * self.combine(normal).sigmoid())


def position_contrast(
    first: Tensor, second: Tensor, temperature: float = 0.1, max_positions: int = 256, keys: Tensor | None = None
) -> Tensor:
    """InfoNCE of two maps of one batch: a pixel's positive is the pixel of its place in the other map, its negatives
    are all other drawn pixels of its image in both. With N places it is log(2N − 1) when all pixels are equal.

    first, second: (B,D,h,w). keys: (B,h·w) uniform random numbers, whose largest N = min(max_positions, h·w) say which
    places; None draws them. Returns a scalar. InputError: shapes that differ, fewer than two places.
    """
    check_temperature(temperature, learns=True)
    if first.ndim != 4 or first.shape != second.shape:
        raise InputError(f"maps {tuple(first.shape)} and {tuple(second.shape)}: expected one shape (B,D,h,w)")
    batch, channels, height, width = first.shape
    n = min(max_positions, height * width)
    if n < 2:
        raise InputError(f"{n} place to compare: expected two, so maps or max_positions of at least 2")
    if keys is None:
        keys = torch.rand(batch, height * width, device=first.device)
    places = keys.topk(n, dim=1).indices[:, None].expand(-1, channels, -1)
    rows = torch.cat([unit_vectors(x).flatten(2).gather(2, places) for x in (first, second)], 2).transpose(1, 2)
    logits = torch.bmm(rows / temperature, rows.transpose(1, 2)).to(wide(rows.dtype))  # (B,2N,2N)
    itself = torch.eye(2 * n, dtype=torch.bool, device=first.device)
    partner = (torch.arange(2 * n, device=first.device) + n) % (2 * n)
    return F.cross_entropy(logits.masked_fill(itself, -math.inf).flatten(0, 1), partner.repeat(batch))


class AsymmetricScale(nn.Module):
    """In the style of MACL: one encoder sees the image whole and at a quarter of its sides; the small image's map alone
    passes through a decoder, two blocks that double the size, up to the grid of the whole image's.

    MACL's positives are slices at similar heights of a body; photographs have none, so here the positive is the same
    place of the same image. Averaging an image down destroys traces of forgery: an ablation, no advice.
    """

    def __init__(self, channels: int, temperature: float = 0.1, max_positions: int = 256):
        super().__init__()
        self.temperature, self.max_positions = temperature, max_positions
        blocks = [
            layer
            for _ in range(2)
            for layer in (
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
        ]
        self.decoder = nn.Sequential(*blocks, nn.Conv2d(channels, channels, 1))

    def forward(self, encode: Encode, images: Tensor) -> dict[str, Tensor]:
        """encode: images -> maps, of which the first counts. images: (B,C,H,W), H and W multiples of 16.

        Returns {"contrast": `position_contrast` of the decoder's map with the whole image's, "equivariance": mean
        |encode(small) − small(encode)|, zero for an encoder that commutes with averaging 4×4 pixels}. InputError:
        other sides.
        """
        height, width = images.shape[2:]
        if height % DOWN**2 or width % DOWN**2:
            raise InputError(f"images of {height} x {width}: expected sides that are multiples of {DOWN**2}; crop them")
        whole, small = (_maps(encode(x))[0] for x in (images, F.avg_pool2d(images, DOWN)))
        contrast = position_contrast(self.decoder(small), whole, self.temperature, self.max_positions)
        return {"contrast": contrast, "equivariance": (small - F.avg_pool2d(whole, DOWN)).abs().mean()}


def turned(x: Tensor, code: int) -> Tensor:
    """One of the eight symmetries of a square, of (B,C,h,w): bit 2 of `code` transposes, bit 1 flips rows, bit 0
    columns, as in `on_device.dihedral`. InputError: a code outside 0-7."""
    if not 0 <= code < 8:
        raise InputError(f"turn {code}: expected 0 to 7")
    x = x.transpose(2, 3) if code & 4 else x
    x = x.flip(2) if code & 2 else x
    return x.flip(3) if code & 1 else x


def view_pair(encode: Encode, images: Tensor, turn: int = 0, scale: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Maps of the changed images beside the changed maps of the images: equal for an encoder that commutes with both.

    The change averages scale × scale pixels, then turns or mirrors (`turned`). Turns and mirrors move pixels and
    make none, but where sides are no multiples of 8 they move JPEG's grid against the image's corner. Averaging is a
    trace of its own.
    images: (B,C,H,W). Returns a pair of (B,D,h,w) for each map. InputError: sides that the encoder's stride and
    `scale` do not divide, so that the two have different sizes.
    """
    if scale < 1:
        raise InputError(f"scale {scale}: expected 1 or a whole number above")

    def change(x: Tensor) -> Tensor:
        return turned(F.avg_pool2d(x, scale) if scale > 1 else x, turn)

    pairs = [(a, change(b)) for a, b in zip(_maps(encode(change(images))), _maps(encode(images)), strict=True)]
    for a, b in pairs:
        if a.shape != b.shape:
            raise InputError(
                f"a map of {tuple(a.shape[2:])} beside one of {tuple(b.shape[2:])}: images of "
                f"{tuple(images.shape[2:])} do not divide by {scale} and the encoder's stride; pad or crop them"
            )
    return pairs


def equivariance(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """½‖a/|a| − b/|b|‖² = 1 − cos(a,b), the mean over pixels and then over the pairs of `view_pair`; in [0,2]."""
    losses = [(unit_vectors(a) - unit_vectors(b)).square().sum(1).mean() / 2 for a, b in pairs]
    return torch.stack(losses).mean()


def _maps(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [output] if isinstance(output, Tensor) else output
