"""Maps of other programs: found by name, read by type, brought to size; never guessed, never one for another."""

import io
import json
import os
import unicodedata
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.data.manifest import Sample, read_manifest
from mpc_lite.errors import InputError
from mpc_lite.evaluation.evaluate import evaluate, score_maps
from mpc_lite.evaluation.foreign_maps import ForeignMaps
from tests.test_decoders import tiff_grey

SIZE = (40, 60)  # height, width
SCORES = np.linspace(0, 1, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.float32)


@pytest.fixture
def images(tmp_path):
    """A manifest of two tampered images and an authentic one."""
    rng, lines = np.random.default_rng(0), ["image,mask,label,source,split"]
    mask = np.zeros(SIZE, np.uint8)
    mask[20:] = 255
    for name, label in (("a.png", 1), ("b.jpg", 1), ("c.png", 0)):
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(tmp_path / name)
        Image.fromarray(mask).save(tmp_path / f"{name}.mask.png")
        lines.append(f"{name},{f'{name}.mask.png' if label else ''},{label},toy,test")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    (tmp_path / "maps").mkdir()
    return tmp_path


def sample(name):
    return Sample(image=name, mask=None, label=0, source="toy", split="test", row=1)


def save(file, array, key=None):
    if file.suffix == ".npy":
        np.save(file, array)
    elif file.suffix == ".npz":
        np.savez(file, **(array if isinstance(array, dict) else {key: array}))
    else:
        Image.fromarray(array).save(file)


def found(folder, *images):
    """{image: its map's first level, or None}, of maps whose every level is another."""
    rows = [sample(Path(name)) for name in images]
    maps, levels = ForeignMaps(folder, samples=rows), {}
    for row in rows:
        try:
            levels[row.image.name] = int(maps.read(row, (2, 2))[0, 0]) // 257
        except InputError:
            levels[row.image.name] = None
    return levels


def test_a_map_is_found_whatever_the_case_and_the_form_of_accents(tmp_path):
    apart, composed = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    for level, name in enumerate(["IMG_1.PNG", f"{apart}_Pred.png", "B.JPG.png"], start=1):
        save(tmp_path / name, np.full((2, 2), level, np.uint8))
    assert found(tmp_path, "img_1.jpg", f"{composed}.jpg", "b.jpg", "b.png") == {
        "img_1.jpg": 1, f"{composed}.jpg": 2, "b.jpg": 3, "b.png": None,
    }  # fmt: skip


def test_a_map_that_is_spelt_as_an_image_is_no_other_image_s(tmp_path):
    save(tmp_path / "a.tif", np.full((2, 2), 1, np.uint8))
    assert found(tmp_path, "a.jpg", "A.jpg") == {"a.jpg": 1, "A.jpg": None}
    assert found(tmp_path, "A.jpg") == {"A.jpg": 1}
    assert found(tmp_path, "A.jpg", "A.png") == {"A.jpg": None, "A.png": None}  # a choice: none of them
    save(tmp_path / "a_map.tif", np.full((2, 2), 2, np.uint8))
    assert found(tmp_path, "A.jpg") == {"A.jpg": None}


@pytest.mark.trust
def test_the_masks_themselves_are_no_detectors_maps(images):
    """score . --pairs . . takes a_mask.png for a map of a.png: F1 1, and nobody would know."""
    rows = read_manifest(images / "m.csv")
    os.link(rows[0].mask, images / "maps" / "a.png")
    for name in "bc":
        save(images / "maps" / f"{name}.png", np.zeros(SIZE, np.uint8))
    notes = score_maps(images / "m.csv", images / "maps")["maps"]["notes"]
    assert notes == ["1 maps are the masks or images themselves, no detector's: a.png"]


@pytest.mark.trust
def test_a_picture_by_the_name_of_an_array_is_told_without_advice_to_run_it(images):
    (images / "a.png").rename(images / "maps" / "a.npy")
    with pytest.raises(
        InputError, match=r"a\.npy: cannot be read as an array \(no \.npy or \.npz file that holds numbers"
    ):
        ForeignMaps(images / "maps").read(sample(Path("a.jpg")), SIZE)


@pytest.mark.trust
@pytest.mark.parametrize("shape", ["(99999999999, 99999999999)", "(f(), 2)"])
def test_a_header_that_cannot_be_is_told_in_our_words_alone(images, shape, recwarn):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (images / "maps" / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(InputError, match=r"a\.npy: cannot be read as an array") as told:
        ForeignMaps(images / "maps").read(sample(Path("a.jpg")), SIZE)
    assert not len(recwarn) and "object at 0x" not in str(told.value)


@pytest.mark.trust
@pytest.mark.parametrize("save", [np.save, lambda file, value: np.savez(file, scores=value)])
def test_a_dictionary_saved_as_an_array_says_what_to_save(images, save):
    name = "a.npy" if save is np.save else "a.npz"
    save(images / "maps" / name, np.array({"map": np.zeros(SIZE)}, dtype=object))
    with pytest.raises(InputError, match=r"it holds Python objects, as of a dictionary; save the map alone"):
        ForeignMaps(images / "maps").read(sample(Path("a.jpg")), SIZE)


def test_manifest_and_maps_are_found_by_the_one_rule_of_paths(images, monkeypatch, capsys):
    apart, composed = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    images.rename(home := images.parent / apart)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home.parent)
    for image in "abc":
        save(home / "maps" / f"{image}.png", np.zeros(SIZE, np.uint8))
    for manifest, maps in (
        ("~/m.csv", "~/maps"), (f"{composed}/m.csv", f"{composed}/maps"), (f"{apart}\\m.csv", f"{apart}\\maps"),
    ):  # fmt: skip
        assert main(["score", maps, "--manifest", manifest, "--json", "s.json"]) == 0, capsys.readouterr()
        result = json.loads((home.parent / "s.json").read_text())
        assert result["manifest"]["name"] == "m.csv" and result["maps"]["folder"] == "maps"
        kept = maps.replace("maps", "kept")
        evaluate(lambda image: SCORES, manifest, maps_dir=kept)
        assert main(["evaluate", "--maps", kept, "--manifest", manifest]) == 0, capsys.readouterr()
    assert not (home.parent / "~").exists()


SAME = {  # one map, as programs write it
    "8-bit PNG": ("a.png", np.round(SCORES * 255).astype(np.uint8)),
    "8-bit PNG saved as colours": ("a.png", np.repeat(np.round(SCORES * 255).astype(np.uint8)[..., None], 3, 2)),
    "16-bit PNG, an ending": ("a_pred.png", np.round(SCORES * 65535).astype(np.uint16)),
    "floats": ("a.npy", SCORES),
    "floats with axes of one": ("a-map.npy", SCORES[None, None].astype(np.float64)),
    "half floats beside other arrays": ("a.png.npz", {"conf": SCORES * 0, "map": SCORES.astype(np.float16)}),
    "the only array": ("a.npz", {"anything": SCORES}),
    "16 bits, the high byte first": ("a.npy", np.round(SCORES * 65535).astype(">u2")),
    "floats in three colours": ("a.npy", np.repeat(SCORES[..., None], 3, 2)),
}


@pytest.mark.parametrize("how", SAME)
def test_one_map_in_every_form(how, images):
    name, array = SAME[how]
    save(images / "maps" / name, array)
    maps = ForeignMaps(images / "maps")
    levels = maps.read(sample(images / "a.png"), SIZE)
    assert levels.dtype == np.uint16 and maps.resized == 0
    assert np.abs(levels / 65535 - SCORES).max() <= 0.5 / 255 + 1e-3


def test_a_faint_map_of_16_bits_is_not_taken_for_one_of_8(images):
    save(images / "maps" / "a.png", np.full(SIZE, 200, np.uint16))
    assert ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE).max() < 300


def test_a_map_of_12_bits_is_read_against_their_greatest_value(images):
    levels = np.round(SCORES * 4095).astype(np.uint16)
    (images / "maps" / "a.tif").write_bytes(tiff_grey(levels, bits=12))
    read = ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)
    assert np.abs(read / 65535 - SCORES).max() < 2 / 4095 and read.max() == 65535


def test_a_chosen_array_and_a_masks_booleans(images):
    save(images / "maps" / "a.npz", {"map": SCORES, "conf": SCORES > 0.5})
    levels = ForeignMaps(images / "maps", "conf").read(sample(images / "a.png"), SIZE)
    np.testing.assert_array_equal(levels == 65535, SCORES > 0.5)
    with pytest.raises(InputError, match="no array 'x'; choose one with --key: map, conf"):
        ForeignMaps(images / "maps", "x").read(sample(images / "a.png"), SIZE)
    save(images / "maps" / "b.npz", {f"array\n{i}": SCORES[:1] for i in range(50)})
    with pytest.raises(InputError, match=r"array\\n0, .* and 40 more") as told:
        ForeignMaps(images / "maps", "x").read(sample(images / "b.jpg"), SIZE)
    assert "\n" not in str(told.value)


def test_another_size_is_brought_to_the_images_and_counted(images):
    save(images / "maps" / "a.npy", np.full((8, 8), 0.25, np.float32))
    maps = ForeignMaps(images / "maps")
    levels = maps.read(sample(images / "a.png"), SIZE)
    assert levels.shape == SIZE and maps.resized == 1 and np.abs(levels / 65535 - 0.25).max() < 1e-4


WRONG = {
    "two maps": ({"a.png": np.zeros(SIZE, np.uint8), "a_pred.png": np.zeros(SIZE, np.uint8)}, "found a.png, a_pred"),
    "none": ({"b.png": np.zeros(SIZE, np.uint8)}, "such as a.png or a.png.npz in maps; found none"),
    "logits": ({"a.npy": 9 * SCORES - 4}, "expected .0,1."),
    "no number": ({"a.npy": SCORES * np.nan}, "a.npy"),
    "signed": ({"a.npy": np.zeros(SIZE, np.int64)}, "values of type int64, expected floats in .0,1., uint8 or uint16"),
    "32 bits": ({"a.npy": np.full(SIZE, 255, np.uint32)}, "values of type uint32, expected floats"),
    "colours": ({"a.png": np.eye(3, dtype=np.uint8)[None].repeat(4, 0) * 255}, "a coloured picture is no map"),
    "objects": ({"a.npy": np.array([{}], dtype=object)}, "cannot be read as an array"),
    "no row": ({"a.npz": {"map": np.zeros((0, 60), np.float32)}}, r"a.npz: shape \(0, 60\), which holds no value"),
    "no column": ({"a.npz": {"map": np.zeros((40, 0, 3), np.float32)}}, "which holds no value"),
    "a row of colours": ({"a.npy": np.eye(3, dtype=np.float32)[None]}, r"shape \(1, 3, 3\), expected one grey map"),
    "one axis": ({"a.npy": SCORES[0]}, r"shape \(60,\), expected one grey map"),
    "sides exchanged": ({"a.npy": SCORES.T}, r"map 40×60, image 60×40 \(turned\); give a map of the image's size"),
    "sides exchanged and halved": ({"a.npy": SCORES.T[::2, ::2]}, r"map 20×30, image 60×40 \(turned\); give"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_map_is_told(what, images):
    files, says = WRONG[what]
    for name, array in files.items():
        save(images / "maps" / name, array)
    with pytest.raises(InputError, match=says):
        ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)


NARROW = {  # an image's sides, and arrays that are its map
    "one row": ((1, 200), [(1, 200), (1, 1, 200), (1, 200, 1), (1, 1, 200, 1), (1, 200, 3)]),
    "one column": ((200, 1), [(200, 1), (1, 200, 1), (200, 1, 1), (200, 1, 3)]),
    "one pixel": ((1, 1), [(1, 1), (1, 1, 1), (1, 1, 1, 1), (1, 1, 3)]),
    "three columns": ((200, 3), [(200, 3), (1, 200, 3), (200, 3, 1)]),
}


@pytest.mark.parametrize("what", NARROW)
def test_no_side_of_a_narrow_map_is_taken_for_an_axis_too_many(what, images):
    size, shapes = NARROW[what]
    levels = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    for shape in shapes:
        array = np.repeat(levels[..., None], 3, 2) if np.prod(shape) > levels.size else levels
        save(images / "maps" / "a.npy", array.reshape(shape))
        maps = ForeignMaps(images / "maps")
        np.testing.assert_array_equal(maps.read(sample(images / "a.png"), size), levels * np.uint16(257))
        assert maps.resized == 0
    (images / "maps" / "a.npy").unlink()
    save(images / "maps" / "a.png", levels)
    np.testing.assert_array_equal(
        ForeignMaps(images / "maps").read(sample(images / "a.png"), size), levels * np.uint16(257)
    )


def test_one_map_is_never_that_of_two_images(images):
    def read(*names):
        maps, found = ForeignMaps(images / "maps", None, [sample(images / name) for name in names]), []
        for name in names:
            try:
                found.append(int(maps.read(sample(images / name), SIZE)[0, 0]) // 257)
            except InputError as error:
                found.append(str(error))
        return found

    save(images / "maps" / "p.png", np.full(SIZE, 3, np.uint8))
    for left_out in read("x/p.png", "y/p.png"):
        assert "p.png may be the map of p.png (x), p.png (y); score images of one name with manifests" in left_out
    assert read("x/p.png", "x/p.png") == [3, 3]  # one image in two rows
    assert all("p.png may be the map of p.jpg, p.png; name each map" in text for text in read("p.jpg", "p.png"))
    save(images / "maps" / "p.jpg.png", np.full(SIZE, 5, np.uint8))
    assert read("p.jpg", "p.png") == [5, 3]
    save(images / "maps" / "q_map.png", np.full(SIZE, 7, np.uint8))
    assert read("q.jpg") == read("q_map.jpg") == [7]
    assert all("q_map.png may be the map of q.jpg, q_map.jpg" in text for text in read("q.jpg", "q_map.jpg"))


def test_a_claimed_map_leaves_both_rows_out(images, monkeypatch, capsys):
    monkeypatch.chdir(images)
    for folder in ("x", "y"):
        (images / folder).mkdir()
        (images / folder / "p.png").write_bytes((images / "c.png").read_bytes())
    rows = ["image,mask,label,source", "a.png,a.png.mask.png,1,toy", "x/p.png,,0,toy", "y/p.png,,0,toy"]
    (images / "two.csv").write_text("\n".join(rows))
    for name in ("a", "p"):
        save(images / "maps" / f"{name}.npy", SCORES)
    assert main(["score", "maps", "--manifest", "two.csv"]) == 1
    shown = capsys.readouterr().out
    assert "2 rows left out" in shown and "row 3 of two.csv: p.npy may be the map of p.png (x), p.png (y)" in shown


def tagged(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return {"exif": exif.tobytes()}


def test_a_map_in_the_stored_orientation_of_a_turned_photo_is_refused_or_noted(images):
    photo, stored = np.zeros((*SIZE, 3), np.uint8), np.round(SCORES * 255).astype(np.uint8)
    save(images / "maps" / "t.png", stored)
    Image.fromarray(photo).save(images / "t.jpg", **tagged(6))
    maps = ForeignMaps(images / "maps")
    with pytest.raises(
        InputError, match=r"t.png: map 60×40, image 40×60 \(the image's orientation mark turns it; save both"
    ):
        maps.read(sample(images / "t.jpg"), SIZE[::-1])
    save(images / "maps" / "t.png", np.rot90(stored, -1))
    maps.read(sample(images / "t.jpg"), SIZE[::-1])
    assert maps.notes() == [] and maps.resized == 0  # the sides show that it is upright
    save(images / "maps" / "t.png", stored[:8, :8])
    maps.read(sample(images / "t.jpg"), SIZE[::-1])
    assert len(maps.notes()) == 1
    save(images / "maps" / "t.png", stored)
    Image.fromarray(photo).save(images / "t.jpg", **tagged(3))
    maps = ForeignMaps(images / "maps")
    maps.read(sample(images / "t.jpg"), SIZE)
    (note,) = maps.notes()
    assert "1 images have an orientation mark that turns or mirrors them" in note and note.endswith("t.jpg")


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_map_with_a_tag_of_its_own_is_turned(turn, images):
    stored = np.round(SCORES * 255).astype(np.uint8)
    upright = np.rot90(stored, {1: 0, 3: 2, 6: -1, 8: 1}[turn])
    Image.fromarray(stored).save(images / "maps" / "a.png", **tagged(turn))
    levels = ForeignMaps(images / "maps").read(sample(images / "a.png"), upright.shape)
    np.testing.assert_array_equal(levels, upright * np.uint16(257))


def test_what_cannot_be_opened_is_left_out_before_the_work(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    (images / "maps" / "z.png").symlink_to("nowhere.png")
    (images / "maps" / "y.npy").mkdir()
    with pytest.raises(InputError, match=r"no folder with maps.*; 2 files of maps cannot be opened .*: y.npy, z.png"):
        ForeignMaps(images / "maps")
    if hasattr(os, "mkfifo"):
        os.mkfifo(images / "maps" / "pipe.png")
    for name in ("a", "b", "c"):
        save(images / "maps" / f"{name}.npy", SCORES)
    assert main(["score", "maps", "--manifest", "m.csv", "--json", "out.json"]) == 0
    assert "cannot be opened and were left out: " in capsys.readouterr().out
    (note,) = json.loads((images / "out.json").read_text())["maps"]["notes"]
    assert note.endswith("y.npy, z.png") and ("pipe.png" in note) == hasattr(os, "mkfifo")


def test_maps_behind_a_link_are_found(images):
    (images / "elsewhere").mkdir()
    save(images / "elsewhere" / "a.npy", SCORES)
    (images / "maps" / "link").symlink_to("../elsewhere")
    assert ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE).shape == SIZE


def test_an_empty_map_is_one_row_left_out(images):
    save(images / "maps" / "a.npy", SCORES)
    save(images / "maps" / "b.npz", np.zeros((0, 60), np.float32), "map")
    save(images / "maps" / "c.npy", SCORES)
    (left_out,) = score_maps(images / "m.csv", images / "maps")["errors"]
    assert "b.npz: shape (0, 60), which holds no value" in left_out


def test_damaged_files_are_told(images):
    np.save(images / "maps" / "a.npy", SCORES)
    whole = (images / "maps" / "a.npy").read_bytes()
    for content in (b"", whole[:40], whole[:-100], b"PK\3\4", whole.replace(b"(40, 60)", b"(1e9, 6)")):
        (images / "maps" / "a.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"a.npy: cannot be read as an array"):
            ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)
    with pytest.raises(InputError, match="expected files"):
        ForeignMaps(images / "nowhere")


def archive(compression=zipfile.ZIP_DEFLATED, member="map.npy", content=None):
    """An .npz file of one member, by default SCORES."""
    array, file = io.BytesIO(), io.BytesIO()
    np.save(array, SCORES)
    with zipfile.ZipFile(file, "w", compression) as opened:
        opened.writestr(member, array.getvalue() if content is None else content)
    return bytearray(file.getvalue())


def changed(data, at_head, value, start=None, stop=None):
    """The file with a number of its local header, and the same of its directory, exchanged, or a part overwritten."""
    if start is None:
        data[at_head], data[data.rfind(b"PK\1\2") + at_head + 2] = value, value
    else:
        data[start:stop] = bytes([value]) * (stop - start)
    return bytes(data)


BAD = {
    "locked": changed(archive(), 6, 1),
    "an unknown compression": changed(archive(), 8, 99),
    "damaged deflate": changed(archive(), 0, 255, 60, 1000),
    "damaged LZMA": changed(archive(zipfile.ZIP_LZMA), 0, 255, 60, 400),
    "a text": bytes(archive(member="readme.txt", content="hello")),
    "bytes called as the array": bytes(archive(member="map", content="no array")),
    "bytes for an array": bytes(archive(content="no array")),
    "objects": bytes(
        archive(content=b"\x93NUMPY\1\0\x3a\0{'descr': '|O', 'fortran_order': False, 'shape': (3,), }".ljust(80))
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_archive_is_one_row_left_out(what, images):
    for name in "ac":
        save(images / "maps" / f"{name}.npy", SCORES)
    (images / "maps" / "b.npz").write_bytes(BAD[what])
    table = score_maps(images / "m.csv", images / "maps")
    (left_out,) = table["errors"]
    assert "b.npz: " in left_out and table["average"]["n"] == 1


def test_the_array_is_taken_where_other_bytes_have_its_name(images):
    file = images / "maps" / "a.npz"
    file.write_bytes(archive())
    with zipfile.ZipFile(file, "a") as opened:
        opened.writestr("map", "no array")
    levels = ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)
    assert np.abs(levels / 65535 - SCORES).max() < 1e-4


@pytest.mark.trust
def test_only_arrays_of_an_archive_are_unpacked(images, monkeypatch):
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_: pytest.fail("unpacked"))
    for member in ("map", "map.npy"):
        (images / "maps" / "a.npz").write_bytes(archive(member=member, content=bytes(10_000_000)))
        monkeypatch.setenv("MPC_LITE_MAX_PIXELS", "1000")
        with pytest.raises(InputError, match=r"no array 'map'; it holds no member|at most 5333 are read"):
            ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)


@pytest.mark.trust
def test_an_array_that_is_copied_to_floats_takes_no_more_memory_than_others(images, monkeypatch):
    monkeypatch.setenv("MPC_LITE_MAX_PIXELS", "10000")
    np.savez_compressed(images / "maps" / "a.npz", map=np.zeros((90, 90), np.float32))
    maps, row = ForeignMaps(images / "maps"), sample(images / "a.png")
    assert maps.read(row, (90, 90)).max() == 0
    np.savez_compressed(images / "maps" / "a.npz", map=np.zeros((90, 90)))
    with pytest.raises(InputError, match="has 64928 bytes, of a file like this at most 53333 are read; save it as fl"):
        maps.read(row, (90, 90))


def test_transparency_counts_as_in_a_mask(images):
    grey = np.round(SCORES * 255).astype(np.uint8)
    white = np.full((*SIZE, 3), 255, np.uint8)
    painted = np.dstack([white, grey])  # white paint on nothing, as painting programs save it
    same = np.dstack([np.repeat(grey[..., None], 3, 2), np.where(SCORES > 0.5, 255, 0)])
    same[SCORES <= 0.5] = 0  # what is hidden is black
    for pixels, expected in ((painted, grey / 255), (same, np.where(SCORES > 0.5, grey, 0) / 255)):
        Image.fromarray(pixels.astype(np.uint8)).save(images / "maps" / "a.png")
        levels = ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)
        assert np.abs(levels / 65535 - expected).max() < 1e-4
    same[..., :3] = 255 - same[..., :3]
    Image.fromarray(same.astype(np.uint8)).save(images / "maps" / "a.png")
    with pytest.raises(InputError, match=r"a.png: with its transparency and without it is two different maps; save"):
        ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_opacity_next_to_nothing_hides_no_map_but_where_it_has_a_shape(images, kind):
    grey = np.round(SCORES * np.iinfo(kind).max).astype(kind)
    for opacity in (0, 20):
        array = np.dstack([grey, grey, grey, np.full_like(grey, opacity)])
        cv2.imwrite(str(images / "maps" / "a.png"), array)
        levels = ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)
        assert np.abs(levels / 65535 - grey / np.iinfo(kind).max).max() < 1e-4
    Image.fromarray(np.dstack([np.zeros((*SIZE, 3), np.uint8), np.uint8(SCORES > 0.5)])).save(images / "maps" / "a.png")
    with pytest.raises(InputError, match="with its transparency and without it is two different maps"):
        ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)


def test_a_lack_of_memory_is_not_told_as_a_fault_of_the_maps_transparency(images, monkeypatch):
    grey = np.round(SCORES * 255).astype(np.uint8)
    Image.fromarray(np.dstack([np.full((*SIZE, 3), 255, np.uint8), grey])).save(images / "maps" / "a.png")
    monkeypatch.setattr("mpc_lite.images.decode_file", lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(InputError, match=r"a.png: the memory does not suffice for this image"):
        ForeignMaps(images / "maps").read(sample(images / "a.png"), SIZE)


def test_the_table_is_that_of_a_detector_which_gives_these_maps(images):
    for name in ("a", "b", "c"):
        save(images / "maps" / f"{name}.npy", SCORES)
    table = score_maps(images / "m.csv", images / "maps", "permuted")
    same = evaluate(lambda image: SCORES, images / "m.csv", "permuted")
    assert table.pop("maps")["resized"] == 0 and table == same


def test_command_several_protocols_one_table_one_file(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    for name in ("a", "b"):
        save(images / "maps" / f"{name}.npy", np.repeat(SCORES, 2, 0))
    words = ["--manifest", "m.csv", "--protocol", "mpc", "--protocol", "permuted", "--json", "out.json"]
    assert main(["score", "maps", *words]) == 1  # c.png has no map
    shown = capsys.readouterr().out
    results = json.loads((images / "out.json").read_text())["protocols"]
    assert list(results) == ["mpc", "permuted"] and results["permuted"]["sets"]["toy"]["n"] == 2
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("toy")] == ["mpc", "permuted"]
    assert "2 maps had another size" in shown and "1 rows left out" in shown and "c.png" in shown
    assert main(["score", "maps", "--manifest", "m.csv", "--protocol", "nothing"]) == 2


@pytest.mark.trust
@pytest.mark.parametrize(
    "dtype, top, told",
    [
        ("uint8", 1, "0.0039"),
        ("uint16", 255, "0.0039"),
        ("uint16", 1000, "0.015"),
        ("float32", 0.4, "0.4"),
        ("uint8", 128, ""),
    ],
)
def test_scores_that_never_reach_a_half_are_told(images, dtype, top, told):
    """A mask of 0 and 1 is read as meant; a map of them is one of scores up to 1 of 255."""
    mask = np.zeros(SIZE, dtype)
    mask[:2] = top
    for name in ("a", "b", "c"):
        save(images / "maps" / f"{name}.npy", mask)
    notes = score_maps(images / "m.csv", images / "maps", "mpc")["maps"]["notes"]
    words = f"no map has a score above {told}, so that 0.5 marks nothing; whole numbers count up to the greatest"
    assert [note.startswith(words) for note in notes] == ([True] if told else [])


def test_no_command_writes_over_a_file_of_another_kind(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    save(images / "maps" / "a.npy", SCORES)
    for name in ("photo.jpg", "other.csv"):
        (images / name).write_text("precious")
    for words in (
        ["score", "maps", "--manifest", "m.csv", "--json", "other.csv"],
        ["calibrate", "--weights", "lite", "--out", "photo.jpg", "a.png"],
        ["export", "--weights", "lite", "--out", "photo.jpg"],
        ["convert", "lite.pth", "--out", "photo.jpg"],
        ["export", "--weights", "lite", "--out", "mymodel"],  # what is dispatched by its ending would be called damaged
        ["calibrate", "--weights", "lite", "--out", "calibrated.onnx", "a.png"],
    ):
        assert main(words) == 2
        told = capsys.readouterr()
        assert "does not end in ." in told.err and "as what is written there; give another name" in told.err
        assert len(told.err.splitlines()) == 1
    assert {(images / name).read_text() for name in ("photo.jpg", "other.csv")} == {"precious"}


def test_a_map_of_several_pages_is_refused(images):
    """Of a softmax of two classes the first page is "authentic": it was scored as the map, upside down."""
    for name in "abc":
        pages = [Image.fromarray(np.full(SCORES.shape, level, np.float32)) for level in (0.9, 0.1)]
        (images / "maps").mkdir(exist_ok=True)
        pages[0].save(images / "maps" / f"{name}.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="2 pages, expected one; save one that joins them"):
        score_maps(images / "m.csv", images / "maps", "mpc")


def test_scores_take_the_place_of_scores_only(images, capsys, monkeypatch):
    """A set's record has the most natural name, coverage.json beside coverage.csv."""
    monkeypatch.chdir(images)
    for name in "abc":
        save(images / "maps" / f"{name}.npy", SCORES)
    words = ["score", "maps", "--manifest", "m.csv", "--json", "m.json"]
    run = {"schema": 1, "recipe": {}, "protocol": "mpc", "manifest": "m.csv", "sets": {}, "average": {}}
    for other in ({"set": "m", "terms": "…"}, run, {"protocols": {"mpc": run}}, [1], "text"):
        (images / "m.json").write_text(json.dumps(other))
        for command in (words, ["evaluate", "--weights", "lite", *words[2:]]):
            assert main(command) == 2
            assert "is there, and neither evaluate nor score wrote it" in capsys.readouterr().err
        assert json.loads((images / "m.json").read_text()) == other
    (images / "m.json").unlink()
    for protocols in ([], ["--protocol", "permuted", "--protocol", "mpc"], []):
        assert main(words + protocols) == 0
    (images / "m.json").write_text("")
    assert main(words) == 0


def test_no_command_writes_over_what_it_reads(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    save(images / "maps" / "a.npy", SCORES)
    (images / "link.csv").symlink_to("m.csv")
    before = {file: file.read_bytes() for file in images.rglob("*") if file.is_file()}
    rows = ["--manifest", "m.csv", "--json"]
    for words in (
        *(["score", "maps", *rows, out] for out in ("m.csv", "link.csv", "maps/../m.csv", "a.png", "maps/a.npy")),
        ["evaluate", "--weights", "lite", *rows, "m.csv"],
        ["evaluate", "--weights", "lite", *rows, "b.jpg.mask.png"],
        ["evaluate", "--maps", "maps", *rows, "link.csv"],
        ["robustness", "--weights", "lite", *rows, "m.csv"],
    ):
        assert main(words) == 2
        told = capsys.readouterr()
        assert "is read here" in told.err and len(told.err.splitlines()) == 1 and not told.out
    assert {file: file.read_bytes() for file in images.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_evaluate_scores_several_protocols_from_one_pass(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    words = ["evaluate", "--weights", "lite", "--device", "cpu", "--manifest", "m.csv"]
    assert main([*words, "--protocol", "mpc", "--protocol", "best_threshold", "--json", "two.json"]) == 0
    assert main([*words, "--protocol", "best_threshold", "--json", "one.json"]) == 0
    two, one = (json.loads((images / f"{n}.json").read_text()) for n in ("two", "one"))
    assert two["protocols"]["best_threshold"] == one and two["protocols"]["mpc"]["protocol"] == "mpc"
    assert not (images / "index.json").exists()


def test_a_table_is_told_though_its_file_cannot_be_written(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    for name in ("a.png", "b.png", "c.png"):
        save(images / "maps" / name, np.zeros(SIZE, np.uint8))
    assert main(["score", "maps", "--manifest", "m.csv", "--json", "m.csv/scores.json"]) == 2
    told = capsys.readouterr()
    assert "toy" in told.out and "cannot write m.csv/scores.json" in told.err
