"""The forward pass of a network that localizes: pixels in [0,1] to scores in [0,1], in evaluation mode."""

import os
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mpc_lite.errors import InputError, UnfitImage, shortened
from mpc_lite.files import MAX_PIXELS, pixel_limit, too_many_pixels
from mpc_lite.images import read_image
from mpc_lite.network.folding import folded
from mpc_lite.network.tree import modules_of

MOST_AT_ONCE = 4  # images; each holds the maps of a network and the photo, and more threads share an image well


def device_of(model: nn.Module) -> torch.device:
    """Where the network's weights lie; the CPU for one without weights."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def network_scores(model: nn.Module, images: Tensor) -> Tensor:
    """images (B,3,h,w) float32 in [0,1] -> scores (B,1,·,·) float32 in [0,1] at the network's stride: its sigmoid.

    The network runs in eval mode, folded, on its own device, and is left in the mode it had. InputError for one that
    was turned to other numbers than float32 and does not bring the images to them.
    """
    was_training, learns = model.training, any(module.training for module in modules_of(model))
    if learns:
        model.eval()
    try:
        with torch.inference_mode():
            return torch.sigmoid(folded(model)(images.to(device_of(model))).float())
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
        if not kinds:
            raise
        text = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise InputError(
            f"the network's weights are {text}, and the images it is given float32; give it as network.float()"
        ) from error
    finally:
        if learns:
            model.train(was_training)


def images_at_once(model: object) -> int:
    """How many images `model` may be given at a time, in threads of their own: as many as PyTorch's threads, at most 4.

    1 for what does not compute on the CPU, and for what is not known to bear it: other networks and callables, unless
    they have a true attribute `bears_threads`.
    """
    known = isinstance(model, nn.Module) and device_of(model).type == "cpu" and folded(model) is not model
    return min(MOST_AT_ONCE, torch.get_num_threads()) if getattr(model, "bears_threads", known) else 1


def stretch_map(
    model: nn.Module, image: np.ndarray, size: int = 512, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Score map of one photo, the paper's way: image (H,W,3) uint8 RGB -> (H,W) float32 in [0,1], 1 = tampered.

    Divide by 255, squash to size×size (bilinear, the aspect is lost), network, sigmoid, back to H×W (bilinear), or to
    `shape` = (H,W) of the mask where the photo itself was resized.
    Source: MPC, released code, stage-2 test. The network runs in eval mode and is left in the mode it had.
    """
    check_shape(shape)
    # Channel by channel, so that a 24-megapixel photo does not become 288 MB of floats.
    planes = [np.float32(image[..., c]) / np.float32(255) for c in range(3)]
    planes = [cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR) for plane in planes]
    scores = network_scores(model, torch.from_numpy(np.stack(planes))[None])[0, 0].cpu().numpy()
    height, width = shape or image.shape[:2]
    return np.clip(cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def check_shape(shape: tuple[int, int] | None) -> None:
    """InputError for what is no (height, width) of a map, or one of more pixels than a photo may have; None passes."""
    if shape is None:
        return
    whole = isinstance(shape, tuple | list) and len(shape) == 2
    if not whole or not all(isinstance(side, Integral) and not isinstance(side, bool) and side > 0 for side in shape):
        raise InputError(f"a map of shape {shortened(shape)}; expected (height, width), whole numbers of at least 1")
    if shape[0] * shape[1] > (limit := max(MAX_PIXELS, pixel_limit(0))):
        raise InputError(f"a map of shape {shortened(shape)}; expected (height, width) of at most {limit} pixels")


def resized(score_map: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
    """A score map (H,W) brought to `shape`, bilinear; itself if it has it, or for None."""
    if shape is None or tuple(shape) == score_map.shape:
        return score_map
    return cv2.resize(np.asarray(score_map, np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)


def pixels_of(photo: str | Path | np.ndarray) -> np.ndarray:
    """A photo as (H,W,3) uint8 RGB, read where it is a path; InputError for anything else."""
    if isinstance(photo, str | os.PathLike):
        return read_image(photo)
    if not isinstance(photo, np.ndarray):
        kind = f"{type(photo).__module__}.{type(photo).__qualname__}"
        raise InputError(
            f"a photo of type {kind}; expected a path or an array (H, W, 3) uint8 RGB, of a Pillow image "
            "np.asarray(image.convert('RGB'))"
        )
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise InputError(f"image of shape {photo.shape} and type {photo.dtype}; expected (H, W, 3) uint8 RGB")
    return photo


def mirrored(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A photo (h,w,3) mirrored beyond its right and lower border to (height, width); itself if it has that size.

    UnfitImage where a strip would become many times its size, and that is more than a short file may hold.
    """
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    if height * width > 2 * h * w and (problem := too_many_pixels(width, height)):
        raise UnfitImage(f"a picture of {w}×{h} pixels is mirrored to {problem}")
    return np.pad(image, ((0, height - h), (0, width - w), (0, 0)), mode="reflect")
