"""FF++ and DEFACTO, whose samples are our own draws, and the OSN sets, which take their masks from other sets."""

import shutil

import pytest

from mpc_lite.data.manifest import read_manifest, read_mask


@pytest.fixture
def ffpp(tmp_path, photo, mask_file):
    """Three videos of two frames, one of a method without masks; the first frame of one has a black mask."""
    root = tmp_path / "FF" / "manipulated_sequences"
    for method, video in (("Deepfakes", "000_003"), ("Face2Face", "000_003"), ("FaceShifter", "000_003")):
        for frame in ("0000", "0001"):
            photo(root / method / "c23" / "images" / video / f"{frame}.png")
            photo(root / method / "c40" / "images" / video / f"{frame}.png")
            if method != "FaceShifter":
                black = (method, frame) == ("Face2Face", "0000")
                mask_file(root / method / "masks" / "images" / video / f"{frame}.png", inside=0 if black else 255)
    return root.parent


def test_ffpp_draws_one_frame_a_video_and_says_that_the_sample_is_its_own(load, run, ffpp):
    done = run(load("ffpp").FFPP, ffpp)
    assert done.code == 0 and [row.image.parts[-5:-3] for row in done.rows] in (
        [("Deepfakes", "c23"), ("Face2Face", "c23")],
        [("Face2Face", "c23"), ("Deepfakes", "c23")],
    )
    of_method = {row.image.parts[-5]: row for row in done.rows}
    assert of_method["Face2Face"].image.name == "0001.png"  # the other frame's mask is black
    assert all(row.mask.parts[-5:] == (row.image.parts[-5], "masks", *row.image.parts[-3:]) for row in done.rows)
    assert "not the paper's sample" in done.out and "not the paper's sample" in done.record["remark"]


def test_ffpp_draw_depends_on_names_only(load, ffpp, monkeypatch):
    from common import Tree

    module = load("ffpp")
    monkeypatch.setattr(module, "SIZE", 1)
    first = [pair.image for pair in module.pairs(Tree([ffpp]))]
    moved = ffpp.rename(ffpp.with_name("elsewhere"))
    again = [pair.image for pair in module.pairs(Tree([moved / "manipulated_sequences"]))]
    assert len(first) == 1 and first[0].parts[-5:] == again[0].parts[-5:]
    monkeypatch.setattr(module, "SEED", 2)  # a seed that picks the other video
    other = [pair.image for pair in module.pairs(Tree([moved]))]
    assert other[0].parts[-5] != first[0].parts[-5]


def test_ffpp_lists_a_frame_without_mask(load, run, ffpp):
    for mask in (ffpp / "manipulated_sequences" / "Deepfakes" / "masks" / "images" / "000_003").iterdir():
        mask.rename(mask.with_name("x" + mask.name))
    done = run(load("ffpp").FFPP, ffpp)
    assert done.code == 1 and [row["problem"] for row in done.bad] == ["no frame of the masks' video for it"]


def test_ffpp_says_which_methods_are_not_drawn(load, run, ffpp):
    shutil.rmtree(ffpp / "manipulated_sequences" / "Face2Face" / "masks")
    done = run(load("ffpp").FFPP, ffpp)
    assert done.code == 1 and len(done.rows) == 1  # of FaceShifter no masks were published
    assert [row["problem"] for row in done.bad] == [
        "Face2Face: none of its masks' frames, so none of its 1 videos is drawn"
    ]


def test_ffpp_lists_a_frame_of_two_masks(load, run, ffpp):
    for mask in (ffpp / "manipulated_sequences" / "Deepfakes" / "masks" / "images" / "000_003").glob("*.png"):
        shutil.copy(mask, mask.with_suffix(".bmp"))
    done = run(load("ffpp").FFPP, ffpp)
    assert done.code == 1 and [row["problem"].partition(":")[0] for row in done.bad] == ["2 masks for it"]


def test_draws_of_different_size_hold_one_another(load):
    from draw import shuffled

    names = [f"{n}.png" for n in range(200)]
    assert set(shuffled(names, 0, str)[:10]) <= set(shuffled(names[::-1], 0, str)[:50])
    assert shuffled(names, 0, str) != shuffled(names, 1, str)
    # Fixed for good: manifests of different years must agree.
    assert shuffled(names, 0, str)[:4] == ["40.png", "42.png", "26.png", "116.png"]
    assert len(shuffled(["caf\udce9.png", *names], 0, str)) == 201  # as Python reads a name that is not UTF-8


@pytest.fixture
def defacto(tmp_path, photo, mask_file):
    """Copy-moves, and splices of two parts with one name in both; each mask tells by its area whose it is."""
    names = [("copymove", "0_71"), ("copymove", "0_577310"), ("splicing_1", "0_577310"), ("splicing_2", "3_5")]
    for number, (part, name) in enumerate(names):
        photo(tmp_path / "DEFACTO" / f"{part}_img" / "img" / f"{name}.tif", seed=number)
        annotations = tmp_path / "DEFACTO" / f"{part}_annotations"
        size = (18, 12) if part == "splicing_2" else (36, 24)
        mask_file(annotations / "probe_mask" / f"{name}.png", size=size, box=(0, 0, number + 1, 1))
        mask_file(annotations / "donor_mask" / f"{name}.tif")
    return tmp_path / "DEFACTO"


def test_defacto_pairs_within_a_part_and_fits_masks(load, run, defacto):
    done = run(load("defacto").DEFACTO, defacto)
    areas = {(row.image.parts[-3], row.image.stem): int(read_mask(row).sum()) for row in done.rows}
    assert done.code == 0 and areas == {
        ("copymove_img", "0_71"): 1,
        ("copymove_img", "0_577310"): 2,
        ("splicing_1_img", "0_577310"): 3,
        ("splicing_2_img", "3_5"): 16,  # of half the size: each pixel becomes four
    }
    assert "resized to 36×24, nearest" in str(done.record) and "not the paper's sample" in done.out


def test_defacto_draws(load, defacto, monkeypatch):
    from common import Tree

    module = load("defacto")
    monkeypatch.setattr(module, "SIZE", 2)
    drawn = module.pairs(Tree([defacto]))
    assert len(drawn) == 2 and not any(pair.problem for pair in drawn)
    assert all(place(pair.image) == place(pair.mask) for pair in drawn)


def place(path):
    return path.parts[-3].split("_")[0], path.stem


def test_defacto_says_what_nothing_is_drawn_from(load, run, defacto, mask_file):
    shutil.rmtree(defacto / "splicing_1_annotations")
    mask_file(defacto / "copymove_annotations" / "probe_mask" / "77.png")
    done = run(load("defacto").DEFACTO, defacto)
    assert done.code == 1 and len(done.rows) == 3
    assert [row["problem"] for row in done.bad] == [
        "splicing_1_img: 1 images without a mask, which nothing is drawn from: 0_577310.tif",
        "copymove_annotations: 1 masks without an image, which nothing is drawn from: 77.png",
    ]


def test_defacto_lists_lines_that_say_nothing_plain(load, run, defacto):
    (defacto / "DEFACTO12k-test.txt").write_text(
        "copymove_img/img/0_71.tif copymove_annotations/probe_mask/0_71.png 1\n"
        "copymove_img/img/0_577310.tif copymove_annotations/probe_mask/0_577310.png 255\n"
        "my set/copymove_img/img/3.tif my set/x.png 1\n"
    )
    done = run(load("defacto").DEFACTO, defacto)
    assert done.code == 1 and len(done.rows) == 1
    two, three = (row["problem"] for row in done.bad)
    assert two.startswith("line 2 of DEFACTO12k-test.txt: label '255'") and "has 5 fields, expected" in three


def test_defacto_takes_mvss_nets_list_where_it_lies_there(load, run, defacto):
    (defacto / "DEFACTO12k-test.txt").write_text(
        "./DEFACTO/Copy-Move-images/img/0_577310.tif ./DEFACTO/Copy-Move-annotations/probe_mask/0_577310.jpg 1\n"
        "./DEFACTO/Splicing-images/img/9_9.tif ./DEFACTO/Splicing-annotations/probe_mask/9_9.jpg 1\n"
        "./CoCo2014/test2014/COCO_test2014_000000303584.jpg None 0\n"
    )
    done = run(load("defacto").DEFACTO, defacto)
    assert [(row.image.parts[-3], int(read_mask(row).sum())) for row in done.rows] == [("copymove_img", 2)]
    assert done.code == 1 and [row["problem"] for row in done.bad] == [
        "line 2 of DEFACTO12k-test.txt: no images are called so"
    ]


# --------------------------------------------------------------------------------------------------------------- OSN


def test_osn_with_masks_of_its_own(load, run, tmp_path, photo, mask_file):
    root = tmp_path / "osn"
    photo(root / "Columbia_Facebook" / "canong3_sub_01.jpg")
    mask_file(root / "Columbia_Facebook" / "Columbia_GT" / "canong3_sub_01_gt.png", inside=9)
    for number, folder in enumerate(("CM", "Sp")):
        photo(root / "Casia_Facebook" / folder / f"{folder}_1.jpg", size=(18, 12), seed=number)
        mask_file(root / "Casia_Facebook" / "CASIA_GT" / f"{folder}_1_gt.png")
    done = run(load("osn").OSN, root)
    assert done.code == 0
    columbia, casia = (read_manifest(done.folder / f"osn_{name}_facebook.csv") for name in ("columbia", "casiav1"))
    assert [row.source for row in columbia] == ["Columbia, Facebook"] and read_mask(columbia[0]).sum() == 64
    assert [row.image.name for row in casia] == ["CM_1.jpg", "Sp_1.jpg"]
    assert [read_mask(row).shape for row in casia] == [(12, 18)] * 2 and read_mask(casia[0]).sum() == 16
    assert {row.source for row in casia} == {"CASIAv1, Facebook"} and "osn_dso_weibo: nothing of it" in done.out
    assert {path.name for path in done.folder.glob("*.csv")} == {
        "osn_columbia_facebook.csv",
        "osn_casiav1_facebook.csv",
    }


@pytest.mark.parametrize("way", ["folder given", "environment"])
def test_osn_takes_the_masks_of_the_original_sets_manifest(load, run, tmp_path, photo, mask_file, monkeypatch, way):
    """DSO-1's masks are inverted: its manifest, not its mask files, tells what is tampered."""
    original = tmp_path / "DSO-1"
    photo(original / "DSO-1" / "splicing-01.png")
    mask_file(original / "DSO-1-Fake-Images-Masks" / "splicing-01.png", box=(0, 0, 6, 4), inside=0, outside=255)
    sets = run(load("dso1").DSO1, original).folder
    for name in ("splicing-01", "splicing-02"):
        photo(tmp_path / "osn" / "DSO_Whatsapp" / f"{name}.jpg", size=(72, 48))
    monkeypatch.setenv("MPC_LITE_SETS", str(sets) if way == "environment" else str(tmp_path / "nowhere"))
    done = run(load("osn").OSN, tmp_path / "osn", *([sets] if way == "folder given" else []))
    row = read_manifest(done.folder / "osn_dso_whatsapp.csv")[0]
    assert row.source == "DSO, Whatsapp" and read_mask(row).shape == (48, 72) and read_mask(row).sum() == 4 * 24
    assert done.code == 1 and "splicing-02.jpg | - | no tampered image of this name in dso1.csv" in done.out


def test_osn_without_any_masks_says_so(load, run, tmp_path, photo, monkeypatch):
    monkeypatch.setenv("MPC_LITE_SETS", str(tmp_path / "nowhere"))
    photo(tmp_path / "osn" / "NIST16_WeChat" / "NC2016_1.jpg")
    done = run(load("osn").OSN, tmp_path / "osn")
    assert done.code == 1 and "no masks of its own, and no nist16.csv with tampered originals" in done.out


def test_osn_has_the_16_sets_of_the_papers_table(load):
    sets = load("osn").OSN
    assert len(sets) == len({s.name for s in sets}) == len({s.source for s in sets}) == 16
    assert {s.source for s in sets} >= {"CASIAv1, Wechat", "NIST, Whatsapp", "DSO, Weibo", "Columbia, Facebook"}
