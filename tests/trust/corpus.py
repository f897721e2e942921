"""Damaged and hostile files, made anew by each test from a packaged picture, a seed, and rules: nothing is stored.

Each function yields (name, bytes). None of them is aimed at the software of others: damage is drawn at random, and what
is hostile on purpose lies to our own readers.
"""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterator

import numpy as np
import safetensors.torch
import skimage.data
import yaml
from PIL import Image

from mpc_lite.network.weights import read_weights
from mpc_lite.recipes.load import load_recipe

Files = Iterator[tuple[str, bytes]]


def picture() -> np.ndarray:
    """(80,96,3) uint8, from scikit-image's packaged astronaut (public domain)."""
    return np.asarray(Image.fromarray(skimage.data.astronaut()).resize((96, 80)))


def damaged(data: bytes, rng: np.random.Generator, head: int = 64) -> Files:
    """Seventeen damages of one file: cut, flipped, overwritten, swapped, doubled, in its head or anywhere."""
    n = len(data)
    for part in (0.0, 0.02, 0.3, 0.6, 0.9, 0.999):
        yield f"cut at {part}", data[: int(n * part)]
    for many in (1, 4, 20):
        bent = np.frombuffer(data, np.uint8).copy()
        bent[rng.integers(0, n, many)] ^= rng.integers(1, 256, many).astype(np.uint8)
        yield f"{many} bytes anywhere", bent.tobytes()
    for many in (1, 3):
        bent = np.frombuffer(data, np.uint8).copy()
        bent[rng.integers(0, min(head, n), many)] = rng.integers(0, 256, many)
        yield f"{many} bytes of the head", bent.tobytes()
    for value in (0, 255):
        at = int(rng.integers(0, max(1, min(4 * head, n - 4))))
        yield f"{value} as a number", data[:at] + bytes([value]) * 4 + data[at + 4 :]
    yield "a hole", data[: n // 3] + bytes(n // 3) + data[2 * n // 3 :]
    yield "halves swapped", data[n // 2 :] + data[: n // 2]
    yield "doubled", data + data
    yield "another beginning", b"\x89PNG\r\n\x1a\n" + data[8:]


def images() -> Files:
    pixels, rng = picture(), np.random.default_rng(0)
    colour, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    forms = {
        "jpg": (colour, {"quality": 90}),
        "progressive.jpg": (colour, {"progressive": True, "exif": b"Exif\0\0" + bytes(40)}),
        "png": (colour, {}),
        "16.png": (deep, {}),
        "palette.png": (colour.quantize(16), {"transparency": 3}),
        "alpha.png": (colour.convert("RGBA"), {}),
        "gif": (grey, {}),
        "bmp": (colour, {}),
        "tif": (colour, {}),
        "lzw.tif": (grey, {"compression": "tiff_lzw"}),
        "jpeg.tif": (colour, {"compression": "jpeg"}),
        "16.tif": (deep, {}),
        "webp": (colour, {}),
        "ppm": (colour, {}),
        "tga": (colour, {}),
    }
    for form, (image, options) in forms.items():
        data, kind = io.BytesIO(), form.split(".")[-1]
        image.save(data, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **options)
        for what, bad in damaged(data.getvalue(), rng):
            yield f"{what}.{form}", bad
    for what, text in {
        "drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "page": b"<!DOCTYPE html><html></html>",
        "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "nothing": b"",
        "one byte": b"\xff",
    }.items():
        yield f"{what}.jpg", text


def lists() -> Files:
    """Manifests (.csv), recipes (.yaml), foreign lists (.txt, .json, .npy)."""
    rng = np.random.default_rng(1)
    manifest = "image,mask,label,source,split\n" + "".join(f"good.png,good-mask.png,1,s{n},test\n" for n in range(9))
    recipe = yaml.safe_dump(load_recipe("quickstart").as_dict())
    pairs = [["good.png", "good-mask.png"]] * 5
    array = io.BytesIO()
    np.save(array, np.array(pairs))
    whole = {"csv": manifest.encode(), "yaml": recipe.encode(), "json": json.dumps(pairs).encode()}
    whole |= {"txt": b"good.png good-mask.png 1\n" * 5, "npy": array.getvalue()}
    for form, data in whole.items():
        for what, bad in damaged(data, rng):
            yield f"{what}.{form}", bad
    cells = (
        "\0",
        "a" * 5000,
        "/" * 3000,
        "\x1b[2J",
        "\u202e",
        "=1+1",
        "..",
        "~nobody-of-this-name",
        '"',
        "[/]",
        "\ud7ff",
    )
    for cell in cells:
        yield f"cell {cell[:9]!r}.csv".replace("/", "|").replace("\0", "0"), manifest.replace("s3", cell).encode()
        bent = manifest.replace("good.png,good-mask.png,1,s4", f"{cell},good-mask.png,1,s4")
        yield f"path {cell[:9]!r}.csv".replace("/", "|").replace("\0", "0"), bent.encode()
    values = (
        "[" * 3000,
        "9" * 5000,
        ".inf",
        "-.nan",
        "1e999",
        "&a [*a]",
        "!!python/name:os",
        "0x" + "f" * 900,
        "~",
        "{}",
    )
    values += ("2001-99-99", "'" + "x" * 5000 + "'", "-1", "0", "[[], {}]", "1:30:99", "=", "<<", "? a")
    for key in ("seed", "pretrain", "name"):
        for value in values:
            yield f"{key} {value[:8]}.yaml".replace("/", "|"), f"{key}: {value}\n".encode()


def weights() -> Files:
    about, tensors = read_weights("lite-initial")
    rng = np.random.default_rng(2)

    def written(facts, **changes) -> bytes:
        return safetensors.torch.save({**tensors, **changes}, metadata={"mpc_lite": json.dumps(facts)})

    data = written(about)
    yield from damaged(data, rng)
    yield from damaged(data, rng, head=2000)
    for length in (0, 1, 2**20, 2**27, 2**40, 2**63, 2**64 - 1):
        yield f"header of {length}", struct.pack("<Q", length) + data[8:]
    for key, value in {
        "size": ["nano", {}, 3, None, "nano\0", "n" * 9999],
        "head": [[], 4.5],
        "recipe": [None, 7, [], "x", {"evaluate": 3}, {"evaluate": {"size": 10**9}}, {"evaluate": {"size": -1}}],
        "stage": [3, {}],
        "fingerprint": ["0" * 64, 5],
    }.items():
        for item in value:
            yield f"{key} {str(item)[:20]}", written({**about, key: item})
    name = next(iter(tensors))
    for kind, tensor in {
        "half": tensors[name].half(),
        "double": tensors[name].double(),
        "empty": tensors[name].flatten()[:0],
        "one more": tensors[name].flatten(),
        "not finite": tensors[name] * float("nan"),
    }.items():
        yield f"{kind} tensor", written(about, **{name: tensor.contiguous()})
    yield "a foreign tensor", written(about, **{"\x1b[2J": tensors[name].clone()})


def archives() -> Files:
    rng, inner = np.random.default_rng(3), {"Tp/a.txt": b"one" * 99, "Tp/b/c.txt": bytes(5000), "d.txt": b""}

    def zipped(names=inner) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in dict(names).items():
                archive.writestr(name, text)
        return data.getvalue()

    def tarred(names=inner, kind=tarfile.REGTYPE, **facts) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            for name, text in dict(names).items():
                info = tarfile.TarInfo(name)
                info.size, info.type = len(text), kind
                for key, value in facts.items():
                    setattr(info, key, value)
                archive.addfile(info, io.BytesIO(text))
        return data.getvalue()

    for form, data in {"zip": zipped(), "tar": tarred(), "tar.gz": gzip.compress(tarred(), mtime=0)}.items():
        for what, bad in damaged(data, rng, head=200):
            yield f"{what}.{form}", bad
    for name in ("../a", "/a", "a/../../b", "C:/a", "a\\..\\..\\b", "x" * 300, "\x1b[2J", "a/" * 600 + "b"):
        for form, make in (("zip", zipped), ("tar", tarred)):
            yield f"name {name[:6]!r}.{form}".replace("/", "|"), make({name: b"1"})
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z"):
        yield f"kind {kind!r}.tar", tarred({"a": b""}, kind, linkname="/etc")
    yield "file in a file.zip", zipped({"a": b"1", "a/b": b"2"})
    info = tarfile.TarInfo("././@LongLink")
    info.size, info.type = 70_000, tarfile.GNUTYPE_LONGNAME
    yield "long header.tar", info.tobuf(tarfile.USTAR_FORMAT) + b"a" * 70_144 + tarred()
