"""Columbia, COVERAGE, DSO-1, IMD2020 and NIST16 in their real layouts, with the defects they are known for."""

import dataclasses
import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common import Tree
from mpc_lite.data.manifest import read_mask
from mpc_lite.errors import InputError

# ---------------------------------------------------------------------------------------------------------- Columbia


@pytest.fixture
def columbia(tmp_path, photo):
    """A splice whose edge mask is a JPEG: the tampered part bright green, the rest red, both with JPEG's noise."""
    root = tmp_path / "columbia"
    name = "canong3_canonxt_sub_01"
    photo(root / "4cam_splc" / f"{name}.tif", size=(48, 32))
    edges = np.zeros((32, 48, 3), np.uint8)
    edges[..., 0] = 200
    edges[8:24, 16:32] = (0, 200, 0)
    (root / "4cam_splc" / "edgemask").mkdir()
    Image.fromarray(edges).save(root / "4cam_splc" / "edgemask" / f"{name}_edgemask.jpg", quality=75)
    photo(root / "4cam_auth" / "canong3_02_sub_01.tif", seed=1)
    return root


def test_columbia_takes_green_above_120_and_records_it(load, run, columbia):
    done = run(load("columbia").COLUMBIA, columbia)
    assert done.code == 0 and [row.label for row in done.rows] == [1, 0]
    mask = read_mask(done.rows[0])
    assert mask[10:22, 18:30].all() and not mask[:6].any() and not mask[:, :14].any()
    rule = done.record["mask_rule"]
    assert (rule["threshold"], rule["channel"]) == (120, "green")
    assert "160 (MPC, FOCAL, LoMa)" in done.out and "180 (TruFor" in done.out and "paper's test set: 160" in done.out


def test_columbia_with_another_threshold_marks_the_noise_and_says_which(load, run, columbia):
    strict = read_mask(run(load("columbia").COLUMBIA, columbia).rows[0]).sum()
    done = run(load("columbia").COLUMBIA, columbia, "--threshold", 0)
    assert done.record["mask_rule"]["threshold"] == 0
    assert read_mask(done.rows[0]).sum() > strict


# ---------------------------------------------------------------------------------------------------------- COVERAGE

SIZE, BOX = (60, 44), (34, 20, 50, 31)  # (width, height); the pasted region's x, y, x2, y2


@pytest.fixture
def coverage(tmp_path, photo):
    """add(number, crop=None, resize=None, paste=True): an original, its tampered twin and the mask, cut or shrunk."""
    root = tmp_path / "COVERAGE"

    def add(number, crop=None, resize=None, paste=True, original=True):
        before = photo(root / "image" / f"{number}.tif", SIZE, seed=number)
        pixels = np.array(Image.open(before))
        mask = np.zeros(SIZE[::-1], np.uint8)
        x, y, x2, y2 = BOX
        mask[y:y2, x:x2] = 255
        mask[y2 - 3 :, x2 - 3 : x2] = 0  # not a plain rectangle
        if paste:
            pixels[mask > 0] = 255 - pixels[mask > 0] // 2
        Image.fromarray(pixels).save(root / "image" / f"{number}t.tif")
        if not original:
            before.unlink()
        if crop:
            mask = mask[crop[1] : crop[3], crop[0] : crop[2]]
        if resize:
            mask = np.array(Image.fromarray(mask).resize(resize, Image.Resampling.NEAREST))
        (root / "mask").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "mask" / f"{number}forged.tif")
        for kind in ("copy", "paste"):
            Image.fromarray(mask).save(root / "mask" / f"{number}{kind}.tif")
        return root

    return add


def truth():
    mask = np.zeros(SIZE[::-1], np.uint8)
    x, y, x2, y2 = BOX
    mask[y:y2, x:x2] = 1
    mask[y2 - 3 :, x2 - 3 : x2] = 0
    return mask


@pytest.mark.trust
def test_coverage_lists_originals_of_one_number(load, run, coverage):
    coverage(2)
    root = coverage(10)
    Image.open(root / "image" / "2.tif").save(root / "image" / "2.png")
    done = run(load("coverage").COVERAGE, root)
    assert done.code == 1 and {row.image.name for row in done.rows} == {"2t.tif", "10t.tif", "10.tif"}
    assert [(row["image"], row["problem"]) for row in done.bad] == [
        ("image/2.png", "2 originals are called 2"),
        ("image/2.tif", "2 originals are called 2"),
    ]


def test_coverage_pairs_numbers_and_leaves_copy_and_paste_masks(load, run, coverage):
    coverage(2)
    root = coverage(10)
    done = run(load("coverage").COVERAGE, root)
    assert (done.code, done.bad) == (0, [])
    labels = {row.image.name: row.label for row in done.rows}
    assert labels == {"2t.tif": 1, "10t.tif": 1, "2.tif": 0, "10.tif": 0}
    for row in done.rows:
        if row.label:
            assert row.mask.name == f"{row.image.stem[:-1]}forged.tif" and np.array_equal(read_mask(row), truth())


@pytest.mark.parametrize("where", ["mpc_lite.images.decode_file", "checked.read_tampered", "checked.fitted"])
def test_a_picture_too_large_for_the_memory_does_not_lose_the_others(load, run, coverage, monkeypatch, where):
    coverage(2, resize=(2 * SIZE[0], 2 * SIZE[1]))
    root, dataset = coverage(10), load("coverage").COVERAGE
    dataset = dataclasses.replace(dataset, mask=dataclasses.replace(dataset.mask, fit=True))
    module, name = where.rsplit(".", 1)
    real = getattr(importlib.import_module(module), name)

    def lacking(first, *rest):
        if getattr(first, "name", "") in ("2t.tif", "2forged.tif"):
            raise MemoryError
        if name == "fitted":
            raise cv2.error("OpenCV: (-4:Insufficient memory) Failed to allocate 3600000000 bytes")
        return real(first, *rest)

    monkeypatch.setattr(where, lacking)
    done = run(dataset, root)
    assert {row.image.name for row in done.rows} >= {"10t.tif", "10.tif"}
    (bad,) = done.bad
    assert bad["image"] == "image/2t.tif" and "the memory does not suffice for this image" in bad["problem"]


@pytest.mark.parametrize("number", [55, 56, 95])
def test_coverage_masks_that_fit_when_resized(load, run, coverage, number):
    done = run(load("coverage").COVERAGE, coverage(number, resize=(2 * SIZE[0], 2 * SIZE[1])))
    assert done.code == 0 and "mask 120×88 resized to 60×44" in done.record["notes"][0]["note"]
    assert np.array_equal(read_mask(done.rows[0]), truth())


@pytest.mark.parametrize(
    "number, crop", [(41, (0, 0, 57, 40)), (48, (4, 3, 60, 44)), (57, (20, 10, 58, 40)), (61, (0, 5, 60, 44))]
)
def test_coverage_crops_are_put_where_the_image_differs_from_its_original(load, run, coverage, number, crop):
    done = run(load("coverage").COVERAGE, coverage(number, crop=crop))
    assert (done.code, done.bad) == (0, [])
    x, y = crop[:2]
    assert f"located at x={x}, y={y}" in done.record["notes"][0]["note"]
    assert np.array_equal(read_mask(done.rows[0]), truth())


def test_coverage_crops_that_exceed_the_image_in_one_direction_are_cut(load):
    changed = truth()
    mask = np.pad(changed[6:], ((0, 0), (3, 2)))  # lower by 6, wider by 5
    assert load("coverage").locate(mask, changed)[:2] == (-3, 6)


def test_coverage_crops_that_exceed_the_image_are_read_without_what_sticks_out(load, run, coverage):
    root = coverage(41)
    file = root / "mask" / "41forged.tif"
    Image.fromarray(np.pad(np.asarray(Image.open(file))[6:], ((0, 0), (3, 2)))).save(file)
    done = run(load("coverage").COVERAGE, root)
    assert done.code == 0 and np.array_equal(read_mask(done.rows[0]), truth())


def test_coverage_crops_whose_best_place_explains_little_are_refused(load):
    scattered = (np.random.default_rng(0).random((44, 60)) < 0.2).astype(np.uint8)  # one place is best, by chance
    with pytest.raises(InputError, match=r"with IoU 0\.[01]"):
        load("coverage").locate(truth()[3:, 4:], scattered)


def test_coverage_crops_without_a_trace_or_an_original_are_listed_as_bad(load, run, coverage):
    coverage(58, crop=(4, 3, 60, 44), paste=False)  # nothing differs
    root = coverage(59, crop=(4, 3, 60, 44), original=False)
    done = run(load("coverage").COVERAGE, root)
    assert done.code == 1
    problems = {row["image"]: row["problem"] for row in done.bad}
    assert set(problems) == {"image/58t.tif", "image/59t.tif"}
    assert "could not be located" in problems["image/58t.tif"] and "no original" in problems["image/59t.tif"]
    assert "mask: 56×41, image 60×44" in problems["image/58t.tif"]


def test_coverage_places_that_explain_the_difference_alike_are_refused(load):
    changed = np.zeros((44, 60), np.uint8)
    changed[10:30, 10:20] = changed[10:30, 40:50] = 1  # source and copy both differ: two places, equally good
    mask = np.zeros((30, 25), np.uint8)
    mask[5:25, 5:15] = 1
    with pytest.raises(InputError, match="places explain"):
        load("coverage").locate(mask, changed)


def test_coverage_other_masks_of_another_size_are_bad_not_guessed(load, run, coverage):
    done = run(load("coverage").COVERAGE, coverage(3, crop=(4, 3, 60, 44)))
    assert done.code == 1 and done.bad[0]["problem"] == "size mismatch: image 60×44, mask 56×41"


def test_coverage_mended_copies_need_nothing(load, run, coverage):
    done = run(load("coverage").COVERAGE, coverage(41))
    assert done.code == 0 and done.record["notes"] == [] and done.record["masks"]["converted"] == 0


@pytest.mark.trust
def test_a_set_in_two_parts_is_one_set(load, run, photo, mask_file, tmp_path):
    """As a drive packs a large folder."""
    for part, number in (("part1.unpacked", 1), ("part2.unpacked", 2)):
        root = tmp_path / part / "CocoGlide"
        photo(root / "real" / f"cat_{number}.png", seed=number)
        if number == 1:
            photo(root / "fake" / f"glide_inpainting_val2017_{number}_up.png", seed=10)
            mask_file(root / "mask" / f"cat_{number}_mask.png")
    done = run(load("cocoglide").COCOGLIDE, tmp_path / "part1.unpacked", tmp_path / "part2.unpacked")
    assert sorted(row.image.name for row in done.rows if row.label == 0) == ["cat_1.png", "cat_2.png"]


# ----------------------------------------------------------------------------------------------------- DSO-1, IMD2020


def test_dso1_masks_are_inverted(load, run, photo, mask_file, tmp_path):
    root = tmp_path / "tifs-database"
    for number in (1, 10, 2):
        photo(root / "DSO-1" / f"splicing-{number:02}.png", seed=number)
        mask_file(
            root / "DSO-1-Fake-Images-Masks" / f"splicing-{number:02}.png", inside=0, outside=255, box=(0, 0, number, 3)
        )
    photo(root / "DSO-1" / "normal-01.png", seed=20)
    for name in ("splicing-01", "normal-01", "normal-02"):  # another set of the same owners, in the same folder
        photo(root / "DSI-1" / f"{name}.png", seed=21)
    done = run(load("dso1").DSO1, root)
    assert (done.code, done.bad) == (0, [])
    assert {row.image.stem: int(read_mask(row).sum()) for row in done.rows} == {
        "splicing-01": 3, "splicing-02": 6, "splicing-10": 30, "normal-01": 0,
    }  # fmt: skip
    assert done.record["mask_rule"]["inverted"] and done.record["masks"]["converted"] == 3
    assert "note: 3 images of DSI-1, another set, are left out" in done.out


def test_imd2020_pairs_within_the_post_because_names_repeat(load, run, photo, mask_file, tmp_path):
    root = tmp_path / "IMD2020"
    photo(root / "1a1ogs" / "1a1ogs_orig.jpg")
    for post, name, width in (("1a1ogs", "c8tf5mq_0", 4), ("z14", "00030_fake", 5), ("z15", "00030_fake", 6)):
        photo(root / post / f"{name}.{'png' if post == 'z15' else 'jpg'}", seed=width)
        mask_file(root / post / f"{name}_mask.png", box=(0, 0, width, 1))
    done = run(load("imd2020").IMD2020, root)
    assert (done.code, done.bad) == (0, [])
    found = [(f"{row.image.parent.name}/{row.image.name}", int(read_mask(row).sum())) for row in done.rows]
    assert found == [
        ("1a1ogs/c8tf5mq_0.jpg", 4), ("z14/00030_fake.jpg", 5), ("z15/00030_fake.png", 6),
        ("1a1ogs/1a1ogs_orig.jpg", 0),
    ]  # fmt: skip


def test_a_split_list_tells_equal_names_by_their_folder(load, run, photo, mask_file, tmp_path):
    root = tmp_path / "IMD2020"
    for post in ("z14", "z15"):
        photo(root / post / "00030_fake.jpg")
        mask_file(root / post / "00030_fake_mask.png")
    (tmp_path / "train.txt").write_text("z15/00030_fake.jpg z15/00030_fake_mask.png\n")
    done = run(load("imd2020").IMD2020, root, "--split", f"train={tmp_path / 'train.txt'}")
    assert [(row.image.parent.name, row.split) for row in done.rows] == [("z14", None), ("z15", "train")]


@pytest.mark.trust
def test_a_split_list_takes_no_image_of_another_folder_for_one_that_is_not_there(load, run, photo, mask_file, tmp_path):
    root = tmp_path / "IMD2020"
    for post, number in (("z14", 1), ("z15", 2)):
        photo(root / post / f"0003{number}_fake.jpg", seed=number)
        mask_file(root / post / f"0003{number}_fake_mask.png")
    for lines, splits, bad in (
        ("z15/00031_fake.jpg\nz15/00032_fake.jpg\n", [None, "train"], 1),  # the first was not downloaded
        ("set/00031_fake.jpg\nset/00032_fake.jpg\n", ["train", "train"], 0),  # another layout
        ("00031_fake.jpg\n", ["train", None], 0),
    ):
        (tmp_path / "train.txt").write_text(lines)
        done = run(load("imd2020").IMD2020, root, "--split", f"train={tmp_path / 'train.txt'}")
        assert [row.split for row in done.rows] == splits and len(done.bad) == bad
        assert all("images of its name are in other folders" in row["problem"] for row in done.bad)


@pytest.mark.trust
def test_a_file_that_is_no_record_keeps_its_place(load, run, photo, mask_file, tmp_path):
    """Scores may have been written under the name of the set's record: the natural one beside its manifest."""
    root = tmp_path / "IMD2020"
    photo(root / "z14" / "00031_fake.jpg")
    mask_file(root / "z14" / "00031_fake_mask.png")
    record = tmp_path / "sets" / "imd2020.json"
    record.parent.mkdir()
    record.write_text('{"protocol": "mpc"}')
    done = run(load("imd2020").IMD2020, root)
    assert done.code == 2 and "imd2020.json is there and is no record of imd2020" in done.err
    assert record.read_text() == '{"protocol": "mpc"}' and not (record.parent / "imd2020.csv").exists()
    record.unlink()
    assert [run(load("imd2020").IMD2020, root).code for _ in range(2)] == [0, 0]


# ------------------------------------------------------------------------------------------------------------ NIST16

HEAD = ("TaskID", "ProbeFileID", "ProbeFileName", "ProbeMaskFileName", "IsTarget", "IsManipulationTypeRemoval")


def sheet(path, rows, mark="|"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [mark.join(HEAD), *(mark.join(("t", "id", probe, mask, target, "N")) for probe, mask, target in rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def nist(tmp_path, photo, mask_file):
    """Two targets and a non-target of the manipulation sheet; the splice sheet names one of them and a third target."""
    root = tmp_path / "NC2016_Test0613"
    for number in (1, 2, 3, 4):
        photo(root / "probe" / f"NC2016_000{number}.jpg", seed=number)
    masks = {"manipulation": (91, 92), "splice": (81, 83)}
    for task, numbers in masks.items():
        for number in numbers:
            path = root / "reference" / task / "mask" / f"NC2016_00{number}.png"
            mask_file(path, inside=0, outside=255, box=(0, 0, number % 10 + 1, 1))
    probe, mask = "probe/NC2016_000{}.jpg", "reference/{}/mask/NC2016_00{}.png"
    sheet(
        root / "reference" / "manipulation" / "NC2016-manipulation-ref.csv",
        [
            (probe.format(1), mask.format("manipulation", 91), "Y"),
            (probe.format(2), mask.format("manipulation", 92), "Y"),
            (probe.format(4), "", "N"),
        ],
    )
    sheet(
        root / "reference" / "splice" / "NC2016-splice-ref.csv",
        [
            (probe.format(1), mask.format("splice", 81), "Y"),
            (probe.format(2), "", "N"),
            (probe.format(3), mask.format("splice", 83), "Y"),
        ],
        mark=",",
    )
    return root


def test_nist16_pairs_by_its_sheets_and_inverts(load, run, nist):
    done = run(load("nist16").NIST16, nist)
    assert (done.code, done.bad) == (0, [])
    assert [(row.image.name, int(read_mask(row).sum())) for row in done.rows] == [
        ("NC2016_0001.jpg", 2), ("NC2016_0002.jpg", 3), ("NC2016_0003.jpg", 4), ("NC2016_0004.jpg", 0),
    ]  # fmt: skip
    assert "564 (MPC" in done.out and "160 (TruFor" in done.out and "paper's test set: 564" in done.out
    assert "unverified" in done.record["evidence"]


def test_nist16_lists_mismatches_missing_files_and_masks_nobody_names(load, run, nist, mask_file):
    (nist / "probe" / "NC2016_0002.jpg").unlink()
    (nist / "reference" / "splice" / "mask" / "NC2016_0083.png").unlink()
    mask_file(nist / "reference" / "manipulation" / "mask" / "NC2016_0091.png", size=(36, 25), inside=0, outside=255)
    mask_file(nist / "reference" / "removal" / "mask" / "NC2016_0099.png")
    done = run(load("nist16").NIST16, nist)
    assert done.code == 1 and [row.image.name for row in done.rows] == ["NC2016_0004.jpg"]
    assert [row["problem"] for row in done.bad] == [
        "size mismatch: image 36×24, mask 36×25",
        "the sheets name probe/NC2016_0002.jpg, which is not there",
        "no mask: reference/splice/mask/NC2016_0083.png is not there",
        "mask without image: no sheet names it",
    ]


@pytest.mark.trust
def test_nist16_calls_nothing_authentic_that_a_lost_sheet_may_name(load, run, nist, photo, mask_file):
    photo(nist / "probe" / "NC2016_0099.jpg", seed=9)  # in no sheet
    mask_file(nist / "reference" / "removal" / "mask" / "NC2016_0004_gt.png")  # its sheet is not there
    done = run(load("nist16").NIST16, nist)
    assert done.code == 1 and all(row.label for row in done.rows) and len(done.rows) == 3
    assert [(row["image"], row["problem"]) for row in done.bad] == [
        ("probe/NC2016_0004.jpg", "authentic by the sheets, and no sheet names its mask NC2016_0004_gt.png"),
        ("probe/NC2016_0099.jpg", "no sheet names it"),
        ("", "mask without image: no sheet names it"),
    ]
    next((nist / "reference").rglob("NC2016-manipulation-ref.csv")).unlink()
    done = run(load("nist16").NIST16, nist)
    assert all(row.label for row in done.rows)
    assert "the manipulation sheet, which says so, is not" in next(
        row["problem"] for row in done.bad if row["image"] == "probe/NC2016_0002.jpg"
    )


@pytest.mark.trust
@pytest.mark.parametrize("words", [("T", "F"), ("1.0", "0.0"), ("y", "no"), ("TRUE", "FALSE")])
def test_nist16_sheets_that_a_spreadsheet_saved_anew_say_yes_and_no_in_its_words(load, run, nist, words):
    for path in nist.rglob("*-ref.csv"):
        mark = "|" if "|" in path.read_text() else ","
        text = path.read_text().replace(f"{mark}Y{mark}", f"{mark}{words[0]}{mark}")
        path.write_text(
            "".join(
                f"{line.removesuffix(f'{mark}N{mark}N')}{mark}{words[1]}{mark}N\n"
                if line.endswith(f"{mark}N{mark}N")
                else f"{line}\n"
                for line in text.splitlines()
            )
        )
    done = run(load("nist16").NIST16, nist)
    assert (done.code, [row.label for row in done.rows]) == (0, [1, 1, 1, 0])


@pytest.mark.trust
@pytest.mark.parametrize("word", ["tampered", "", "X"])
def test_nist16_takes_no_other_word_for_authentic(load, run, nist, word):
    path = next(nist.rglob("NC2016-manipulation-ref.csv"))
    path.write_text(path.read_text().replace("92.png|Y|", f"92.png|{word}|"))
    done = run(load("nist16").NIST16, nist)
    assert done.code == 1 and [row.label for row in done.rows] == [1, 1, 0]
    (bad,) = done.bad
    assert bad["problem"] == f"IsTarget is '{word}' in NC2016-manipulation-ref.csv, not Y or N"


@pytest.mark.trust
def test_nist16_looks_for_the_masks_of_thousands_of_probes_at_once(load, nist, mask_file, monkeypatch):
    """A number of steps that grows with the square of the set's size is some minutes for a sheet of 60 000 rows."""
    script = load("nist16")
    root = nist / "reference" / "removal" / "mask"
    root.mkdir(parents=True)
    for number in range(300):
        (root / f"other_{number}.png").touch()
    path = next(nist.rglob("NC2016-manipulation-ref.csv"))
    path.write_text(path.read_text() + "".join(f"t|id|probe/no_{i}.jpg||N|N\n" for i in range(3000)))
    calls = []
    monkeypatch.setattr(script, "stem", lambda name: calls.append(name) or Path(name).stem.casefold())
    assert sum(1 for _ in script.pairs(Tree([nist]))) > 3000
    assert len(calls) < 3000


def test_nist16_takes_none_of_two_images_of_a_name(load, run, nist, photo):
    photo(nist / "again" / "probe" / "NC2016_0002.jpg", seed=5)
    photo(nist / "again" / "probe" / "NC2016_0004.jpg", seed=6)
    done = run(load("nist16").NIST16, nist)
    assert [row.image.name for row in done.rows] == ["NC2016_0001.jpg", "NC2016_0003.jpg"]
    assert [row["problem"] for row in done.bad] == [
        f"2 images are called NC2016_{number}.jpg" for number in ("0002", "0004")
    ]


def test_nist16_split_lists_are_read_and_counted(load, run, nist, tmp_path):
    (tmp_path / "ft.txt").write_text(
        "probe/NC2016_0003.jpg reference/splice/mask/NC2016_0083.png\nprobe/NC2016_9999.jpg reference/x.png\n"
    )
    done = run(load("nist16").NIST16, nist, "--split", f"test={tmp_path / 'ft.txt'}")
    assert [row.split for row in done.rows] == [None, None, "test", None]
    assert "split test: 1" in done.out and done.code == 1
    assert [row["image"] for row in done.bad] == ["probe/NC2016_9999.jpg"]


def test_nist16_sheets_without_the_columns_are_a_mistake(load, run, nist):
    (nist / "reference" / "splice" / "NC2016-splice-ref.csv").write_text("a|b\n1|2\n")
    done = run(load("nist16").NIST16, nist)
    assert done.code == 2 and "ProbeFileName" in done.err
