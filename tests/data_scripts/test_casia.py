"""CASIA v1, v1+ and v2 in their real layouts: pairing by name, by the renaming sheet and by the forgery's number."""

import os
import shutil
import signal
import sys
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import read_mask

SP1, SP2 = "Sp_D_CND_A_pla0005_pla0023_0281", "Sp_D_NRN_A_sec0011_cha0012_0300"
CM = "Sp_S_NNN_C_txt0005_txt0005_0005"
LONE = "Sp_D_NRN_A_cha0011_sec0011_0542"  # the one image of CASIA v1 without a mask


@pytest.fixture
def casia1(tmp_path, photo, mask_file):
    """Two splices, a copy-move and two authentic photographs; masks with grey values, apart from the images."""
    images, masks = tmp_path / "CASIA1.0" / "Modified Tp" / "Tp", tmp_path / "CASIA 1.0 groundtruth"
    for number, (folder, name) in enumerate((("Sp", SP1), ("Sp", SP2), ("CM", CM))):
        photo(images / folder / f"{name}.jpg", seed=number)
        file = mask_file(masks / folder / f"{name}_gt.png")
        if name == SP1:  # one row of the region is grey 60: above 0, and not plain without a rule
            values = np.array(Image.open(file))
            values[13] = values[13] // 255 * 60
            Image.fromarray(values).save(file)
    for number in (1, 2):
        photo(tmp_path / "CASIA1.0" / "Au" / f"Au_ani_000{number}.jpg", seed=10 + number)
    return tmp_path / "CASIA1.0", masks


def test_casia1_pairs_by_stem_and_converts_only_what_would_be_read_differently(load, run, casia1):
    done = run(load("casia1").CASIA1, *casia1)
    assert (done.code, done.bad) == (0, [])
    assert [(row.image.stem, row.label, row.source) for row in done.rows] == [
        (CM, 1, "CASIAv1"),
        (SP1, 1, "CASIAv1"),
        (SP2, 1, "CASIAv1"),
        ("Au_ani_0001", 0, "CASIAv1"),
        ("Au_ani_0002", 0, "CASIAv1"),
    ]
    by_name = {row.image.stem: row.mask for row in done.rows}
    assert by_name[SP2].resolve() == (casia1[1] / "Sp" / f"{SP2}_gt.png").resolve()  # 0/255: as it is
    assert by_name[SP1].resolve().is_relative_to((done.folder / "casia1" / "masks").resolve())
    assert done.record["masks"]["as_given"] == 2 and done.record["masks"]["converted"] == 1
    assert done.record["mask_rule"]["threshold"] == 0


def test_casia1_reports_the_counts_that_circulate(load, run, casia1):
    out = run(load("casia1").CASIA1, *casia1).out
    line = next(line for line in out.splitlines() if line.startswith("tampered:"))
    assert "found 3" in line and "good 3" in line and "DIFFERS" in line
    assert "920 (MPC" in line and "921 (TruFor" in line and "923 (photoholmes)" in line
    assert line.endswith("paper's test set: 920")
    assert out.count("terms:") == 1 and out.count("owner:") == 1


def test_casia1_lists_the_image_without_mask(load, run, casia1, photo):
    photo(casia1[0] / "Modified Tp" / "Tp" / "Sp" / f"{LONE}.jpg")
    done = run(load("casia1").CASIA1, *casia1)
    assert done.code == 1 and [row["problem"] for row in done.bad] == ["no mask"] and LONE in done.bad[0]["image"]
    assert LONE in done.out and done.record["counts"]["tampered"]["found"] == 4 and len(done.rows) == 5


def test_misnamed_masks_are_found_by_the_number_and_noted(load, run, casia1, photo, mask_file):
    tampered = casia1[0] / "Modified Tp" / "Tp" / "Sp"
    photo(tampered / "Sp_D_NRD_A_nat0001_sce0002_0777.jpg")
    mask_file(casia1[1] / "Sp" / "Sp_D_NRD_A_sec0002_nat0001_0777_gt.png", box=(0, 0, 5, 5))
    done = run(load("casia1").CASIA1, *casia1)
    assert done.code == 0 and len(done.rows) == 6
    (note,) = done.record["notes"]
    assert "0777" in note["image"] and "Sp_D_NRD_A_sec0002_nat0001_0777_gt.png" in note["note"]


def test_a_number_that_is_not_unique_pairs_nothing(load, run, casia1, photo, mask_file):
    tampered = casia1[0] / "Modified Tp" / "Tp" / "Sp"
    photo(tampered / "Sp_D_NRD_A_nat0001_sce0002_0777.jpg")
    for source in ("sec0002", "sec0003"):
        mask_file(casia1[1] / "Sp" / f"Sp_D_NRD_A_{source}_nat0001_0777_gt.png")
    done = run(load("casia1").CASIA1, *casia1)
    assert done.code == 1 and len(done.rows) == 5
    assert sorted(row["problem"] for row in done.bad) == ["mask without image"] * 2 + ["no mask"]


def test_numbers_count_within_their_code_because_textures_repeat_them(load, run, casia1, photo, mask_file):
    tampered = casia1[0] / "Modified Tp" / "Tp" / "CM"
    for code, width in (("C", 3), ("R", 5)):
        photo(tampered / f"Sp_S_NND_{code}_txt0099_txt0099_0099.jpg", seed=width)
        mask_file(casia1[1] / "CM" / f"Sp_S_NNN_{code}_txt0099_txt0099_0099_gt.png", box=(0, 0, width, 1))
    done = run(load("casia1").CASIA1, *casia1)
    assert done.code == 0 and len(done.rows) == 7 and len(done.record["notes"]) == 2
    widths = {row.image.name[9]: int(read_mask(row).sum()) for row in done.rows if "0099" in row.image.name}
    assert widths == {"C": 3, "R": 5}


def test_both_casia_in_one_folder_keep_their_own_photographs(load, run, casia1, casia2, photo, tmp_path):
    """As a copy that many fetch has them; v1's are test images, and v2 is trained on."""
    photo(casia2[0] / "Au" / "Au_ani_00002.jpg", seed=5)
    for number, digits, set_ in (("0001", 5, "casia1"), ("00001", 4, "casia2")):
        done = run(getattr(load(set_), set_.upper()), tmp_path)
        assert f"images of Au are left out: numbers of {digits} digits are the other CASIA's" in done.out
        assert {row.image.stem.split("_")[-1] for row in done.rows if row.label == 0} >= {number}
        assert all(len(row.image.stem.split("_")[-1]) == len(number) for row in done.rows if row.label == 0)


def test_casia1_has_its_forgeries_twice_in_the_owners_folder(load, run, casia1):
    root = casia1[0]
    shutil.copytree(root / "Modified Tp", root / "Original Tp")
    done = run(load("casia1").CASIA1, *casia1)
    assert (done.code, done.bad, len(done.rows)) == (0, [], 5)
    assert "note: 3 images of Original Tp are left out, for those of other folders" in done.out
    shutil.rmtree(root / "Modified Tp" / "Tp" / "CM")  # in the other alone
    assert len(run(load("casia1").CASIA1, *casia1).rows) == 5
    shutil.rmtree(root / "Modified Tp")
    assert len(run(load("casia1").CASIA1, *casia1).rows) == 5


def test_casia1plus_takes_corel_instead_of_au(load, run, casia1, photo, tmp_path):
    photo(tmp_path / "Au_corel" / "100000.jpg", seed=20)
    done = run(load("casia1plus").CASIA1PLUS, *casia1, tmp_path / "Au_corel")
    assert done.code == 0
    assert [row.image.name for row in done.rows if row.label == 0] == ["100000.jpg"]
    assert {row.source for row in done.rows} == {"CASIAv1+"} and len(done.rows) == 4


# ---------------------------------------------------------------------------------------------------------- CASIA v2

OLD, NEW = "Tp_D_NNN_M_N_pla10110_nat10103_10116", "Tp_D_CNN_S_N_nat10103_pla10110_20000"


def sheet(path, rows):
    """A workbook as spreadsheets write it: strings in a table of their own, headings between the rows of names."""
    strings = [text for row in rows for text in row]
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    cells, number = [], 0
    for row in rows:
        cells.append("".join(f'<c t="s"><v>{number + i}</v></c>' for i in range(len(row))))
        number += len(row)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {main}>{''.join(f'<si><t>{s}</t></si>' for s in strings)}</sst>")
        body = "".join(f"<row>{each}</row>" for each in cells)
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>")


@pytest.fixture
def casia2(tmp_path, photo, mask_file):
    """A JPEG, one whose mask is misnamed `_gt3.png`, a TIFF that only the sheet can pair, and an authentic BMP."""
    odd = "Tp_D_NRD_S_N_cha10002_cha10001_20094"
    root, masks = tmp_path / "CASIA2", tmp_path / "casia2groundtruth-master"
    photo(root / "Tp" / "Tp_D_CRN_S_N_cha00063_art00014_11818.jpg", seed=1)
    mask_file(masks / "CASIA 2 Groundtruth" / "Tp_D_CRN_S_N_cha00063_art00014_11818_gt.png")
    photo(root / "Tp" / f"{odd}.jpg", seed=2)
    mask_file(masks / "CASIA 2 Groundtruth" / f"{odd}_gt3.png")
    photo(root / "Tp" / f"{OLD}.tif", seed=3)
    mask_file(masks / "CASIA 2 Groundtruth" / f"{NEW}_gt.png")
    mask_file(masks / "Samples" / "Tp_D_CRN_S_N_cha00063_art00014_11818_gt.png")  # once more; not counted twice
    photo(root / "Au" / "Au_ani_00001.bmp", seed=4)
    (masks / "Notes").mkdir()
    sheet(
        masks / "Notes" / "fileNamesCorrection.xlsx",
        [["1. Wrong type"], ["No", "Old name", "New name"], ["1", f"{OLD}.tif", f"{NEW}.tif"]],
    )
    return root, masks


def test_casia2_follows_the_renaming_sheet_and_finds_the_misnamed_mask(load, run, casia2):
    done = run(load("casia2").CASIA2, *casia2)
    assert (done.code, done.bad, done.record["notes"]) == (0, [], [])
    names = {row.image.name: row.mask and row.mask.name for row in done.rows}
    assert names == {
        "Tp_D_CRN_S_N_cha00063_art00014_11818.jpg": "Tp_D_CRN_S_N_cha00063_art00014_11818_gt.png",
        "Tp_D_NRD_S_N_cha10002_cha10001_20094.jpg": "Tp_D_NRD_S_N_cha10002_cha10001_20094_gt3.png",
        f"{OLD}.tif": f"{NEW}_gt.png",
        "Au_ani_00001.bmp": None,
    }


def test_casia2_without_the_sheet_lists_the_pair(load, run, casia2):
    (casia2[1] / "Notes" / "fileNamesCorrection.xlsx").unlink()
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 1 and sorted(row["problem"] for row in done.bad) == ["mask without image", "no mask"]


def test_casia2_takes_images_that_were_renamed_already_and_a_text_sheet(load, run, casia2):
    notes = casia2[1] / "Notes"
    (notes / "fileNamesCorrection.xlsx").unlink()
    (notes / "fileNamesCorrection.txt").write_text(f"{OLD}.tif\t{NEW}.tif\n")
    assert run(load("casia2").CASIA2, *casia2).code == 0
    (casia2[0] / "Tp" / f"{OLD}.tif").rename(casia2[0] / "Tp" / f"{NEW}.tif")
    assert run(load("casia2").CASIA2, *casia2).code == 0


def test_a_sheet_that_tells_nothing_is_named(load, run, casia2):
    sheet = casia2[1] / "Notes" / "fileNamesCorrection.xlsx"
    assert "no row with two names" not in run(load("casia2").CASIA2, *casia2).out
    sheet.unlink()
    sheet.with_suffix(".txt").write_text(f"{OLD}.tif\t{NEW}.tif\n", encoding="utf-16")  # Excel's "Unicode Text"
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 1 and "fileNamesCorrection.txt: no row with two names of images was found; save it" in done.out


def test_a_sheet_may_name_the_two_again_in_a_command(load, run, casia2):
    (casia2[1] / "Notes" / "fileNamesCorrection.xlsx").unlink()
    sheet = casia2[1] / "Notes" / "fileNamesCorrection.csv"
    sheet.write_text(f"old,new,command\n{OLD}.tif,{NEW}.tif,ren {OLD}.tif {NEW}.tif\n")
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 0 and "fileNamesCorrection" not in done.out
    sheet.write_text(f"{OLD}.tif\n{OLD}.tif,{NEW}.tif,Tp_c.tif\nTp_d.tif,Tp_d.tif\n")
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 1 and "rows that do not name two images are left out, 2 of them" in done.out


def test_an_image_with_two_new_names_keeps_its_own(load, run, casia2):
    other = casia2[1] / "Notes" / "more fileNamesCorrection.csv"
    other.write_text(f"{OLD}.tif,{NEW}.tif\n")
    assert run(load("casia2").CASIA2, *casia2).code == 0
    other.write_text(f"{OLD}.tif,Tp_D_NNN_S_N_ani00001_ani00002_00003.tif\n")
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 1 and sorted(row["problem"] for row in done.bad) == ["mask without image", "no mask"]
    assert f"several new names in the sheets keep their own: {OLD.lower()}" in done.out


def test_a_damaged_sheet_is_a_mistake_not_a_traceback(load, run, casia2):
    (casia2[1] / "Notes" / "fileNamesCorrection.xlsx").write_bytes(b"PK no workbook")
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 2 and "fileNamesCorrection.xlsx" in done.err and "not a readable .xlsx" in done.err


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_script_that_is_ended_leaves_nothing_half_written_and_begins_anew(load, run, casia2, monkeypatch):
    def end(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with monkeypatch.context() as patch:
        patch.setattr("mpc_lite.files.os.fsync", end)
        done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 143 and done.err.endswith("interrupted\n")
    assert not list(done.folder.rglob("*.tmp"))
    assert run(load("casia2").CASIA2, *casia2).code == 0


def test_the_lock_of_a_sheet_that_is_open_in_excel_is_no_sheet(load, run, casia2):
    (sheet,) = casia2[1].rglob("fileNamesCorrection.xlsx")
    before = run(load("casia2").CASIA2, *casia2).rows
    sheet.with_name(f"~${sheet.name}").write_bytes(b"\x05owner" + bytes(159))
    assert run(load("casia2").CASIA2, *casia2).rows == before


def test_casia2_lists_turned_and_missized_masks(load, run, casia2, photo, mask_file):
    for name, size in (("Tp_S_CRN_S_N_art00059_art00059_10508", (24, 36)), ("Tp_S_NNN_S_N_sec00074_00751", (36, 23))):
        photo(casia2[0] / "Tp" / f"{name}.tif")
        mask_file(casia2[1] / "CASIA 2 Groundtruth" / f"{name}_gt.png", size=size)
    done = run(load("casia2").CASIA2, *casia2)
    assert done.code == 1 and len(done.rows) == 4
    assert [row["problem"] for row in done.bad] == [
        "size mismatch: image 36×24, mask 24×36 (turned)",
        "size mismatch: image 36×24, mask 36×23",
    ]
