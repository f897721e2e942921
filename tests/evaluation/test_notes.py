"""What counts and is often a mistake: noted in the same words by every command, and no number changed."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.data.manifest import Sample, check, read_manifest
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.evaluation.notes import notes_on, turned_note

MASK = np.zeros((40, 60), np.uint8)
MASK[20:, 30:] = 255


def tagged(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def picture(path, turn=1, size=(40, 60)):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=tagged(turn))


@pytest.fixture
def repeated(tmp_path):
    """A manifest of two rows with one image, and one whose mask is a copy of its image."""
    picture(tmp_path / "a.png")
    for name in ("m.png", "b.png", "b-mask.png"):
        Image.fromarray(MASK).save(tmp_path / name)
    rows = ["image,mask,label,source", *["a.png,m.png,1,toy"] * 2, "b.png,b-mask.png,1,toy"]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    return tmp_path / "m.csv"


def test_what_check_calls_bad_is_noted_in_its_words_where_it_counts(repeated, monkeypatch, capsys):
    problems = check(repeated)
    notes = notes_on(read_manifest(repeated))
    assert len(problems) == len(notes) == 2 and all(p in n for p, n in zip(problems, notes, strict=True))
    table = evaluate(lambda image: np.zeros(image.shape[:2], np.float32), repeated)
    assert table["notes"] == notes and table["average"]["n"] == 3 and table["errors"] == []

    monkeypatch.chdir(repeated.parent)
    (repeated.parent / "maps").mkdir()
    for name in "ab":
        Image.fromarray(MASK).save(repeated.parent / "maps" / f"{name}.png")
    assert main(["score", "maps", "--manifest", "m.csv"]) == 0
    assert capsys.readouterr().err == "".join(f"note: {note}\n" for note in notes)


@pytest.mark.trust
def test_masks_the_other_way_round_are_noted_where_most_are(tmp_path):
    """As tifffile writes boolean ones: their zeros are white, which every reader but tifffile heeds."""
    names = []
    for i in range(3):
        Image.fromarray(np.full((40, 60, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        tifffile.imwrite(tmp_path / f"{i}.tif", MASK > 0)
        names.append(f"{i}.png,{i}.tif,1,toy")
    rows = ["image,mask,label,source", *names]
    (tmp_path / "m.csv").write_text("\n".join(rows))

    def notes():
        return evaluate(lambda image: np.zeros(image.shape[:2], np.float32), tmp_path / "m.csv")["notes"]

    assert notes() == ["3 of 3 masks mark more than half of their image; are they the other way round?"]
    for i in (0, 1):
        Image.fromarray(MASK > 0).save(tmp_path / f"{i}.tif")
    assert notes() == []


def test_other_rows_have_no_note(tmp_path):
    picture(tmp_path / "a.png")
    Image.fromarray(MASK).save(tmp_path / "m.png")
    odd = [Sample(tmp_path / name, None, 0, "toy") for name in ("gone.png", "a\0b", "c")]
    assert notes_on([Sample(tmp_path / "a.png", tmp_path / "m.png", 1, "toy"), *odd]) == []
    assert "a.png is in the list already" in notes_on([Sample(tmp_path / "a.png", None, 0, "toy")] * 2 + odd)[0]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("square", [False, True])
def test_a_turned_image_is_noted_where_the_sides_of_its_mask_show_nothing(turn, square, tmp_path):
    picture(tmp_path / "a.jpg", turn, (40, 40 if square else 60))
    sample = Sample(tmp_path / "a.jpg", tmp_path / "m.png", 1, "toy")
    Image.fromarray(MASK).save(sample.mask)
    assert len(turned_note([sample])) == (turn in (2, 3, 4) or (turn > 4 and square))
    Image.fromarray(MASK).save(sample.mask, exif=tagged(turn))
    assert turned_note([sample]) == []


def test_every_command_notes_a_turned_image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks", "maps"):
        (tmp_path / folder).mkdir()
    picture(tmp_path / "images" / "a.jpg", 3)
    Image.fromarray(MASK).save(tmp_path / "masks" / "a.png")
    np.save(tmp_path / "maps" / "a.npy", MASK / np.float32(255))
    (tmp_path / "m.csv").write_text("image,mask,label,source\nimages/a.jpg,masks/a.png,1,toy")
    said = (
        "1 images have an orientation mark that turns or mirrors them; their masks were taken for masks of the upright"
    )
    assert main(["check", "m.csv"]) == 0
    assert f"note: {said}" in capsys.readouterr().out
    for words in (
        ["score", "maps", "--manifest", "m.csv"],
        ["evaluate", "--weights", "lite2", "--pairs", "images", "masks"],
    ):
        assert main(words) == 0
        assert f"note: {said}" in capsys.readouterr().err
