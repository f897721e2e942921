"""Images: photos and masks of any file format as arrays."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mpc_lite.errors import InputError

# Pillow warns from 89 megapixels and refuses from 179: phones take 200. 2**28 is 16384×16384; a file that claims more
# is refused before its pixels are decoded, so a small hostile file cannot fill the memory.
MAX_PIXELS = 2**28
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, MAX_PIXELS)

IGNORE = 255  # in a mask: neither tampered (1) nor authentic (0)
TAMPERED_ABOVE = 127  # of 255: the grey level of a mask, or the share of tampered pixels under one cell of a map

_ORIENTATION = 0x0112  # EXIF tag
BAND = 512  # rows converted at a time, so that no second full-size copy of the photo is needed
_DEEP = ("I", "F")  # prefixes of Pillow's modes of more than 8 bits: I;16, I;16B, I, F


def read_image(path: str | Path, orient: bool = True) -> np.ndarray:
    """A photo as (H,W,3) uint8 RGB, turned the way its EXIF tag says when `orient` (TIFF files always are).

    Grey, 1-bit, palette, CMYK, 16-bit and float files are converted: of 16 bits the high byte stays; floats up to 1 are
    scaled by 255, larger ones must be 0–255. Transparent pixels are laid over white, as a viewer shows them. Of several
    frames the first counts; colour profiles are ignored. Up to 2**28 pixels (200-megapixel photos pass).
    Raises InputError, with the path and the reason, for anything that is not a complete image.
    """
    pixels = _read_pixels(Path(path), orient)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    else:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 255):  # also false for NaN
            raise _unreadable(path, f"its values run from {low:g} to {high:g}, expected 0–1 or 0–255")
        pixels = np.round(pixels * (255 if high <= 1 else 1)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def read_mask_file(path: str | Path) -> np.ndarray:
    """A mask file as (H,W) uint8, 1 tampered, 0 authentic; which values are tampered is told at `manifest.read_mask`.

    Raises InputError as `read_image` does.
    """
    values = _read_pixels(Path(path), orient=True, background=0)
    if values.ndim == 3:
        deep = values.dtype != np.uint8
        values = values @ np.float32([0.299, 0.587, 0.114]) if deep else cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
    highest = values.max()
    threshold = 0.5 if highest <= 1 else TAMPERED_ABOVE if highest <= 255 else 0x7FFF
    return (values > threshold).astype(np.uint8)


def _unreadable(path: str | Path, reason: object) -> InputError:
    return InputError(f"{path}: cannot be read as an image ({reason}); replace the file or leave it out")


def _read_pixels(path: Path, orient: bool, background: int = 255) -> np.ndarray:
    """(H,W,3) uint8 for files of up to 8 bits; for deeper ones their own values, (H,W) or (H,W,3) uint16 or float32."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}×{image.height} pixels, at most {MAX_PIXELS} are read")
            image.load()
            pixels = _pixels_of(image, background)
            turn = _orientation(image) if orient else 1
    except UnidentifiedImageError:
        return _read_with_opencv(path, background)
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders meet broken files with many kinds of errors (struct, zlib, SyntaxError, …)
        raise _unreadable(path, error) from None
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    # After the transposition, 3, 4, 6 … are flips of the rows, of the columns, or of both.
    pixels = pixels[::-1] if turn in (3, 4, 7, 8) else pixels
    pixels = pixels[:, ::-1] if turn in (2, 3, 6, 7) else pixels
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8. A damaged EXIF block counts as none: the pixels are good, and viewers show them so."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1


def _pixels_of(image: Image.Image, background: int) -> np.ndarray:
    """Convert a loaded Pillow image band by band."""
    deep = image.mode.startswith(_DEEP)
    if image.mode == "I":  # 32-bit integers, or 16-bit ones in older versions of Pillow
        low, high = image.getextrema()
        if low < 0 or high > 0xFFFF:
            raise ValueError(f"integers from {low} to {high}, expected 0–65535")
    dtype = np.float32 if image.mode == "F" else np.uint16
    shape = (image.height, image.width)
    pixels = np.empty(shape, dtype) if deep else np.empty((*shape, 3), np.uint8)
    for top in range(0, image.height, BAND):
        band = image.crop((0, top, image.width, min(top + BAND, image.height)))
        if band.has_transparency_data:
            band = band.convert("RGBA")
            below = Image.new("RGBA", band.size, (background, background, background, 255))
            band = Image.alpha_composite(below, band)
        pixels[top : top + BAND] = np.asarray(band if deep else band.convert("RGB"))
    return pixels


def _read_with_opencv(path: Path, background: int) -> np.ndarray:
    """The formats Pillow does not know: colour TIFF of 16 bits or floats, EXR, HDR."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # says little but where in OpenCV it arose
        image = None
    if image is None:
        raise _unreadable(path, "no format that Pillow or OpenCV knows" if path.stat().st_size else "the file is empty")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise _unreadable(path, f"values of type {image.dtype}, expected 8 or 16 bits or 32-bit floats")
    if image.ndim == 2:
        return image if image.dtype != np.uint8 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4:
        top = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1.0)
        alpha = image[..., 3:].astype(np.float32) / top
        blend = image[..., :3] * alpha + background / 255 * top * (1 - alpha)
        image = (blend if image.dtype == np.float32 else np.round(blend)).astype(image.dtype)
    return np.ascontiguousarray(image[..., 2::-1])


def encode_jpeg(image: np.ndarray, quality: int, subsampling: int) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
