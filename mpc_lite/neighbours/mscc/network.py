"""MSCCNet as an `MPC`: the same encoder, and MSCCNet's head in place of MPC's; `MPC.build(size, "mscc")` makes it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mpc_lite.errors import InputError
from mpc_lite.neighbours.mscc.attention import CLASSES, MSCCHead
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC


def tampered_logit(logits: Tensor) -> Tensor:
    """Two-class logits (B,2,…) -> (B,1,…), the logit of "tampered": softmax over two is the sigmoid of z₁ − z₀.

    Raises InputError for another number of classes.
    """
    if logits.ndim < 2 or logits.shape[1] != CLASSES:
        raise InputError(
            f"logits {tuple(logits.shape)}: expected (B, {CLASSES}, …), authentic and tampered; "
            "one logit per pixel stands for two classes only"
        )
    return logits[:, 1:] - logits[:, :1]


class MSCCNet(MPC):
    """MPC's encoder with MSCCNet's head. Images (B,3,H,W) are RGB in [0,1], at least 32 pixels wide and high.

    All four maps of the encoder are levels, on the grid of the finest; the coarsest feeds the image's logits. Inside,
    the head has the encoder's D channels. (Released: the three deeper levels of a dilated ResNet-50, 512 channels.)
    """

    def __init__(self, size: str, head: str = "mscc"):
        super().__init__(size, head)

    def new_decoder(self) -> nn.Module:
        width = SIZES[self.size].embedding
        return MSCCHead((width,) * 4, width)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """images -> "mask" and "coarse" (B,2,ceil(H/4),ceil(W/4)), "image" (B,2): two-class logits."""
        return self.decoder(self.encode(images))

    def localize(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps as `encode` gives them, the finest (B,D,h,w) -> logits (B,1,h,w)."""
        return tampered_logit(self.decoder(maps)["mask"])
