"""Manifests and the reading of masks: every kind of row and mask file, every kind of mistake."""

import csv
import io
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import Sample, check, look_through, read_manifest, read_mask, write_manifest
from mpc_lite.decoders import decode_file
from mpc_lite.errors import InputError

HEADER = "image,mask,label,source\n"


def pixels(height=6, width=9, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A tampered a.png with mask a_mask.png, an authentic b.png; all 9×6 pixels (width × height)."""
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    Image.fromarray(pixels(seed=1)).save(tmp_path / "b.png")
    mask = np.zeros((6, 9), np.uint8)
    mask[2:4, 3:8] = 255
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    return tmp_path


def write(folder, text, name="m.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# ---------------------------------------------------------------------------------------------------------- the list


def test_reads_rows_in_order_with_paths_from_the_manifests_folder(folder, monkeypatch):
    path = write(
        folder, "image,mask,label,source,split,camera\na.png,a_mask.png,1,mine,train,X1\nb.png,,0,mine,test,Y2\n"
    )
    monkeypatch.chdir("/")  # paths do not depend on where one stands
    a, b = read_manifest(path)
    assert (a.image, a.mask) == (folder / "a.png", folder / "a_mask.png")
    assert (a.label, a.source, a.split, a.row, a.extra) == (1, "mine", "train", 2, {"camera": "X1"})
    assert (b.image, b.mask, b.label, b.split, b.row) == (folder / "b.png", None, 0, "test", 3)
    assert [s.row for s in read_manifest(path, split="test")] == [3]


def test_split_is_none_without_the_column(folder):
    assert read_manifest(write(folder, HEADER + "b.png,,0,mine\n"))[0].split is None


def test_reads_what_spreadsheets_write(folder):
    text = '\ufeffimage,mask,label,source\r\n"a.png",a_mask.png,1,"mine, too"\r\n\r\n b.png ,,0,mine\r\n'
    a, b = read_manifest(write(folder, text))
    assert a.source == "mine, too" and b.image == folder / "b.png" and b.row == 4
    emptied = "image,mask,label,source,,\na.png,a_mask.png,1,mine,,\n"  # columns that were used once
    (sample,) = read_manifest(write(folder, f",,,\n{emptied} , ,,,,\n,,,\n"))
    assert sample.source == "mine" and sample.row == 3 and sample.extra == {}
    noted = write(folder, emptied.replace("mine,,", "mine,once,twice"))
    write_manifest(folder / "again.csv", read_manifest(noted))
    (sample,) = read_manifest(folder / "again.csv")
    assert sample.extra == {"column 5": "once", "column 6": "twice"}


def test_written_manifest_reads_back_equal_from_another_folder(folder):
    text = "image,mask,label,source,split,camera\na.png,a_mask.png,1,mine,train,X1\nb.png,,0,other,,\n"
    samples = read_manifest(write(folder, text))
    samples.append(Sample(folder / "b.png", None, 0, "third"))
    (folder / "lists").mkdir()
    target = folder / "lists" / "copy.csv"
    write_manifest(target, samples)
    rows = list(csv.DictReader(target.open()))
    assert rows[0] == {
        "image": "../a.png", "mask": "../a_mask.png", "label": "1", "source": "mine", "split": "train", "camera": "X1",
    }  # fmt: skip
    back = read_manifest(target)
    for old, new in zip(samples, back, strict=True):
        assert new.image.resolve() == old.image and (new.mask and new.mask.resolve()) == old.mask
        assert (new.label, new.source, new.split) == (old.label, old.source, old.split)
    assert [s.extra["camera"] for s in back] == ["X1", "", ""]


def test_a_manifest_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(InputError, match=r"no_such/m.csv: cannot"):
        write_manifest(tmp_path / "no_such" / "m.csv", [])


@pytest.mark.trust
@pytest.mark.parametrize("name", ["caf\udce9.png", "a\nb.png"])
def test_a_name_that_no_manifest_can_hold_leaves_the_earlier_file(tmp_path, name):
    path = tmp_path / "m.csv"
    path.write_text("earlier")
    good = Sample(tmp_path / "a.png", None, 0, "set")
    with pytest.raises(InputError, match=r"not one line of UTF-8.*rename it"):
        write_manifest(path, [good, Sample(tmp_path / name, None, 0, "set")])
    assert path.read_text() == "earlier" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.trust
def test_a_link_stands_in_a_manifest_under_its_own_name(folder):
    (folder / "set").mkdir()
    (folder / "set" / "1.png").symlink_to(folder / "a.png")
    (folder / "set" / "1_gt.png").symlink_to(folder / "a_mask.png")
    write_manifest(folder / "m.csv", [Sample(folder / "set" / "1.png", folder / "set" / "1_gt.png", 1, "mine")])
    assert (folder / "m.csv").read_text() == HEADER + "set/1.png,set/1_gt.png,1,mine\n"
    text = HEADER + "set/1.png,a_mask.png,1,mine\na.png,a_mask.png,1,mine\n"
    assert check(write(folder, text)) == ["row 3 of m.csv: a.png is in row 2 already"]  # one picture all the same


@pytest.mark.trust
@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u3000", "\t"])
def test_a_name_that_begins_with_a_blank_is_no_other(folder, blank):
    mine = folder / f"{blank}set"
    mine.mkdir()
    (folder / "set").mkdir()
    for name, other in (("a.png", "b.png"), ("a_mask.png", "b.png")):
        (mine / name).write_bytes((folder / name).read_bytes())
        (folder / "set" / name).write_bytes((folder / other).read_bytes())
    sample = Sample(mine / "a.png", mine / "a_mask.png", 1, " mine ")
    write_manifest(folder / "m.csv", [sample])
    (back,) = read_manifest(folder / "m.csv")
    assert (back.image, back.mask, back.source) == (sample.image, sample.mask, "mine")
    by_hand = read_manifest(write(folder, HEADER + f"{blank}set/a.png,{blank}set/a_mask.png,1,mine\n"))[0]
    assert (by_hand.image, by_hand.mask) == (sample.image, sample.mask)
    padded = read_manifest(write(folder, HEADER + f"{blank}a.png{blank},{blank},0,mine\n"))[0]
    assert (padded.image, padded.mask) == (folder / "a.png", None)  # as tables have it for the eye


@pytest.mark.trust
def test_a_folder_called_as_the_home_folder_is_no_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "~").mkdir()
    (folder / "~" / "b.png").write_bytes((folder / "a.png").read_bytes())
    write_manifest(folder / "m.csv", [Sample(folder / "~" / "b.png", None, 0, "mine")])
    assert read_manifest(folder / "m.csv")[0].image.read_bytes() == (folder / "a.png").read_bytes()


@pytest.mark.trust
def test_a_name_that_ends_with_a_blank_is_not_written(folder):
    for name in ("a.png ", "a.png\u00a0"):
        with pytest.raises(InputError, match="ends with a blank, which a manifest's cell loses; rename it"):
            write_manifest(folder / "m.csv", [Sample(folder / name, None, 0, "mine")])
    assert not (folder / "m.csv").exists()


@pytest.mark.parametrize("before", ["\n", "\r\n\n", ",,,\n"])
def test_empty_lines_before_the_header_are_counted(folder, before):
    path = write(folder, before + HEADER + "b.png,,0,mine\nc.png,,0,mine\n")
    number = before.count("\n") + 3
    with pytest.raises(InputError, match=f"row {number} of m.csv: image c.png does not exist"):
        read_manifest(path)
    assert check(path)[0].startswith(f"row {number} of m.csv")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "column image, mask, label, source is missing; found an empty file; expected image,mask,label,source"),
        ("image,width,source\nx,1,y\n", "column mask, label is missing; found image,width,source; expected image,mask"),
        ("image;mask;label;source\n", "found image;mask;label;source; expected image,mask,label,source"),
        (HEADER, "has a header but no rows"),
        ("image,mask,label,source,label\n", "the columns label occur twice"),
        (
            HEADER + "b.png,,authentic,mine\n",
            "row 2 of m.csv: label 'authentic', expected 1 (tampered) or 0 (authentic)",
        ),
        (HEADER + "b.png,,,mine\n", "row 2 of m.csv: label '', expected 1"),
        (HEADER + "b.png,,0,mine\nb.png,,1,mine\n", "row 3 of m.csv: label 1 (tampered) without a mask"),
        (HEADER + "b.png,,0\n", "row 2 of m.csv: 3 fields, expected 4"),
        (HEADER + "b.png,,0,mine,more\n", "row 2 of m.csv: 5 fields, expected 4"),
        (HEADER + ",,0,mine\n", "row 2 of m.csv: no image"),
        (HEADER + "b.png,,0,\n", "row 2 of m.csv: no source"),
        (HEADER + "c.png,,0,mine\n", "row 2 of m.csv: image c.png does not exist in"),
        (HEADER + ".,,0,mine\n", "row 2 of m.csv: image . does not exist in"),
        (HEADER + "a.png,c.png,1,mine\n", "row 2 of m.csv: mask c.png does not exist in"),
        (HEADER + "c.png,,0,mine\nd.png,,0,mine\ne.png,,0,mine\n", "; 2 other rows are bad too; fix or drop the row"),
    ],
)
def test_errors_say_what_was_found_and_expected(folder, text, expected):
    with pytest.raises(InputError) as error:
        read_manifest(write(folder, text))
    assert expected in str(error.value)


def test_files_that_are_no_csv_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); expected a manifest"):
        read_manifest(tmp_path)
    (tmp_path / "latin.csv").write_bytes("image,mask,label,source\ncafé.png,,0,x\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(tmp_path / "latin.csv")


def test_unknown_split_names_the_splits_found(folder):
    path = write(folder, "image,mask,label,source,split\nb.png,,0,mine,test\na.png,a_mask.png,1,mine,train\n")
    with pytest.raises(InputError, match=r"no row has the split 'val'; splits found: test, train"):
        read_manifest(path, split="val")
    with pytest.raises(InputError, match="no column 'split'"):
        read_manifest(write(folder, HEADER + "b.png,,0,mine\n"), split="test")


def test_check_lists_every_bad_row_and_only_those(folder):
    jpeg = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(jpeg, "jpeg")
    (folder / "cut.jpg").write_bytes(jpeg.getvalue()[:1000])
    (folder / "text.jpg").write_text("not an image")
    (folder / "nothing.png").touch()
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(folder / "black.png")
    Image.fromarray(np.full((7, 9), 255, np.uint8)).save(folder / "tall.png")
    for name in "cdef":
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    rows = [  # (row of the manifest, what check must say about it; None = nothing)
        ("a.png,a_mask.png,1,mine", None),
        ("b.png,,0,mine", None),
        ("c.png,black.png,0,mine", None),  # an authentic image may have a black mask
        ("gone.png,,0,mine", "image gone.png does not exist"),
        ("cut.jpg,,0,mine", "cut.jpg: cannot be read as an image (image file is truncated"),
        ("text.jpg,,0,mine", "text.jpg: cannot be read as an image (no format"),
        ("nothing.png,,0,mine", "nothing.png: cannot be read as an image (the file is empty)"),
        ("d.png,tall.png,1,mine", "mask 9×7, image 9×6"),
        ("e.png,black.png,1,mine", "label 1, but the mask black.png has no tampered pixel"),
        ("f.png,a_mask.png,0,mine", "label 0, but the mask a_mask.png has 10 tampered pixels"),
        ("./a.png,a_mask.png,1,mine", "a.png is in row 2 already"),
        ("b.png,text.jpg,2,mine", "label '2'"),
        ("b.png,", "2 fields"),
    ]
    lines = check(write(folder, HEADER + "\n".join(row for row, _ in rows)))
    expected = [(number, found) for number, (_, found) in enumerate(rows, start=2) if found]
    assert len(lines) == len(expected)
    for line, (number, found) in zip(lines, expected, strict=True):
        assert line.startswith(f"row {number} of m.csv: ") and found in line
        assert "mpc-lite check" not in line  # whoever reads these lines has just run it


def test_check_lists_a_picture_too_large_for_the_memory_and_goes_on(folder, monkeypatch):
    def decode(path):
        if path.name == "a.png":
            raise MemoryError
        return decode_file(path)

    monkeypatch.setattr("mpc_lite.images.decode_file", decode)
    rows = "a.png,a_mask.png,1,mine\nb.png,,0,mine\ngone.png,,0,mine\n"
    large, gone = check(write(folder, HEADER + rows))
    assert large.startswith("row 2 of m.csv: ") and "a.png: the memory does not suffice for this image" in large
    assert gone.startswith("row 4 of m.csv: image gone.png does not exist")


def test_check_refuses_what_is_no_manifest(folder):
    with pytest.raises(InputError, match="column mask, label is missing"):
        check(write(folder, "image,source\n"))


@pytest.mark.trust
def test_check_notes_what_is_often_a_mistake(folder):
    Image.fromarray(255 - np.asarray(Image.open(folder / "a_mask.png"))).save(folder / "inverted.png")
    for name in "cd":
        (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
    text = HEADER + "a.png,a_mask.png,1,mine\nb.png,a_mask.png,1,mine\nc.png,inverted.png,1,mine\nd.png,,0,mine\n"
    problems, notes = look_through(write(folder, text))
    assert problems == []
    assert notes == [
        "1 masks mark more than half of their image as tampered; are they the other way round? row 4 (81%)",
        "1 masks belong to several images, which is right for copies only: a_mask.png (rows 2, 3)",
    ]
    assert look_through(write(folder, HEADER + "a.png,a_mask.png,1,mine\nb.png,,0,mine\n")) == ([], [])
    Image.new("L", Image.open(folder / "a.png").size).save(folder / "black.png")
    shutil.copy(folder / "a.png", folder / "c.png")
    rows = "".join(f"{name}.png,black.png,0,mine\n" for name in "ac")
    assert look_through(write(folder, HEADER + rows)) == ([], [])


@pytest.mark.trust
def test_splits_that_a_training_does_not_know_are_noted_and_a_column_by_another_case_is_refused(folder):
    """Read as another column, Split would put test rows among those that are trained on."""
    rows = "a.png,a_mask.png,1,mine,Train\nb.png,,0,mine,test\n"
    problems, notes = look_through(write(folder, HEADER.replace("\n", ",split\n") + rows))
    assert problems == []
    assert notes == [
        "1 rows have the splits Train, which a training refuses: it knows train, validation, test and none; evaluate "
        "takes any with --split"
    ]
    path = write(folder, HEADER.replace("\n", ",Split\n") + rows)
    for read in (check, read_manifest):
        with pytest.raises(InputError, match=r"m\.csv: column 'Split', expected 'split'; rename or drop it"):
            read(path)


@pytest.mark.trust
@pytest.mark.parametrize("name", ["a.png", "./a.png", "link.png"])
def test_an_image_is_not_its_own_mask(folder, name):
    (folder / "link.png").symlink_to("a.png")
    path = write(folder, HEADER + f"a.png,{name},1,mine\n")
    assert check(path) == ["row 2 of m.csv: image a.png is its own mask"]
    with pytest.raises(InputError, match=r"image a\.png is its own mask; fix or drop"):
        read_manifest(path)


@pytest.mark.trust
def test_a_copy_of_the_image_is_no_mask(folder):
    """Black and white, so that it could be one: only its bytes tell."""
    for name in ("white.png", "copy.png"):
        (folder / name).write_bytes((folder / "a_mask.png").read_bytes())
    path = write(folder, HEADER + "a.png,a_mask.png,1,mine\nwhite.png,copy.png,1,mine\n")
    assert check(path) == ["row 3 of m.csv: the mask copy.png is a copy of its image"]


@pytest.mark.trust
def test_paths_of_a_manifest_are_found_whichever_system_wrote_them(folder, monkeypatch):
    (folder / "sub").mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).rename(folder / "sub" / unicodedata.normalize("NFD", f"é{name}"))
    monkeypatch.setenv("HOME", str(folder))
    rows = f"sub\\é{'a.png'},~/a_mask.png,1,mine\nsub/éb.png,,0,mine\n"
    path = write(folder, HEADER + unicodedata.normalize("NFC", rows))
    assert check(path) == []
    assert [s.image.is_file() for s in read_manifest("~/m.csv")] == [True, True]


# ------------------------------------------------------------------------------------------------------- mask files

SHAPE = np.zeros((6, 9), bool)
SHAPE[1:4, 2:7] = True
MASKS = {
    "0 and 255": Image.fromarray(SHAPE * np.uint8(255)),
    "0 and 1": Image.fromarray(SHAPE * np.uint8(1)),
    "one bit": Image.fromarray(SHAPE),
    "just above and at 127": Image.fromarray(np.where(SHAPE, 128, 127).astype(np.uint8)),
    "above 127 with a 1": Image.fromarray(np.where(SHAPE, 200, 1).astype(np.uint8)),
    "rgb": Image.fromarray(np.repeat(SHAPE[..., None] * np.uint8(255), 3, axis=2)),
    "rgba": Image.fromarray(np.dstack([np.full((6, 9, 3), 255, np.uint8), SHAPE * np.uint8(255)])),
    "16-bit": Image.fromarray(SHAPE * np.uint16(65535)),
    "16-bit just above and at half": Image.fromarray(np.where(SHAPE, 0x8000, 0x7FFF).astype(np.uint16)),
    "16-bit of 0 and 1": Image.fromarray(SHAPE * np.uint16(1)),
    "16-bit of 0 and 255": Image.fromarray(SHAPE * np.uint16(255)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_every_kind(tmp_path, kind):
    MASKS[kind].save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, SHAPE)
    np.testing.assert_array_equal(read_mask(Sample(Path("x"), tmp_path / "mask.png", 1, "mine"), size=(6, 9)), SHAPE)


def test_palette_masks_count_by_their_colours(tmp_path):
    mask = Image.fromarray(SHAPE * np.uint8(1)).convert("P")
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), SHAPE)


def test_no_mask_gives_zeros(folder):
    sample = Sample(folder / "b.png", None, 0, "mine")
    for mask in (read_mask(sample, size=(6, 9)), read_mask(sample)):
        assert mask.shape == (6, 9) and mask.dtype == np.uint8 and not mask.any()


def test_a_mis_sized_mask_gives_the_row_and_both_sizes(folder):
    Image.new("L", (512, 384), 255).save(folder / "large.png")
    sample = read_manifest(write(folder, HEADER + "a.png,large.png,1,casia\n", "casia.csv"))[0]
    with pytest.raises(InputError) as error:
        read_mask(sample, size=(383, 512))
    assert str(error.value) == (
        "row 2 of casia.csv: mask 512×384, image 512×383; "
        "fix or drop the row ('mpc-lite check casia.csv' lists all such rows)"
    )
    with pytest.raises(InputError, match=r"mask 512×384, image 384×512 \(turned\); fix"):
        read_mask(sample, size=(512, 384))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (512, 384)).save(folder / "a.png", exif=exif)
    with pytest.raises(InputError, match=r"\(the image's orientation mark turns it; save both upright\)"):
        read_mask(sample, size=(512, 384))
    Image.new("RGB", (512, 384)).save(folder / "a.png")
    Image.new("L", (384, 512), 255).save(folder / "large.png", exif=exif)
    with pytest.raises(InputError, match=r"\(the mask's orientation mark turns it; save both upright\)"):
        read_mask(sample, size=(512, 384))
    with pytest.raises(InputError, match=r"large.png: mask 512×384, image 1×2"):
        read_mask(folder / "large.png", size=(2, 1))


def test_a_mask_that_contradicts_its_label_is_an_error(folder):
    Image.new("L", (9, 6)).save(folder / "black.png")
    with pytest.raises(InputError, match=r"label 1, but the mask black.png has no tampered pixel"):
        read_mask(Sample(folder / "a.png", folder / "black.png", 1, "mine"))
    with pytest.raises(InputError, match=r"label 0, but the mask a_mask.png has 10 tampered pixels"):
        read_mask(Sample(folder / "a.png", folder / "a_mask.png", 0, "mine"))


# -------------------------------------------------------------------------------------------------------- real files


@pytest.mark.slow
@pytest.mark.data
def test_real_forgeries(data_dir):
    samples = read_manifest(data_dir / "forged.csv")
    assert len(samples) == 508 and sum(s.label for s in samples) == 461
    assert check(data_dir / "forged.csv") == []
