"""Augmentation on the device: turns of image and mask, and a JPEG that agrees with the ones that write files."""

import csv
import warnings
from functools import lru_cache

import cv2
import numpy as np
import pytest
import torch
from torchvision import io

from mpc_lite.data.augment import pixels as augment_pixels
from mpc_lite.data.augment.on_device import augment, dihedral, jpeg, turned_mask
from mpc_lite.forgeries.scenes import packaged_file
from mpc_lite.images import read_image

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "china.jpg", "flower.jpg")
QUALITIES = range(50, 100, 5)
SIZES = (128, 250)  # the second is no multiple of a block's 8 pixels


def test_dihedral_turns_image_and_mask_alike_in_all_eight_ways():
    image = torch.arange(2 * 9, dtype=torch.float32).reshape(1, 2, 3, 3).expand(8, -1, -1, -1).contiguous()
    mask = image[:, 0].to(torch.uint8)
    images, masks = dihedral(image, mask, torch.arange(8))
    assert len({tuple(x.flatten().tolist()) for x in images}) == 8
    assert torch.equal(images[:, 0].to(torch.uint8), masks) and masks.dtype == torch.uint8
    assert torch.equal(images[0], image[0])
    with pytest.raises(ValueError, match="squares"):
        dihedral(image[..., :2], mask, torch.arange(8))


# ---------------------------------------------------------------------------------------------------------------- JPEG


def middle(image, size):
    """The middle (size,size,3) of an image, or None where it is smaller."""
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size] if min(top, left) >= 0 else None


@lru_cache
def packaged(size):
    """(N,S,S,3) uint8: the middles of packaged photographs that are large enough."""
    found = [middle(read_image(packaged_file(name)), size) for name in PHOTOGRAPHS]
    return np.stack([image for image in found if image is not None])


def planes(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def by_pillow(images, quality):
    return np.stack([augment_pixels.jpeg(image, quality) for image in images])


def by_opencv(images, quality):
    def save(image):
        written = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(written, cv2.IMREAD_COLOR)[..., ::-1]

    return np.stack([save(image) for image in images])


def by_torchvision(images, quality):
    if not hasattr(io, "encode_jpeg"):
        pytest.skip("this torchvision has no JPEG codec any more")
    with warnings.catch_warnings():  # of just that
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.stack([io.decode_jpeg(io.encode_jpeg(x, quality)).permute(1, 2, 0).numpy() for x in planes(images)])


def on_device(images, quality):
    return jpeg(planes(images), torch.full((len(images),), quality)).permute(0, 2, 3, 1).numpy()


def apart(a, b):
    """Mean absolute difference of each image, grey levels."""
    return np.abs(a.astype(int) - b.astype(int)).mean((1, 2, 3))


CODECS = [by_opencv, by_torchvision, on_device]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("codec", CODECS)
def test_codecs_agree_with_pillow(codec, size):
    images = packaged(size)
    for quality in QUALITIES:
        assert apart(codec(images, quality), by_pillow(images, quality)).mean() < 1.5


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("codec", CODECS)
def test_codecs_agree_with_pillow_on_real_photographs(codec, data_dir):
    with open(data_dir / "photos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for source, size in (("kodak", 512), ("bsds500", 250), ("clothing", 128)):
        names = [row["image"] for row in rows if row["source"] == source][:6]
        images = np.stack([middle(read_image(data_dir / name), size) for name in names])
        for quality in QUALITIES:
            assert apart(codec(images, quality), by_pillow(images, quality)).mean() < 1.5


@pytest.mark.parametrize("size", SIZES)
def test_on_the_device_roundings_are_those_of_libjpeg(size):
    """Leaving out any of them makes it 0.17 to 0.48 in the mean."""
    images = packaged(size)
    found = [apart(on_device(images, q), by_pillow(images, q)) for q in (10, 30, *QUALITIES, 98, 100)]
    assert np.max(found) < 0.5 and np.mean(found) < 0.165


def test_what_overshoots_is_cut_off_before_colours_are_mixed():
    blocks = np.random.default_rng(0).integers(0, 2, (1, 32, 32, 3), dtype=np.uint8) * np.uint8(255)
    image = blocks.repeat(4, axis=1).repeat(4, axis=2)
    assert apart(on_device(image, 50), by_pillow(image, 50))[0] < 1.5  # 2.8 otherwise


@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (33, 47), (16, 17)])
def test_any_size_comes_back_in_its_size(shape):
    image = middle(read_image(packaged_file("coffee.png")), 64)[None, : shape[0], : shape[1]]
    assert apart(on_device(image, 80), by_pillow(image, 80))[0] < 0.7


def test_each_image_has_its_quality_and_zero_leaves_it_alone():
    images = planes(np.stack([packaged(128)[0]] * 4))
    batch = jpeg(images, torch.tensor([0, 50, 95, 0]))
    assert batch.dtype == torch.uint8 and torch.equal(batch[0], images[0]) and torch.equal(batch[3], images[3])
    for k, quality in ((1, 50), (2, 95)):
        assert torch.equal(batch[k], jpeg(images[:1], torch.tensor([quality]))[0])
    assert not torch.equal(batch[1], images[1]) and not torch.equal(batch[1], batch[2])


def test_autocast_leaves_the_pixels_alone():
    images, quality = planes(packaged(128)), torch.full((len(packaged(128)),), 90)
    with torch.autocast("cpu", torch.bfloat16):
        inside = jpeg(images, quality)
    assert torch.equal(inside, jpeg(images, quality))


@pytest.mark.parametrize(
    "images, quality",
    [
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)),
    ],
)
def test_other_images_or_too_few_qualities_are_refused(images, quality):
    with pytest.raises(ValueError, match=r"expected torch\.uint8 \(B, 3, H, W\) and \(B,\)"):
        jpeg(images, quality)


# --------------------------------------------------------------------------------------------------------------- batch


def test_an_image_is_saved_before_it_is_turned():
    images = planes(packaged(128))[:2]
    batch = {"image": images, "mask": images[:, 0] // 128, "turn": torch.tensor([1, 6])}
    plain = dihedral(*batch.values())
    assert all(torch.equal(a, b) for a, b in zip(augment(batch), plain, strict=True))
    quality = torch.tensor([60, 0])
    turned = dihedral(jpeg(images, quality), batch["mask"], batch["turn"])
    assert all(torch.equal(a, b) for a, b in zip(augment({**batch, "quality": quality}), turned, strict=True))


def test_masks_are_turned_alike_with_and_without_their_images():
    """All eight symmetries; a label 255 among them."""
    masks = torch.from_numpy(np.random.default_rng(0).choice(np.uint8([0, 1, 255]), (8, 24, 24)))
    batch = {"image": torch.zeros(8, 3, 24, 24, dtype=torch.uint8), "mask": masks, "turn": torch.arange(8)}
    turned = turned_mask(batch)
    assert turned.dtype == torch.uint8 and torch.equal(turned, augment(batch)[1])
    assert len({mask.numpy().tobytes() for mask in turned_mask({**batch, "mask": masks[:1].expand(8, -1, -1)})}) == 8


def test_on_a_gpu_nothing_comes_back_to_the_host(fake_gpu):
    """Fake tensors have a device but no data: a CPU tensor in between, or a look at a value, raises."""
    with fake_gpu:
        batch = {
            "image": torch.zeros(3, 3, 70, 70, dtype=torch.uint8, device="cuda"),
            "mask": torch.zeros(3, 70, 70, dtype=torch.uint8, device="cuda"),
            "turn": torch.zeros(3, dtype=torch.int64, device="cuda"),
            "quality": torch.zeros(3, dtype=torch.int64, device="cuda"),
        }
        images, masks = augment(batch)
        turned = turned_mask(batch)
    assert images.shape == (3, 3, 70, 70) and images.dtype == masks.dtype == torch.uint8
    assert images.device.type == masks.device.type == turned.device.type == "cuda"
