"""The shared mechanics: pairing, checking, converting, counting, recording, and the mistakes of a call."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, authentic, match, without_end
from mpc_lite.data.manifest import read_mask
from mpc_lite.errors import InputError

SCRIPTS = Path(__file__).parents[2] / "data_scripts"


def tiny_pairs(tree):
    yield from match(tree.files("fake"), tree.files("mask"), mask_key=without_end("_m"))
    yield from authentic(tree.files("real"))


TINY = DataSet(
    name="tiny",
    source="Tiny",
    title="Tiny set",
    owner="its owner",
    page="https://example.org/tiny",
    terms="its terms",
    evidence=UNVERIFIED,
    seen="nothing",
    layout="fake/*.png, mask/*_m.png, real/*.png",
    mask=MaskRule("above 127"),
    counts={"tampered": {2: "one paper", 3: "another"}, "authentic": {1: "all"}},
    paper=2,
    pairs=tiny_pairs,
)


@pytest.fixture
def tiny(tmp_path, photo, mask_file):
    root = tmp_path / "data" / "tiny"
    for number, name in enumerate("ab"):
        photo(root / "fake" / f"{name}.png", seed=number)
        mask_file(root / "mask" / f"{name}_m.png")
    photo(root / "real" / "r.png", seed=5)
    return root


def test_a_good_set_gives_a_manifest_with_paths_of_its_folder_and_code_0(run, tiny, tmp_path):
    done = run(TINY, tiny)
    assert (done.code, done.bad, done.err) == (0, [], "")
    assert (done.folder / "tiny.csv").read_text() == (
        "image,mask,label,source\n"
        "../data/tiny/fake/a.png,../data/tiny/mask/a_m.png,1,Tiny\n"
        "../data/tiny/fake/b.png,../data/tiny/mask/b_m.png,1,Tiny\n"
        "../data/tiny/real/r.png,,0,Tiny\n"
    )
    assert "tampered: found 2, good 2; expected 2 (one paper) or 3 (another); paper's test set: 2\n" in done.out
    assert "authentic: found 1, good 1; expected 1 (all)\n" in done.out
    assert not (done.folder / "tiny" / "masks").exists()


def test_the_record_says_where_everything_comes_from_and_is_the_same_twice(run, tiny):
    first = run(TINY, tiny).folder / "tiny.json"
    text = first.read_text()
    record = run(TINY, tiny).record
    assert first.read_text() == text
    for key in ("owner", "page", "terms", "evidence", "seen", "source"):
        assert record[key] == getattr(TINY, key)
    assert record["mask_rule"] == {
        "words": "above 127", "threshold": 127, "channel": "luma", "inverted": False, "fit": False, "chosen": False,
    }  # fmt: skip
    assert record["counts"]["tampered"] == {
        "found": 2, "good": 2, "expected": {"2": "one paper", "3": "another"}, "paper": 2,
    }  # fmt: skip


def test_every_kind_of_bad_pair_is_listed_and_the_others_stay(run, tiny, photo, mask_file):
    for name in ("empty", "nomask", "size", "torn", "tornmask"):
        photo(tiny / "fake" / f"{name}.png")
    mask_file(tiny / "mask" / "empty_m.png", inside=0)
    mask_file(tiny / "mask" / "size_m.png", size=(36, 23))
    mask_file(tiny / "mask" / "torn_m.png")
    mask_file(tiny / "mask" / "lone_m.png")
    whole = (tiny / "fake" / "torn.png").read_bytes()
    (tiny / "fake" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (tiny / "mask" / "tornmask_m.png").write_bytes(b"")
    (tiny / "real" / "text.png").write_text("no image")
    done = run(TINY, tiny)
    assert done.code == 1 and [row.image.stem for row in done.rows] == ["a", "b", "r"]
    problems = {(row["image"], row["mask"]): row["problem"] for row in done.bad}
    assert problems.pop(("fake/empty.png", "mask/empty_m.png")).startswith("empty mask")
    assert problems.pop(("fake/nomask.png", "")) == "no mask"
    assert problems.pop(("fake/size.png", "mask/size_m.png")) == "size mismatch: image 36×24, mask 36×23"
    assert problems.pop(("fake/torn.png", "mask/torn_m.png")).startswith("cannot be read as an image")
    assert problems.pop(("fake/tornmask.png", "mask/tornmask_m.png")).startswith("mask: cannot be read")
    assert problems.pop(("", "mask/lone_m.png")) == "mask without image"
    assert problems.pop(("real/text.png", "")).startswith("cannot be read as an image")
    assert problems == {} and done.record["bad"] == done.bad
    assert done.out.count("\nbad: ") == 7 and "7 bad pairs are left out" in done.out
    assert done.record["counts"]["tampered"] | {"expected": 0} == {"found": 7, "good": 2, "expected": 0, "paper": 2}


@pytest.mark.trust
def test_an_authentic_image_that_lies_twice_counts_once(run, tiny, photo):
    """A folder beside its own archive, which the script unpacked: both hold the same files."""
    shutil.copytree(tiny / "real", tiny / "real.zip.unpacked" / "real")
    photo(tiny / "other" / "real" / "r.png", seed=6)  # another image of this name
    done = run(TINY, tiny)
    assert done.code == 1 and [row.image.parent.parent.name for row in done.rows if not row.label] == ["other", "tiny"]
    (bad,) = done.bad
    assert bad["problem"] == "the image comes twice, the other time as real/r.png"
    assert bad["image"] == "real.zip.unpacked/real/r.png"


@pytest.mark.trust
@pytest.mark.parametrize("threshold", [126, 127, 128])
def test_a_threshold_that_is_given_decides_alone(run, tiny, mask_file, threshold):
    """127 too: above it, whatever the package makes of a mask whose values are all the same grey."""
    mask_file(tiny / "mask" / "b_m.png", inside=100)
    done = run(TINY, tiny, "--threshold", threshold)
    assert done.code == 1 and done.bad[0]["problem"].startswith("empty mask")
    assert done.record["mask_rule"]["threshold"] == threshold and done.record["mask_rule"]["chosen"]
    mask_file(tiny / "mask" / "b_m.png", inside=255, outside=100)
    assert run(TINY, tiny, "--threshold", threshold).code == 0


@pytest.mark.trust
def test_pictures_and_archives_that_are_passed_over_are_told(run, tiny, photo):
    (tiny / "fake" / "b.png").rename(tiny / "fake" / "b.webp")  # of an ending that the layout does not know
    (tiny / "more.zip").write_bytes(b"PK")
    (tiny / "real.tar.gz").write_bytes(b"\x1f\x8b")  # lies unpacked beside it
    done = run(TINY, tiny)
    assert done.code == 1
    assert "note: pictures that the set's layout does not name, and that are not used: 1 .webp in fake\n" in done.out
    assert (
        "note: more.zip: not looked into; unpack what is of the set and not unpacked yet, or give it too\n" in done.out
    )
    (tiny / "fake" / "b.webp").rename(tiny / "fake" / "b.png")
    (tiny / "other").mkdir()
    photo(tiny / "other" / "x.jpg")
    assert "not used" not in run(TINY, tiny).out  # all that is expected is there


@pytest.mark.trust
@pytest.mark.parametrize("script", ["imd2020.py", "from_list.py"])
def test_what_a_script_does_not_know_is_told_without_acting_on_the_terminal(script, tmp_path):
    """With * in a folder of strangers, names are options."""
    call = [sys.executable, SCRIPTS / script, "-\x1b[2Jx.jpg", "m\u202evsc.txt", "--out", tmp_path / "o"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "\\x1b[2Jx.jpg" in done.stderr
    assert not {"\x1b", "\u202e"} & set(done.stderr)


def test_a_mended_set_leaves_no_list_of_bad_pairs_behind(run, tiny, photo, mask_file):
    photo(tiny / "fake" / "c.png")
    assert run(TINY, tiny).code == 1
    mask_file(tiny / "mask" / "c_m.png")
    done = run(TINY, tiny)
    assert done.code == 0 and not (done.folder / "tiny.bad.csv").exists()


def test_when_every_pair_is_bad_there_is_no_manifest(run, tiny):
    for path in [*(tiny / "mask").iterdir(), tiny / "real" / "r.png"]:
        path.unlink()
    done = run(TINY, tiny)
    assert done.code == 1 and not (done.folder / "tiny.csv").exists()
    assert "no manifest: every pair is bad; " in done.out and "mask/*_m.png" in done.out and len(done.bad) == 2


def test_masks_are_converted_where_the_package_would_read_them_differently(run, tiny, mask_file):
    values = np.array(Image.open(tiny / "mask" / "a_m.png"))
    values[13] = values[13] // 255 * 100  # above 0, but not above 127, as one of three grey values
    Image.fromarray(values).save(tiny / "mask" / "a_m.png")
    done = run(TINY, tiny, "--threshold", 0)
    assert done.code == 0
    a, b, _ = done.rows
    assert a.mask.parent.name == "fake" and "tiny/masks" in a.mask.as_posix() and b.mask.name == "b_m.png"
    assert np.array_equal(read_mask(a), read_mask(b))
    assert set(np.unique(np.asarray(Image.open(a.mask)))) == {0, 255}
    mask_file(tiny / "mask" / "a_m.png")
    assert run(TINY, tiny).code == 0  # nothing stale stays but the names
    assert [path.name for path in (done.folder / "tiny").rglob("*") if path.is_file()] == [".written"]


def test_converted_masks_of_equal_names_do_not_overwrite_each_other(run, tiny, photo, mask_file, tmp_path):
    other = tmp_path / "more" / "tiny"
    photo(other / "fake" / "a2.png")
    for root, name, width in ((tiny, "a", 3), (other, "a2", 5)):
        mask_file(root / "mask" / f"{name}_m.png", inside=90, box=(0, 0, width, 1))
    (tiny / "fake" / "b.png").unlink()
    (tiny / "mask" / "b_m.png").unlink()
    (other / "fake" / "a.tif").write_bytes((other / "fake" / "a2.png").read_bytes())  # a.tif in one, a.png in the other

    def pairs(tree):
        named = {p.parents[1].parent.name + p.name: p for p in tree.files("fake")}
        masks = {p.name: p for p in tree.files("mask")}
        yield Pair(named["dataa.png"], masks["a_m.png"])
        yield Pair(named["morea.tif"], masks["a2_m.png"])

    done = run(dataclasses.replace(TINY, pairs=pairs), tiny, other, "--threshold", 0)
    assert [int(read_mask(row).sum()) for row in done.rows] == [3, 5]
    assert done.rows[0].mask != done.rows[1].mask


@pytest.mark.parametrize(
    "rule, expected",
    [
        (MaskRule(), [0, 0, 0, 1, 1]),
        (MaskRule(threshold=0), [0, 1, 1, 1, 1]),
        (MaskRule(threshold=127, inverted=True), [1, 1, 1, 0, 0]),
        (MaskRule(threshold=120), [0, 0, 1, 1, 1]),
    ],
)
def test_mask_rules(rule, expected):
    values = np.repeat(np.uint8([[0, 1, 127, 128, 255]])[..., None], 3, axis=2)
    assert rule(values).tolist() == [expected]
    assert rule(values).dtype == np.uint8


def test_mask_rule_reads_one_channel_and_masks_of_ones():
    values = np.zeros((1, 3, 3), np.uint8)
    values[0, 0], values[0, 1] = (0, 200, 0), (200, 0, 200)
    assert MaskRule(channel="green")(values).tolist() == [[1, 0, 0]]
    assert MaskRule(channel="red")(values).tolist() == [[0, 1, 0]]
    assert MaskRule()(np.uint8([[[0] * 3, [1] * 3]])).tolist() == [[0, 1]]
    assert MaskRule(inverted=True)(np.uint8([[[0] * 3, [1] * 3]])).tolist() == [[1, 0]]


def test_a_transparent_mask_counts_by_its_values_as_in_the_fields_loaders(run, tiny):
    values = np.zeros((24, 36, 4), np.uint8)
    values[2:4, 2:4] = 255
    Image.fromarray(values).save(tiny / "mask" / "a_m.png")  # all but four pixels are transparent black
    assert int(read_mask(run(TINY, tiny).rows[0]).sum()) == 4


def test_masks_fit_only_where_the_rule_says_so(run, tiny, mask_file):
    mask_file(tiny / "mask" / "a_m.png", size=(18, 12), box=(2, 3, 6, 7))
    assert run(TINY, tiny).code == 1
    done = run(dataclasses.replace(TINY, mask=MaskRule(fit=True)), tiny)
    assert done.code == 0 and done.record["notes"] == [
        {"image": "fake/a.png", "note": "mask 18×12 resized to 36×24, nearest"}
    ]
    assert np.array_equal(read_mask(done.rows[0]), read_mask(done.rows[1]))


@pytest.mark.parametrize(
    "size, problem", [
        ((24, 36), "size mismatch: image 36×24, mask 24×36 (turned)"),
        ((12, 18), "size mismatch: image 36×24, mask 12×18 (turned)"),
        ((25, 35), "size mismatch: image 36×24, mask 25×35 (turned)"),
        ((35, 24), None), ((18, 13), None), ((30, 30), None),
    ],
)  # fmt: skip
def test_a_mask_on_its_side_is_never_stretched_over_its_image(run, tiny, mask_file, size, problem):
    mask_file(tiny / "mask" / "a_m.png", size=size, box=(2, 3, 6, 7))
    done = run(dataclasses.replace(TINY, mask=MaskRule(fit=True)), tiny)
    assert [row["problem"] for row in done.bad] == ([problem] if problem else [])
    assert done.code == (1 if problem else 0)


@pytest.mark.parametrize("width", [97, 98, 99, 101])
def test_a_mask_of_a_nearly_square_image_may_differ_a_little(width):
    from checked import fitted

    mask = np.zeros((98, width), np.uint8)
    assert fitted(mask, (98, 100))[0].shape == (98, 100)
    with pytest.raises(InputError, match="turned"):
        fitted(np.zeros((100, 98), np.uint8), (98, 100))


def test_inverted_masks_by_mistake_are_noticed(run, tiny):
    done = run(dataclasses.replace(TINY, mask=MaskRule(inverted=True)), tiny)
    assert "WARNING" in done.out and "other way round" in done.out
    assert "WARNING" not in run(TINY, tiny).out


def test_an_image_that_comes_twice_is_a_bad_pair(run, tiny):
    twice = dataclasses.replace(TINY, pairs=lambda tree: [*tiny_pairs(tree), *authentic(tree.files("real"))])
    done = run(twice, tiny)
    assert done.code == 1 and [row["problem"] for row in done.bad] == ["the image comes twice"]


# ------------------------------------------------------------------------------------------------- pairing and finding


def test_match_never_goes_by_order(tmp_path):
    images = [Path(f"fake/{name}") for name in ("10.jpg", "2.jpg", "A.JPG")]
    masks = [Path(f"mask/{name}") for name in ("10.png", "2.png", "a.png")]
    for order in (masks, masks[::-1]):
        pairs = match(images, order, split="test")
        assert [(p.image.name, p.mask.name, p.split) for p in pairs] == [
            ("10.jpg", "10.png", "test"), ("2.jpg", "2.png", "test"), ("A.JPG", "a.png", "test"),
        ]  # fmt: skip


def test_match_lists_ambiguous_names_once():
    images = [Path("a/x.jpg"), Path("b/x.jpg"), Path("a/y.jpg"), Path("a/z.jpg")]
    masks = [Path("m/x.png"), Path("m/y.png"), Path("n/y.png"), Path("m/z.png"), Path("m/w.png")]
    pairs = match(images, masks)
    assert [(str(p.image), str(p.mask and p.mask), p.problem) for p in pairs] == [
        ("a/x.jpg", "None", "2 images are called x"),
        ("b/x.jpg", "None", "2 images are called x"),
        ("a/y.jpg", "None", "2 masks for it: y.png, y.png"),
        ("a/z.jpg", "m/z.png", ""),
        ("None", "m/w.png", "mask without image"),
    ]


def test_tree_finds_by_the_end_of_the_path_whatever_the_case(tmp_path):
    for name in ("up/TP/cm/b.JPG", "up/Tp/Sp/a.jpg", "up/Tp/Sp/._a.jpg", "__MACOSX/Tp/Sp/a.jpg", "up/Tp/Sp/a.txt",
                 "up/Tp/Sp/deep/c.png", "up/xTp/Sp/d.jpg"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = Tree([tmp_path, tmp_path / "up"])  # overlapping
    names = lambda **options: [path.name for path in tree.files(**options)]  # noqa: E731
    assert names(folder="Tp/Sp") == ["a.jpg"] and names(folder="tp/CM") == ["b.JPG"]
    assert names(folder="Tp/Sp/**") == ["a.jpg", "c.png"] and names(folder="*p/Sp") == ["a.jpg", "d.jpg"]
    assert names(folder="Tp/Sp", suffixes=()) == ["a.jpg", "a.txt"] and names(name="?.PNG") == ["c.png"]
    assert sorted(names()) == ["a.jpg", "b.JPG", "c.png", "d.jpg"]
    assert [path.name for path in Tree([tmp_path / "up" / "Tp" / "Sp"]).files("Sp")] == ["a.jpg"]


def test_manifests_beside_the_images_do_not_feed_on_their_own_masks(run, tiny, mask_file):
    from make import main

    mask_file(tiny / "mask" / "a_m.png", inside=90)

    def anywhere(tree):
        return [Pair(path, path) for path in tree.files("**", name="*.png") if "mask" in path.as_posix()]

    dataset = dataclasses.replace(TINY, pairs=anywhere, mask=MaskRule(threshold=0))
    for _ in range(2):
        assert main(dataset, argv=[str(tiny), "--out", str(tiny)]) == 0
        assert len((tiny / "tiny.csv").read_text().splitlines()) == 3


@pytest.mark.trust
def test_a_table_of_somebody_elses_by_the_manifests_name_stays(run, tiny, tmp_path):
    out = tmp_path / "sets"
    out.mkdir()
    (out / "tiny.csv").write_text("method,f1\nours,0.5\n")
    with pytest.raises(InputError):  # the fixture reads what is there
        run(TINY, tiny)
    assert (out / "tiny.csv").read_text() == "method,f1\nours,0.5\n"
    (out / "tiny.csv").write_text("image,mask,label,source\n../data/tiny/real/r.png,,0,mine\n")
    done = run(TINY, tiny)
    assert done.code == 2 and "tiny.csv is there, without the record tiny.json" in done.err
    assert "mine" in (out / "tiny.csv").read_text()
    (out / "tiny.csv").unlink()
    assert run(TINY, tiny).code == run(TINY, tiny).code == 0


# --------------------------------------------------------------------------------------------------- splits and calls


def test_a_split_list_of_an_image_means_none_of_another_ending(run, tiny, photo, tmp_path):
    (tmp_path / "test.txt").write_text("real/r.png\nfake/a.jpg\n")
    photo(tiny / "real" / "r.jpg", seed=9)
    both = dataclasses.replace(TINY, pairs=lambda tree: [*tiny_pairs(tree), *authentic(tree.files("real", "*.jpg"))])
    done = run(both, tiny, "--split", f"test={tmp_path / 'test.txt'}")
    splits = {row.image.name: row.split for row in done.rows}
    assert splits == {"a.png": "test", "b.png": None, "r.png": "test", "r.jpg": None}  # a.jpg is there as a.png alone


def test_the_second_image_of_a_line_is_not_left_out_in_silence(run, tiny, tmp_path):
    (tmp_path / "test.txt").write_text("fake/a.png fake/b.png\n")
    done = run(TINY, tiny, "--split", f"test={tmp_path / 'test.txt'}")
    assert done.code == 1 and [(row["image"], row["problem"]) for row in done.bad] == [
        ("fake/b.png", "the list of split test names it behind another image; write a line for each")
    ]
    (tmp_path / "test.txt").write_text("fake/a.png mask/a_m.png\nfake/b.png fake/a.png\n")  # a has a line
    assert run(TINY, tiny, "--split", f"test={tmp_path / 'test.txt'}").code == 0


def test_masks_called_as_images_and_pairs_of_json_are_no_second_images(run, tiny, tmp_path):
    for text in (
        "real/r.png mask/r.png 0\nfake/b.png gt/b.png edge/b.png orig/b.png\n",
        '[\n["fake/a.png", "m/a.png"],\n]\n',
    ):
        (tmp_path / "test.txt").write_text(text)
        done = run(TINY, tiny, "--split", f"test={tmp_path / 'test.txt'}")
        assert (done.code, done.bad) == (0, []) and any(row.split == "test" for row in done.rows)


def test_a_first_line_that_names_nothing_is_noted_unless_it_is_a_header(run, tiny, tmp_path):
    for first, noted in (("a", True), ("a.webp", True), ("image,mask", False), ("File name", False), ("", False)):
        (tmp_path / "test.txt").write_text(f"{first}\nfake/b.png\n")
        done = run(TINY, tiny, "--split", f"test={tmp_path / 'test.txt'}")
        assert done.code == 0 and ("note: --split" in done.out) == noted, (first, done.out)


@pytest.mark.parametrize("text", ['["fake/a.png", "fake/b.png", "real/r.png", "x.png"]', "a.png,b.png,c.png,d.png"])
def test_a_split_list_of_one_line_is_refused(run, tiny, tmp_path, text):
    (tmp_path / "test.txt").write_text(text)
    done = run(TINY, tiny, "--split", f"test={tmp_path / 'test.txt'}")
    assert done.code == 2 and "line 1 names several images; write a line for each" in done.err


def test_split_lists_fill_the_column_and_unknown_names_are_bad(run, tiny, tmp_path):
    train, test = tmp_path / "train.txt", tmp_path / "test.csv"
    train.write_text("fake/a.png mask/a_m.png\n\nnothing here\n")
    test.write_text("fake\\b.png,mask\\b_m.png,None\nmissing one.png\n")
    done = run(TINY, tiny, "--split", f"train={train}", "--split", f"test={test}")
    assert [row.split for row in done.rows] == ["train", "test", None]
    assert "split train: 1" in done.out and "split test: 1" in done.out and done.code == 1
    assert [(row["image"], "split test" in row["problem"]) for row in done.bad] == [("missing one.png", True)]


def test_split_lists_may_be_quoted_and_write_accents_otherwise(run, tiny, photo, tmp_path, capsys):
    names = ["a,b.png", 'say "x".png', "caf\u00e9.png", "plain.png", "x y.png"]
    for name in names:
        photo(tiny / "real" / name)
    photo(tiny / "real" / "left.png")
    lines = [
        '"image","mask"', '"a,b.png","m.png"', '"say ""x"".png";"m.png"', "cafe\u0301.png", "plain.png,m.png",
        '"x y.png" "m.png"', "left", "# end",
    ]  # fmt: skip
    (tmp_path / "l.txt").write_text("\n".join(lines), encoding="utf-8")
    done = run(TINY, tiny, "--split", f"train={tmp_path / 'l.txt'}")
    assert {row.image.name for row in done.rows if row.split == "train"} == set(names)
    assert done.code == 0 and done.bad == []
    assert "l.txt: 2 lines name no image with its ending, left out: left, # end" in done.out + done.err


def test_of_images_of_one_name_a_list_means_the_one_whose_folders_it_gives(run, tiny, photo, tmp_path):
    """Cameras that count alike, in folders that are called alike: DSC01 of one is not that of the other."""
    for seed, camera in enumerate(("Canon", "Nikon")):
        photo(tiny / camera / "original" / "DSC01.png", seed=seed)
    dataset = dataclasses.replace(TINY, pairs=lambda tree: [Pair(p, label=0) for p in tree.files("**", name="DSC*")])
    (tmp_path / "l.txt").write_text("set/Canon/original/DSC01.png\n")
    done = run(dataset, tiny, "--split", f"test={tmp_path / 'l.txt'}")
    assert [(row.image.parts[-3], row.split) for row in done.rows] == [("Canon", "test"), ("Nikon", None)]
    (tmp_path / "l.txt").write_text("original/DSC01.png\n")
    done = run(dataset, tiny, "--split", f"test={tmp_path / 'l.txt'}")
    assert [row.split for row in done.rows] == [None, None]
    assert done.bad[0]["problem"].endswith("names it, as images in 2 folders are called; give more of its folders")


def test_an_image_in_two_splits_is_bad(run, tiny, tmp_path):
    (tmp_path / "l.txt").write_text("a.png\n")
    done = run(TINY, tiny, "--split", f"x={tmp_path / 'l.txt'}", "--split", f"y={tmp_path / 'l.txt'}")
    assert done.code == 1 and done.bad[0]["problem"] == "the image is in several splits: x, y"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["give the folder or archive", "fake/*.png", "https://example.org/tiny"]),
        (["{tmp}/nowhere"], ["nowhere: no such folder or archive", "fake/*.png"]),
        (["{tmp}/empty"], ["no image of Tiny set was recognised", "found: holiday.txt, other/", "fake/*.png"]),
        (["{tiny}", "--threshold", "255"], ["--threshold 255", "0 to 254"]),
        (["{tiny}", "--split", "train"], ["--split train", "NAME=FILE"]),
        (["{tiny}", "--split", "train={tmp}/nowhere"], ["list cannot be read"]),
        (["{tiny}", "--split", "train={tmp}/empty/holiday.txt"], ["no line names an image"]),
    ],
)
def test_mistakes_get_one_message_that_says_what_was_expected(run, tiny, tmp_path, arguments, words):
    (tmp_path / "empty" / "other").mkdir(parents=True)
    (tmp_path / "empty" / "holiday.txt").write_text("hello")
    done = run(TINY, *(text.format(tmp=tmp_path, tiny=tiny) for text in arguments))
    assert done.code == 2 and done.err.startswith("error: ") and all(word in done.err for word in words)
    assert not done.folder.exists() or not list(done.folder.glob("*.csv"))


@pytest.mark.trust
def test_a_name_with_a_line_break_forges_no_line(run, tmp_path):
    folder = tmp_path / "in\nwrote tiny.csv: 9 images"
    folder.mkdir()
    for name in ("a\nerror: all is well.txt", "\x1b[2J.txt", *(f"{n}.txt" for n in range(9))):
        (folder / name).write_text("hello")
    done = run(TINY, folder)
    assert done.code == 2 and done.err.count("\n") == 1 and "\x1b" not in done.err
    assert r"found: \x1b[2J.txt, 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt and 3 more; " in done.err
    lost = run(TINY, tmp_path / "a\nb")
    assert lost.code == 2 and lost.err.count("\n") == 1 and r"a\nb: no such folder" in lost.err


def test_sets_that_are_not_there_are_left_out_of_several(run, tiny):
    absent = dataclasses.replace(TINY, name="absent", pairs=lambda tree: [])
    done = run([TINY, absent], tiny)
    assert done.code == 0 and len(done.rows) == 3 and "absent: nothing of it" in done.out
    assert run([absent, absent], tiny).code == 2


def test_scripts_run_as_programs_from_anywhere(tmp_path, photo, mask_file):
    root = tmp_path / "DSO-1"
    photo(root / "splicing-01.png")
    mask_file(tmp_path / "DSO-1-Fake-Images-Masks" / "splicing-01.png", inside=0, outside=255)
    command = [sys.executable, str(SCRIPTS / "dso1.py"), str(root), str(tmp_path / "DSO-1-Fake-Images-Masks")]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"MPC_LITE_SETS": str(tmp_path / "s")}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "s" / "dso1.csv").is_file() and "owner: RECOD" in done.stdout
    lost = subprocess.run(command[:2], cwd=tmp_path, capture_output=True, text=True)
    assert lost.returncode == 2 and lost.stderr.startswith("error: give the folder")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes that break and /dev/full are of Unix")
@pytest.mark.parametrize("script", ["dso1.py", "from_list.py"])
@pytest.mark.parametrize(
    "output, code, said",
    [
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("> /dev/full", 2, "error: standard output took no more (No space left on device); what was written to files"),
    ],
)
def test_an_output_that_takes_no_more_ends_no_work(tmp_path, photo, mask_file, script, output, code, said):
    """Files were written, or were not even begun, and the pipe of `| head -1` was told as a full disk."""
    if "full" in output and not os.path.exists("/dev/full"):
        pytest.skip("a disk that is always full is a thing of Linux")
    photo(tmp_path / "DSO-1" / "splicing-01.png")
    mask_file(tmp_path / "DSO-1-Fake-Images-Masks" / "splicing-01.png", inside=0, outside=255)
    (tmp_path / "list.txt").write_text("DSO-1/splicing-01.png DSO-1-Fake-Images-Masks/splicing-01.png\n")
    words = "DSO-1 DSO-1-Fake-Images-Masks --out s" if script == "dso1.py" else "list.txt --out s/dso1.csv"
    line = f"{sys.executable} -u {SCRIPTS / script} {words} {output}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code and said in done.stderr and bool(done.stderr) == bool(said), done.stderr
    assert len((tmp_path / "s" / "dso1.csv").read_text().splitlines()) == 2


def test_every_set_declares_its_facts(load):
    names = ("casia1", "casia1plus", "casia2", "columbia", "coverage", "dso1", "imd2020", "nist16")
    for name in names:
        (dataset,) = {id(v): v for v in vars(load(name)).values() if isinstance(v, DataSet) and v.name == name}.values()
        assert all((dataset.owner, dataset.terms, dataset.seen, dataset.layout, dataset.mask.words, dataset.counts))
        assert dataset.page.startswith("http") and dataset.evidence in ("seen", "from documentation, unverified")


def test_the_papers_names_and_sizes_are_those_of_the_paper(load):
    import yaml

    images = yaml.safe_load((SCRIPTS.parent / "mpc_lite" / "reproduce" / "paper.yaml").read_text(encoding="utf-8"))[
        "images"
    ]
    for name in ("casia1", "columbia", "coverage", "dso1", "imd2020", "nist16"):
        dataset = getattr(load(name), name.upper())
        assert images[dataset.source] == dataset.paper and dataset.paper in dataset.counts["tampered"]


def test_errors_of_a_reader_make_a_bad_pair_not_a_crash(run, tiny):
    def refuse(pixels, rule):
        raise InputError("cannot be placed")

    odd = dataclasses.replace(TINY, pairs=lambda tree: [Pair(p, p, read=refuse) for p in tree.files("fake")])
    done = run(odd, tiny)
    assert done.code == 1 and {row["problem"] for row in done.bad} == {"mask: cannot be placed"}
