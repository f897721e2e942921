"""Where the time goes: arithmetic, bytes and seconds of every operation that PyTorch calls, added up by kind.

An operation cannot be faster than its arithmetic at the machine's peak, nor than its bytes at the memory's bandwidth:
t ≥ max(F / P, Q / β). F is `counting`'s count; Q is what is read and written if every operand comes from memory once
and nothing stays in a cache. So Q is what an operation moves when it is called alone; a caller that keeps its data in
the cache can beat Q / β.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mpc_lite.cost.counting import FORMULAS

PRODUCTS, DENSE, DEPTHWISE = "matrix products and 1×1 convolutions", "3×3 convolutions", "depthwise convolutions"
ATTENTION, NORMS, POINTWISE, MOVES = "attention", "norms", "element by element", "copies and resizing"
KINDS = (PRODUCTS, DENSE, DEPTHWISE, ATTENTION, NORMS, POINTWISE, MOVES)
JOINED = ("_convolution_pointwise", "_convolution_pointwise_")  # oneDNN's with what follows; onto another map
_MOVES = ("copy", "clone", "cat", "pad", "index", "gather", "scatter", "upsample", "zeros", "fill", "stack", "select")


@dataclass
class Part:
    """Sums over the operations of one kind. bytes: every operand read once, every result written once."""

    calls: int = 0
    flops: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def bound(self, peak: float, bandwidth: float) -> float:
        """Seconds below which the part cannot come: max(F / P, Q / β), peak in FLOP/s, bandwidth in bytes/s."""
        return max(self.flops / peak, self.bytes / bandwidth)

    @property
    def intensity(self) -> float:
        """FLOP a byte."""
        return self.flops / self.bytes if self.bytes else math.inf


class Ledger(TorchDispatchMode):
    """Inside `with Ledger() as ledger:` each operation, of backward passes too, is entered: `ledger.parts[kind]`.

    Views cost nothing and are left out. Seconds are those of the operation itself, measured around its call; on a CPU
    it has ended then. On a GPU it has only been put into a queue, and seconds mean nothing.
    """

    def __init__(self):
        super().__init__()
        self.parts = {kind: Part() for kind in KINDS}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if function._overloadpacket not in flop_registry:  # an operation made of others, whole under inference_mode
            with self:
                result = function.decompose(*arguments, **keywords)
            if result is not NotImplemented:
                return result
        start = time.perf_counter()
        result = function(*arguments, **keywords)
        seconds = time.perf_counter() - start
        returned = function._schema.returns
        view = bool(returned) and returned[0].alias_info is not None and not returned[0].alias_info.is_write
        name = function._overloadpacket.__name__
        if view or name in ("detach", "empty", "empty_like", "new_empty", "empty_strided"):
            return result
        part = self.parts[_kind(name, arguments)]
        part.calls += 1
        part.flops += _flops(function, arguments, keywords, result)
        part.bytes += _bytes(arguments) + _bytes(keywords) + _bytes(result)
        part.seconds += seconds
        return result


def _kind(name: str, arguments: tuple) -> str:
    if "convolution" in name:
        weight = arguments[2] if "backward" in name or name in JOINED[1:] else arguments[1]
        if weight.shape[1] == 1 and weight.shape[0] > 1 and weight.shape[2] > 1:
            return DEPTHWISE
        return PRODUCTS if weight.shape[2:].numel() == 1 else DENSE
    if "scaled_dot_product" in name:
        return ATTENTION
    if "norm" in name and "vector" not in name:
        return NORMS
    if name.rstrip("_") in ("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "dot"):
        return PRODUCTS
    return MOVES if any(word in name for word in _MOVES) else POINTWISE


def _flops(function, arguments, keywords, result) -> int:
    if (name := function._overloadpacket.__name__) in JOINED:
        weight = arguments[1 + JOINED.index(name)]
        return 2 * result.numel() * weight[0].numel()
    formula = FORMULAS.get(function._overloadpacket)
    if formula is not None:
        shapes = [x.shape if isinstance(x, Tensor) else x for x in arguments]
        return formula(*shapes, out_shape=None)
    formula = flop_registry.get(function._overloadpacket)
    return 0 if formula is None else formula(*arguments, **keywords, out_val=result)


def _bytes(values) -> int:
    """Of all tensors in a structure; one that is expanded counts what it holds."""
    sizes = (min(x.nbytes, x.untyped_storage().nbytes()) for x in tree_leaves(values) if isinstance(x, Tensor))
    return sum(sizes)


def machine_peaks(side: int = 2048, megabytes: int = 256, rounds: int = 5) -> dict[str, float]:
    """What this machine reached just now: FLOP/s of one fp32 matrix product, bytes/s of one copy (read and write)."""
    a, b = torch.rand(side, side), torch.rand(side, side)
    source = torch.rand(megabytes * 10**6 // 4)
    target = torch.empty_like(source)
    product, copy = _shortest(lambda: torch.mm(a, b), rounds), _shortest(lambda: target.copy_(source), rounds)
    return {"flops_per_second": 2 * side**3 / product, "bytes_per_second": 2 * source.nbytes / copy}


def _shortest(run, rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
