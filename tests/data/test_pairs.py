"""Two folders become pairs by name, or a file is named and left out; nothing is paired by order."""

import os
import shutil
import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.pairs import ENDINGS, SAME, SPELLED, match_names, read_pairs, stem
from mpc_lite.decoders import decode_file
from mpc_lite.errors import InputError


def draw(file, mask=None):
    """An image of 8 × 8 pixels, or a mask with so many tampered rows."""
    file.parent.mkdir(exist_ok=True, parents=True)
    values = np.full((8, 8, 3), 90, np.uint8)
    if mask is not None:
        values = np.zeros((8, 8), np.uint8)
        values[:mask] = 255
    Image.fromarray(values).save(file)


@pytest.fixture
def folders(tmp_path):
    """photos/ and masks/ with: a, the same name; B and b_gt; an accent in two forms; d, whose mask is empty."""
    names = [("a.jpg", "a.png"), ("B.jpg", "b_GT.png"), ("é.png", "é.png"), ("d.png", "d-mask.png")]
    for image, mask in names:
        draw(tmp_path / "photos" / unicodedata.normalize("NFC", image))
        draw(tmp_path / "masks" / unicodedata.normalize("NFD", mask), mask=0 if image[0] == "d" else 3)
    return tmp_path


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_of_the_field_names_a_mask(ending):
    assert match_names(["x.jpg"], [f"X{ending.upper()}.png"]) == [
        ("x.jpg", f"X{ending.upper()}.png", f"ending {ending}", "")
    ]


def test_how_a_pair_was_found_is_told():
    decomposed = unicodedata.normalize("NFD", "café.png")
    assert [m.how for m in match_names(["a.jpg", "B.jpg", "café.jpg"], ["a.png", "b.png", decomposed])] == [
        SAME, SPELLED, SPELLED,
    ]  # fmt: skip
    assert stem("CAFÉ.x.png") == stem(unicodedata.normalize("NFD", "café.x.jpg"))


def test_where_a_name_leaves_a_choice_nothing_is_paired():
    matches = match_names(["a.jpg", "A.jpg", "b.jpg", "c.jpg"], ["a.png", "b_gt.png", "b-mask.png", "x.png"])
    assert [(m.image, m.problem.split(" in ")[0]) for m in matches] == [
        ("a.jpg", "a.jpg, A.jpg and a.png have one name, expected one of each"),
        ("A.jpg", "a.jpg, A.jpg and a.png have one name, expected one of each"),
        ("b.jpg", "b.jpg and b_gt.png, b-mask.png have one name, expected one of each"),
        ("c.jpg", "no mask of this name"),
        (None, "a mask without an image"),
    ]


def test_a_name_that_may_be_the_mask_of_two_images_is_nobodys():
    names = ["e.jpg", "e_mask.jpg"]
    for masks in (["e_mask.png"], ["e_mask.png", "e_mask_mask.png"]):
        matches = match_names(names, masks)
        assert all(match.problem for match in matches) and {match.image for match in matches} == set(names)
        assert any(f"{', '.join(masks)}: of this image, or of e.jpg?" in match.problem for match in matches)
    own = {"e.jpg": "e_gt.png", "e_mask.jpg": "e_mask.png"}  # e has another mask
    assert {m.image: m.mask for m in match_names(names, own.values()) if not m.problem} == own
    chain = [f"e{'_gt' * n}.jpg" for n in range(4)]  # each called as the one before and an ending
    matches = match_names(["d.jpg", *chain], ["d.png", *(f"e{'_gt' * n}.png" for n in range(1, 5))])
    assert {m.image: m.mask for m in matches if not m.problem} == {"d.jpg": "d.png"} and len(matches) == 5
    both = match_names(["e.jpg", "f.jpg"], ["e.png", "e_mask.png", "f_mask.png"])
    assert {m.image: m.mask for m in both if not m.problem} == {"e.jpg": "e.png", "f.jpg": "f_mask.png"}


def test_folders_become_samples_and_say_what_was_paired_how(folders):
    draw(folders / "photos" / "lonely.jpg")
    (folders / "photos" / "notes.txt").write_text("no picture")
    pairs = read_pairs(folders / "photos", folders / "masks")
    assert {(s.image.name[0], s.mask.name[0].upper(), s.label) for s in pairs.samples} == {
        ("a", "A", 1), ("B", "B", 1), (unicodedata.normalize("NFC", "é"), "E", 1), ("d", "D", 0),
    }  # fmt: skip
    assert {s.source for s in pairs.samples} == {"photos"} and [s.row for s in pairs.samples] == [1, 2, 3, 4]
    assert pairs.left_out == ["photos/lonely.jpg: no mask of this name in masks"]
    assert pairs.facts == {
        "images": "photos",
        "masks": "masks",
        "n": 4,
        "authentic": 1,
        "paired": {SAME: 1, "ending _gt": 1, "ending -mask": 1, SPELLED: 1},
    }
    assert pairs.told() == (
        "4 pairs of image and mask: 1 by the same name, 1 by ending _gt, 1 by ending -mask, "
        "1 by case or accents apart; empty masks, so authentic images: 1; files left out: 1"
    )


def test_a_mask_too_large_for_the_memory_does_not_lose_the_other_pairs(folders, monkeypatch):
    def decode(path):
        if path.name.startswith("d"):
            raise MemoryError
        return decode_file(path)

    monkeypatch.setattr("mpc_lite.images.decode_file", decode)
    pairs = read_pairs(folders / "photos", folders / "masks")
    # It is told, as one that cannot be read, when its image is scored.
    assert len(pairs.samples) == 4 and [s.label for s in pairs.samples if s.image.name == "d.png"] == [1]


def test_one_folder_may_hold_both(tmp_path):
    for name in ("a", "b_mask"):  # the second one's name has an ending, and is an image all the same
        draw(tmp_path / "all" / f"{name}.jpg")
        draw(tmp_path / "all" / f"{name}_gt.png", mask=2)
    pairs = read_pairs(tmp_path / "all", tmp_path / "all", source="mine")
    assert [(s.image.name, s.mask.name, s.source) for s in pairs.samples] == [
        ("a.jpg", "a_gt.png", "mine"),
        ("b_mask.jpg", "b_mask_gt.png", "mine"),
    ]
    assert pairs.left_out == []


@pytest.mark.trust
def test_one_folder_for_both_says_how_its_masks_are_called(tmp_path):
    draw(tmp_path / "all" / "a.jpg")
    draw(tmp_path / "all" / "a.png", mask=2)
    with pytest.raises(
        InputError, match=r"a\.jpg, a\.png have one name .*; in one folder for both, a mask is called as"
    ):
        read_pairs(tmp_path / "all", tmp_path / "all")
    draw(tmp_path / "all" / "b.jpg")
    draw(tmp_path / "all" / "b_gt.png", mask=2)
    pairs = read_pairs(tmp_path / "all", tmp_path / "all")
    assert len(pairs.samples) == 1
    assert pairs.left_out == [
        f"all/a.{end}: no mask of this name in all; a.jpg, a.png have one name" for end in ("jpg", "png")
    ]


def test_one_folder_of_many_pairs_is_read_once(tmp_path, monkeypatch):
    """600 names are looked at a few times each, not each beside all others."""
    draw(tmp_path / "all" / "0.jpg")
    draw(tmp_path / "all" / "0_gt.png", mask=2)
    for i in range(1, 300):
        shutil.copy(tmp_path / "all" / "0.jpg", tmp_path / "all" / f"{i}.jpg")
        shutil.copy(tmp_path / "all" / "0_gt.png", tmp_path / "all" / f"{i}_gt.png")
    looks = Counter()

    def counted(name):
        looks[name] += 1
        return stem(name)

    monkeypatch.setattr("mpc_lite.data.pairs.stem", counted)
    assert len(read_pairs(tmp_path / "all", tmp_path / "all").samples) == 300
    assert max(looks.values()) <= 40


def test_what_is_no_pair_of_folders(folders):
    with pytest.raises(InputError, match="is not a folder"):
        read_pairs(folders / "nowhere", folders / "masks")
    (folders / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no picture .* below it are not looked into"):
        read_pairs(folders / "photos", folders / "empty")
    draw(folders / "other" / "z.png", mask=1)
    with pytest.raises(
        InputError, match=r"no image of .* has a mask in .* \(and 4 more\); a mask is called as its image"
    ):
        read_pairs(folders / "photos", folders / "other")


def test_a_mask_that_cannot_be_read_is_left_to_the_scoring(folders):
    (folders / "masks" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    pairs = read_pairs(folders / "photos", folders / "masks")
    assert len(pairs.samples) == 4 and [s.label for s in pairs.samples if s.image.name == "a.jpg"] == [1]


@pytest.mark.trust
def test_pictures_in_folders_below_are_counted_but_those_of_the_other_folder(folders):
    draw(folders / "photos" / "more" / "z.jpg")
    draw(folders / "photos" / "more" / "y.jpg")
    (folders / "masks").rename(folders / "photos" / "masks")
    pairs = read_pairs(folders / "photos", folders / "photos" / "masks")
    assert pairs.left_out == [] and len(pairs.samples) == 4
    assert pairs.told().endswith("; not looked at: 2 pictures in folders below, photos/more")


@pytest.mark.trust
def test_a_part_of_a_set_that_synth_makes_is_not_taken_for_the_whole(folders):
    (folders / "photos").rename(folders / "images")
    (folders / ".unfinished").touch()
    for pair in (("images", "masks"), ("images", "images")):
        with pytest.raises(InputError, match="images is of a set that synth has not finished; run synth again"):
            read_pairs(*(folders / name for name in pair))
    (folders / ".unfinished").unlink()
    assert len(read_pairs(folders / "images", folders / "masks").samples) == 4


@pytest.mark.trust
def test_links_that_lead_nowhere_are_told_as_such(folders):
    photos, masks = folders / "photos", folders / "masks"
    (photos / "a.jpg").unlink()
    for broken in (photos / "a.jpg", photos / "x.jpg", masks / "x.png"):
        broken.symlink_to("gone")
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "folder.png").mkdir()
    os.mkfifo(photos / "pipe.png")
    pairs = read_pairs(photos, masks)
    assert pairs.facts["n"] == 3 and pairs.left_out == [
        "photos/a.jpg: a link that leads to no file",
        "photos/loop.png: a link that leads to no file",
        "photos/pipe.png: a pipe or a device, expected a file",
        "photos/x.jpg: a link that leads to no file",
        "masks/x.png: a link that leads to no file",
        "masks/a.png: a mask without an image in photos",
    ]
    (folders / "links").mkdir()
    (folders / "links" / "y.png").symlink_to("gone")
    with pytest.raises(InputError, match=r"links holds no picture \(.*\) but y\.png: a link that leads to no file;"):
        read_pairs(folders / "links", masks)
    (photos / "B_mask.png").symlink_to("gone")
    draw(photos / "d_mask.png", mask=3)
    told = read_pairs(photos, photos).left_out
    assert told.count("photos/B_mask.png: a link that leads to no file") == 1
