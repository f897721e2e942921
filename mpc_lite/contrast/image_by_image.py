"""The official loss in the memory of one image: its gradient is formed on the way, straight into that of the maps.

Where each image is computed by itself, nothing of it must wait for the next one. Its drawn pixels are gathered, scaled
to unit length, compared, and their gradient is added to the maps' before the next pixels are gathered; whole maps of
unit vectors, and the gradients of all terms side by side, never exist. What is left for the backward pass is a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mpc_lite.contrast.views import Term, differentiable_once, unit_vectors, wide

Contrast = Callable[[Tensor, Tensor], Tensor]  # unit vectors (1,n,D), (1,m,D) -> (1,)


def numbered(maps: Sequence[Tensor]) -> list[Tensor]:
    """For maps (B,D,h,w) as many (B,1,h,w) int64: the number of each pixel among those of all maps of its image.

    `draw_terms` of these draws places in place of embeddings."""
    made, first = [], 0
    for m in maps:
        pixels = m.shape[2] * m.shape[3]
        made.append(torch.arange(first, first + pixels).view(1, 1, *m.shape[2:]).expand(len(m), -1, -1, -1))
        first += pixels
    return made


def image_by_image(
    maps: Sequence[Tensor], drawn: Sequence[Sequence[Term]], counted: Tensor, contrast: Contrast
) -> tuple[Tensor, ...]:
    """The value of each view for each image, a (B,) for each of `drawn`; zeros for images that do not count.

    maps: (B,D,h,w) each, not normalised. drawn: for each view its terms, of places as `numbered(maps)` counts them.
    counted: (B,) bool. contrast: the loss of one term, differentiable.
    """
    return _ImageByImage.apply(drawn, counted, contrast, torch.is_grad_enabled(), *maps).unbind(0)


class _ImageByImage(torch.autograd.Function):
    """(views, B). The gradient that is formed on the way is that of the plain sum over views, which is what training
    asks for, times a factor of each image. Asked for any other sum, or a second time, it sweeps again."""

    @staticmethod
    def forward(ctx, drawn, counted, contrast, grads, *maps):
        wanted = [grads and needed for needed in ctx.needs_input_grad[4:]]
        values, ctx.formed = _sweep(maps, drawn, counted, contrast, wanted)
        ctx.plan = drawn, counted, contrast, wanted, _autocast()
        ctx.save_for_backward(*maps)
        return values

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        drawn, counted, contrast, wanted, autocast = ctx.plan
        formed, ctx.formed = ctx.formed, None
        if formed is None or not bool((grad == grad[:1]).all()):
            with autocast():
                _, formed = _sweep(ctx.saved_tensors, drawn, counted, contrast, wanted, grad)
        else:
            for rows in formed:
                if rows is not None:  # in place: these are as large as the maps
                    rows.mul_(grad[0].to(rows.dtype)[:, None, None])
        return None, None, None, None, *(_as_map(*pair) for pair in zip(formed, ctx.saved_tensors, strict=True))


def _sweep(
    maps: Sequence[Tensor],
    drawn: Sequence[Sequence[Term]],
    counted: Tensor,
    contrast: Contrast,
    wanted: Sequence[bool],
    weights: Tensor | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """Values (views, B), and for the maps wanted the gradient (B,h·w,D) of their sum, weighted by `weights`."""
    fine = wide(maps[0].dtype)
    values = torch.zeros(len(drawn), len(counted), dtype=fine)
    shapes = [(len(m), m[0, 0].numel(), m.shape[1]) for m in maps]
    formed = [torch.zeros(s, dtype=fine) if want else None for s, want in zip(shapes, wanted, strict=True)]
    for i in counted.nonzero().flatten().tolist():
        rows = [m[i].flatten(1).T for m in maps]
        for v, terms in enumerate(drawn):
            factor = 1.0 if weights is None else weights[v, i]
            for anchors, _, negatives in terms:
                pools = [pixels.embeddings[i, pixels.valid[i], 0].sort().values for pixels in (anchors, negatives)]
                values[v, i] += _one_term(rows, pools, contrast, [f if f is None else f[i] for f in formed], factor)
    return values, formed


def _one_term(
    rows: list[Tensor], pools: list[Tensor], contrast: Contrast, formed: list[Tensor | None], factor: float | Tensor
) -> Tensor:
    """The value of a term of one image; its gradient, times the factor, is added to `formed`."""
    places = [_shares(pool, rows) for pool in pools]
    chosen = [torch.cat([rows[k].index_select(0, at) for k, at in shares]) for shares in places]
    learns = any(formed[k] is not None for shares in places for k, _ in shares)
    with torch.set_grad_enabled(learns):
        value = factor * contrast(*(_unit(pixels.requires_grad_(learns)) for pixels in chosen)).sum()
    if learns:
        for shares, grad in zip(places, torch.autograd.grad(value, chosen), strict=True):
            for (k, at), part in zip(shares, grad.split([len(at) for _, at in shares]), strict=True):
                if formed[k] is not None:
                    formed[k].scatter_add_(0, at[:, None].expand_as(part), part.to(formed[k].dtype))
    return value.detach()


def _shares(pool: Tensor, rows: list[Tensor]) -> list[tuple[int, Tensor]]:
    """Sorted places among the pixels of all maps -> the maps they are in, and the places there."""
    first, found = 0, []
    for k, pixels in enumerate(rows):
        low, high = torch.searchsorted(pool, torch.tensor([first, first + len(pixels)])).tolist()
        if high > low:
            found.append((k, pool[low:high] - first))
        first += len(pixels)
    return found or [(0, pool)]  # an empty pool


def _unit(pixels: Tensor) -> Tensor:
    """(n,D) -> (1,n,D) of unit length."""
    return unit_vectors(pixels[:, :, None, None]).flatten(1)[None]


def _as_map(rows: Tensor | None, like: Tensor) -> Tensor | None:
    """(B,h·w,D) as a map (B,D,h,w), in memory where channels come last; only a view."""
    return None if rows is None else rows.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2).to(like.dtype)


def _autocast() -> Callable[[], AbstractContextManager]:
    """Today's autocast, for the time when a backward pass has none of its own."""
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    return lambda: torch.autocast("cpu", dtype, enabled=enabled)
