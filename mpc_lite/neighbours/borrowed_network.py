"""MPC's network with a borrowed gate between encoder and head; `MPC.build(size, "context")` makes it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mpc_lite.neighbours.borrowed import PixelContextGate
from mpc_lite.network.head import HEADS, LocalizationHead
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC


class ContextNet(MPC):
    """An MPC of head 4conv whose four maps each pass a `PixelContextGate` before the head. A new one computes what that
    MPC computes, bit by bit: its gates are the identity until they learn otherwise."""

    def __init__(self, size: str, head: str = "context"):
        super().__init__(size, head)
        self.gates = nn.ModuleList(PixelContextGate(SIZES[size].embedding) for _ in range(4))

    def new_decoder(self) -> nn.Module:
        return LocalizationHead(SIZES[self.size].embedding, HEADS["4conv"])

    def localize(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps as `encode` gives them, the finest (B,D,h,w) -> logits (B,1,h,w)."""
        return super().localize([gate(x) for gate, x in zip(self.gates, maps, strict=True)])
