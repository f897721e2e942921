"""The network of MPC: an HRFormer encoder whose pixels are embeddings, and a small head that scores them."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mpc_lite.errors import InputError
from mpc_lite.network.checks import check_values
from mpc_lite.network.folding import folded
from mpc_lite.network.head import ADDED, ALL_HEADS, HEADS, LocalizationHead, added_network
from mpc_lite.network.hrformer import SIZES, HRFormer
from mpc_lite.network.hub import at_revision
from mpc_lite.network.weights import fingerprint, load_strict, read_weights

_ADVICE = "train or download it anew"


class MPC(nn.Module):
    """Encoder and localization head. Images (B,3,H,W) are RGB in [0,1], without mean/std normalisation.

    Stage 1 trains the encoder on `encode`, twice per step on the same images: the DropPath noise of the two passes
    differs, and batch-norm statistics are updated twice per step (so does the released code).
    Stage 2 calls `freeze_encoder` and trains the head on `forward`.

    In evaluation mode and without gradients, on a CPU, it computes through a folded copy of itself
    (`mpc_lite.network.folding`): the same numbers up to rounding, faster. The copy holds the weights a second time.
    """

    foldable = True  # a batch norm listed right after a convolution normalises its output, here and in all parts

    def __init__(self, size: str, head: str = "4conv"):
        super().__init__()
        self.size, self.head = size, head
        self.encoder = HRFormer(SIZES[size])
        self.decoder = self.new_decoder()
        self.encoder_frozen = False
        self.recipe: dict = {}  # what the weights were trained with; set when they are loaded from a file

    @classmethod
    def build(cls, size: str, head: str = "4conv") -> "MPC":
        """New network with random weights. size: nano, small or base; head: 4conv or 5conv, or that of a neighbour's
        network, mscc or context, which then is what comes back. InputError otherwise."""
        for value, known, name in ((size, SIZES, "size"), (head, ALL_HEADS, "head")):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        return (added_network(head) if head in ADDED else MPC)(size, head)

    def new_decoder(self) -> nn.Module:
        """The head, which `localize` calls; networks with another one say so here."""
        return LocalizationHead(SIZES[self.size].embedding, HEADS[self.head])

    @classmethod
    def from_pretrained(cls, name_or_file: str | Path, revision: str | None = None) -> "MPC":
        """The network stored under a shipped name (`lite`, `lite-stage1`, `lite-initial`), in a checkpoint file, or on
        a hub (`hf://OWNER/NAME`, there of a revision; `mpc_lite.network.hub`)."""
        return load_weights(at_revision(name_or_file, revision))

    def encode(self, images: Tensor) -> list[Tensor]:
        """images (B,3,H,W) in [0,1] -> four raw maps (B,D,ceil(H/4),ceil(W/4)), … ceil(/8), ceil(/16), ceil(/32).

        The maps are not L2-normalised; the loss does that. ValueError if images are not 4-D with 3 channels.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(images.shape)}; expected (B, 3, H, W), RGB in [0, 1]")
        return self._computing(images).encoder(images)

    def forward(self, images: Tensor) -> Tensor:
        """images (B,3,H,W) in [0,1] -> logits (B,1,ceil(H/4),ceil(W/4)); sigmoid gives the score map."""
        network = self._computing(images)
        return network.localize(network.encode(images))

    def _computing(self, images: Tensor) -> "MPC":
        """The folded copy, on a CPU where nothing is learnt and nobody writes down what is computed, else itself."""
        watched = torch.compiler.is_compiling() or torch.jit.is_tracing() or _get_current_dispatch_mode() is not None
        if self.training or torch.is_grad_enabled() or watched or images.device.type != "cpu":
            return self
        return folded(self, read=True)

    def localize(self, maps: Sequence[Tensor]) -> Tensor:
        """The head on four maps as `encode` gives them, (B,D,h,w) the finest -> logits (B,1,h,w).

        The coarser maps are resized to the finest (bilinear, corners aligned) and concatenated fine to coarse.
        """
        finest, *coarser = maps
        shape = finest.shape[2:]
        resized = [F.interpolate(x, size=shape, mode="bilinear", align_corners=True) for x in coarser]
        return self.decoder(torch.cat([finest, *resized], dim=1))

    def freeze_encoder(self) -> "MPC":
        """Stage 2: the encoder gets no gradients, and stays in eval mode whatever `train()` says afterwards.

        Eval mode keeps batch-norm statistics as they are and switches DropPath off. (The released code leaves the
        encoder in train mode here, so that its statistics drift while only the head is trained.)
        """
        self.encoder_frozen = True
        self.encoder.requires_grad_(False).eval()
        return self

    def train(self, mode: bool = True) -> "MPC":
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self


def load_weights(name_or_file: str | Path) -> MPC:
    """Rebuild the network that a checkpoint describes, on the CPU, in evaluation mode; `model.recipe` is its recipe.

    name_or_file: shipped weights (`lite`, `lite-stage1`, `lite-initial`), the path of a file by `save_weights`, or such
    a file on a hub (`hf://OWNER/NAME`).
    InputError: unknown name; a file that is damaged, not ours, or says what cannot be; tensors that do not fit, hold
    NaN, or are not those the file was written with.
    """
    about, tensors = read_weights(name_or_file)
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten: a seeded run must not notice them
        model = MPC.build(about["size"], about["head"])
    check_values(str(name_or_file), model.state_dict(), tensors, _ADVICE)
    load_strict(model, tensors, source=str(name_or_file))
    if about.get("fingerprint", now := fingerprint(model)) != now:
        raise InputError(f"{name_or_file}: its tensors are not those it was written with; {_ADVICE}")
    model.recipe = about["recipe"]
    return model.eval()
