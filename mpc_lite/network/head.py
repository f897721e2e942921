"""The localization head: from the encoder's maps to one logit a pixel."""

from importlib import import_module

from torch import Tensor, nn

HEADS = {"4conv": 3, "5conv": 4}  # how often the head halves its channels before the last convolution
# Heads of networks that the room `neighbours` adds, which stands on this one. Weights name a head, whoever opens them:
# such a network is imported when it is asked for, and nothing here knows what is in it.
ADDED = {
    "mscc": ("mpc_lite.neighbours.mscc.network", "MSCCNet"),
    "context": ("mpc_lite.neighbours.borrowed_network", "ContextNet"),
}
ALL_HEADS = (*HEADS, *ADDED)


def added_network(head: str) -> type[nn.Module]:
    """The class of a network of `ADDED`."""
    module, name = ADDED[head]
    return getattr(import_module(module), name)


class LocalizationHead(nn.Module):
    """1×1 convolutions on the concatenated maps: (B,4D,h,w) -> logits (B,1,h,w).

    4conv: BN, ReLU, 4D→2D, BN, ReLU, 2D→D, BN, ReLU, D→D/2, BN, ReLU, D/2→1. 5conv adds D/2→D/4, BN, ReLU before
    the last one. With D = 256 these are the two heads found in the released checkpoints.
    """

    def __init__(self, embedding: int, halvings: int):
        super().__init__()
        width = 4 * embedding
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        for _ in range(halvings):
            layers += [nn.Conv2d(width, width // 2, 1), nn.BatchNorm2d(width // 2), nn.ReLU(inplace=True)]
            width //= 2
        self.classifier = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x)
