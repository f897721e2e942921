"""Foreign lists: every format reads as the same samples, and every bad entry is named by its number."""

import json
import pickle
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from mpc_lite.data import lists
from mpc_lite.data.list_formats import entries
from mpc_lite.data.lists import pick, read_list, sort_entries
from mpc_lite.data.manifest import Sample, read_manifest, write_manifest
from mpc_lite.errors import InputError


@pytest.fixture
def root(tmp_path):
    """Three images and two masks (empty files: lists only look whether a file is there)."""
    root = tmp_path / "set"
    for name in ("Tp/a.jpg", "Tp/b.tif", "Gt/a.png", "Gt/b.png", "Au/c.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def save(root, name, content):
    path = root / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TRIPLES = [("Tp/a.jpg", "Gt/a.png", 1), ("Tp/b.tif", "Gt/b.png", 1), ("Au/c.jpg", None, 0)]
LISTS = {
    "json": json.dumps([[image, mask or "Negative"] for image, mask, _ in TRIPLES]),
    "npy": np.array([[image, mask or ""] for image, mask, _ in TRIPLES]),
    "space": "".join(f"./{image} {mask or None} {label}\n" for image, mask, label in TRIPLES),
    "comma": "".join(f"{image},{mask or None},0jpg/x.jpg\n" for image, mask, _ in TRIPLES),
}


@pytest.mark.parametrize("given", [True, False], ids=["format given", "format guessed"])
@pytest.mark.parametrize("kind", LISTS)
def test_formats_give_the_same_samples(root, tmp_path, kind, given):
    path = save(tmp_path, "list.npy" if kind == "npy" else "list.txt", LISTS[kind])
    samples = read_list(path, root, source="mine", format=kind if given else None)
    found = [(s.image, s.mask, s.label) for s in samples]
    assert found == [(root / image, root / mask if mask else None, label) for image, mask, label in TRIPLES]
    assert {s.source for s in samples} == {"mine"} and [s.row for s in samples] == [1, 2, 3]


def test_paths_start_at_the_lists_folder_by_default_and_the_source_is_its_name(root, monkeypatch):
    path = save(root, "casia.txt", LISTS["comma"])
    monkeypatch.chdir("/")
    samples = read_list(path)
    assert samples[0].image == root / "Tp/a.jpg" and samples[0].source == "casia"
    write_manifest(root / "m.csv", samples)
    assert [(s.label, s.source) for s in read_manifest(root / "m.csv")] == [(1, "casia"), (1, "casia"), (0, "casia")]


def test_lines_of_two_fields_without_label(root):
    path = save(root, "nist.txt", "Tp/a.jpg Gt/a.png\nAu/c.jpg None\n")
    assert [(s.mask, s.label) for s in read_list(path)] == [(root / "Gt/a.png", 1), (None, 0)]


def test_an_authentic_image_may_have_a_mask_by_its_label(root):
    sample = read_list(save(root, "m.txt", "Au/c.jpg Gt/a.png 0\n"))[0]
    assert sample.label == 0 and sample.mask == root / "Gt/a.png"


@pytest.mark.parametrize("delimiter", [",", ";", ", "])
def test_a_third_field_between_commas_is_a_label_where_most_are(root, delimiter, recwarn):
    def labels(*lines):
        path = save(root, "m.txt", "".join(delimiter.join(line) + "\n" for line in lines))
        good, bad = sort_entries(path)
        return [(s.label, s.mask and s.mask.name) for s in good], [number for number, _ in bad]

    first, second = ("Tp/a.jpg", "Gt/a.png"), ("Au/c.jpg", "Gt/b.png")
    expected = [(1, "a.png"), (0, "b.png")], []
    assert labels((*first, "1"), (*second, "0")) == labels((*first, "1", "more"), (*second, "0 ")) == expected
    assert labels((*first, "1.0"), (*second, "0.0")) == expected  # a column that had gaps when pandas wrote it
    assert labels(first, (*second, "0")) == labels((*first, ""), (*second, "0")) == expected
    third = ("Tp/b.tif", "Gt/a.png")
    assert labels((*first, "1"), (*second, "0"), (*third, "tampered")) == (expected[0], [3])
    assert labels(("image_path", "mask_path", "label"), (*first, "1"), (*second, "0")) == (expected[0], [1])
    assert list(recwarn) == []


@pytest.mark.parametrize(("other", "told"), [("2", True), ("fake", True), ("Qt/c.jpg", False), ("None", False)])
def test_another_third_field_between_commas_is_left_out_aloud_unless_it_is_a_file(root, recwarn, other, told):
    path = save(
        root,
        "m.txt",
        f"Tp/a.jpg,Gt/a.png,{other}\nTp/b.tif,Gt/b.png,{other}\nAu/c.jpg,Gt/b.png,{0 if told else other}\n",
    )
    assert [sample.label for sample in read_list(path)] == [1, 1, 1]
    words = [str(each.message) for each in recwarn]
    assert any("every entry with a mask counts as tampered" in each for each in words) == told and len(words) == told


def test_texts_as_editors_and_windows_write_them(root):
    (root / "Tp" / "dining table 1.png").touch()
    text = "\ufeffTp\\a.jpg,Gt\\a.png\r\n\r\n  Tp/dining table 1.png , Gt/b.png ,1\r\n"
    assert [s.image.name for s in read_list(save(root, "m.txt", text))] == ["a.jpg", "dining table 1.png"]
    json_list = save(root, "m.json", "\ufeff" + LISTS["json"])
    assert len(read_list(json_list)) == 3


def test_bytes_arrays(root):
    assert len(read_list(save(root, "m.npy", np.char.encode(LISTS["npy"], "utf-8")))) == 3
    with pytest.raises(InputError, match="not UTF-8"):
        read_list(save(root, "m.npy", np.array([["caf\u00e9".encode("latin-1"), b"x"]])))


# -------------------------------------------------------------------------------------------------- Tp/ and Gt/ folders


def test_folders_pair_by_name_not_by_order(root):
    (root / "Tp" / "b.tif").rename(root / "Tp" / "0.tif")  # sorted order would give it the mask of a
    (root / "Gt" / "b.png").rename(root / "Gt" / "0.png")
    samples = read_list(root, source="mine")
    assert {(s.image.name, s.mask.name) for s in samples} == {("a.jpg", "a.png"), ("0.tif", "0.png")}
    (root / "Tp").rename(root / "tamper")
    (root / "Gt").rename(root / "gt")
    (root / "gt" / ".DS_Store").touch()
    assert len(read_list(root)) == 2


def test_folders_name_what_is_left_over(root):
    for name in ("Tp/d.jpg", "Gt/e.png", "Tp/a.png"):
        (root / name).touch()
    good, bad = sort_entries(root)
    assert [s.image.name for s in good] == ["b.tif"]
    assert [message for _, message in bad] == [
        "Tp/a.jpg: a.jpg, a.png and a.png have one name, expected one of each",
        "Tp/a.png: a.jpg, a.png and a.png have one name, expected one of each",
        "Tp/d.jpg: no mask of this name in Gt",
        "Gt/e.png: a mask without an image in Tp",
    ]


def test_empty_rows_of_a_spreadsheet_say_nothing(root):
    (root / "m.csv").write_text(",,\nTp/a.jpg,Gt/a.png,1\n , ,\n\nTp/b.tif,Gt/b.png,1\n,,\n")
    assert [s.image.name for s in read_list(root / "m.csv")] == ["a.jpg", "b.tif"]


def test_a_folder_of_another_kind(root):
    with pytest.raises(InputError, match="found the folders set, expected Tp and Gt"):
        read_list(root.parent)


# -------------------------------------------------------------------------------------------------------- bad entries


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("m.txt", "Tp/a.jpg,Gt/a.png\nTp/gone.jpg,Gt/b.png\n", "line 2 of m.txt: image Tp/gone.jpg does not exist in"),
        ("m.txt", "Tp/a.jpg,Gt/gone.png\n", "line 1 of m.txt: mask Gt/gone.png does not exist in"),
        ("m.txt", "Tp/a.jpg,Gt/a.png\nTp/b.tif,\n", "line 2 of m.txt: no mask; an authentic image has 'None'"),
        ("m.txt", "Tp/a.jpg,Gt/a.png\n,Gt/b.png\n", "line 2 of m.txt: no image"),
        ("m.txt", "Tp/a.jpg,Gt/a.png\nTp/b.tif\n", "line 2 of m.txt: 'Tp/b.tif' has 1 fields, expected image,mask"),
        ("m.txt", "Tp/a.jpg,Tp/a.jpg\n", "line 1 of m.txt: Tp/a.jpg is its own mask"),
        ("m.txt", "Tp/a.jpg,Gt/a.png\n\n./Tp/a.jpg,Gt/a.png\n", "line 3 of m.txt: ./Tp/a.jpg is in line 1 of"),
        ("m.txt", "Tp/a.jpg,Gt/a.png\nTp/a.jpg,Gt/b.png\n", "is in line 1 of m.txt already, with another mask"),
        ("m.txt", b"Tp/a.jpg,Gt/a.png\nTp/caf\xe9.jpg,Gt/b.png\n", "line 2 of m.txt: not text in UTF-8"),
        ("m.txt", "Tp/a.jpg Gt/a.png 1\nTp/b.tif Gt/b.png 2\n", "line 2 of m.txt: label '2', expected 1 (tampered)"),
        ("m.txt", "Tp/a.jpg None 1\n", "line 1 of m.txt: label 1 (tampered), but no mask"),
        ("m.txt", "Tp/a.jpg,None,1\n", "line 1 of m.txt: label 1 (tampered), but no mask"),
        ("m.txt", "Tp/a.jpg Gt/a.png 1\nTp/b c.tif Gt/b.png 1\n", "'Tp/b c.tif Gt/b.png 1' has 4 fields"),
        ("m.json", '[["Tp/a.jpg", "Gt/a.png"], ["Tp/b.tif"]]', 'entry 2 of m.json: ["Tp/b.tif"], expected a pair'),
        ("m.json", '[["Tp/a.jpg", "Gt/a.png"], ["Tp/b.tif", null]]', "'Tp/b.tif' and None, expected two"),
        ("m.json", '[["Tp/a.jpg", "None"]]', "entry 1 of m.json: mask None does not exist"),
        ("m.npy", np.array([["Tp/a.jpg", "Gt/a.png"], ["", ""]]), "entry 2 of m.npy: no image"),
    ],
)  # fmt: skip
def test_bad_entries_are_named_by_number(root, name, content, expected):
    path = save(root, name, content)
    with pytest.raises(InputError) as error:
        read_list(path)
    assert expected in str(error.value)


def test_every_bad_entry_is_named(root):
    lines = ["Tp/a.jpg,Gt/a.png"] + [f"Tp/{n}.jpg,Gt/a.png" for n in range(2, 31)]
    lines[20] = "Tp/b.tif,Gt/b.png"
    path = save(root, "m.txt", "\n".join(lines))
    with pytest.raises(InputError) as error:
        read_list(path)
    message = str(error.value)
    assert "28 of 30 entries" in message and "line 11 of m.txt" in message and "line 12 of m.txt" not in message
    assert message.endswith("and further ones, numbers 12–20, 22–30")
    good, bad = sort_entries(path)
    assert len(good) == 2 and [number for number, _ in bad] == [*range(2, 21), *range(22, 31)]


# ------------------------------------------------------------------------------------------- lists that cannot be read


def test_objects_in_arrays_are_refused_with_advice_and_never_run(root, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    objects = np.array([["Tp/a.jpg", None], ["Tp/b.tif", Trap()]], dtype=object)
    for name, content in [("m.npy", objects), ("p.npy", pickle.dumps(objects)), ("m.txt", pickle.dumps([Trap()]))]:
        with pytest.raises(InputError, match=r"holds Python objects.*If you trust its origin.*astype\(str\)"):
            read_list(save(root, name, content))
    header = HUGE.replace(b"'<U9'", b'"|O" ').replace(b"999999999999", b"2           ")
    for content in (pickle.dumps(Trap(), protocol=0), header + pickle.dumps(objects)):  # past the look at the header
        with pytest.raises(InputError, match=r"not a whole .npy array"):
            read_list(save(root, "m.npy", content), format="npy")
    assert not (tmp_path / "trap").exists()
    save(root, "safe.npy", np.load(save(root, "m.npy", objects[:1]), allow_pickle=True).astype(str))
    assert read_list(root / "safe.npy")[0].label == 0  # what the advice makes of an object array: None becomes "None"


HUGE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<U9', 'fortran_order': False, 'shape': (999999999999, 2), }".ljust(117)
    + b"\n"
)


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("m.npy", np.zeros((4, 2)), r"shape \(4, 2\) of float64, expected \(N,2\) texts"),
        ("m.npy", np.array(["a", "b"]), r"shape \(2,\) of <U1, expected \(N,2\)"),
        ("m.npy", b"\x93NUMPY\x01", "not a whole .npy array"),
        ("m.npy", HUGE, "not a whole .npy array"),
        ("m.npz", b"PK\x03\x04", "or the sheet saved as CSV"),
        ("m.json", "[[", "not JSON, though it begins like it"),
        ("m.json", "[" * 100_000, "not JSON"),
        ("m.json", '{"a": 1}', "a JSON dict, expected a list of pairs"),
        ("m.json", '[["ManiDataset", "/data/CASIA2"]]', r"lists data sets \(ManiDataset"),
        ("m.json", "[]", "the list is empty"),
        ("m.txt", "", "the list is empty"),
        ("m.txt", "\n \n", "the list is empty"),
        ("m.txt", b"GIF89a\0\0", "neither text nor an array"),
        ("m.txt", "a,1.jpg b,1.png\n", "'a,1.jpg b,1.png'.*can be read as 'space' .* and as 'comma'"),
        ("m.txt", "11t.tif\n12t.tif\n", "names images only.*--of MANIFEST"),
    ],
)  # fmt: skip
def test_what_is_no_list(root, name, content, expected):
    with pytest.raises(InputError, match=expected):
        read_list(save(root, name, content))


def test_an_ambiguous_list_reads_when_the_format_is_given(root):
    for name in ("a,1.jpg", "b,1.png"):
        (root / name).touch()
    path = save(root, "m.txt", "a,1.jpg b,1.png\n")
    assert read_list(path, format="space")[0].image.name == "a,1.jpg"
    with pytest.raises(InputError, match=r"line 1 of m.txt: image a does not exist"):
        read_list(path, format="comma")


def test_wrong_arguments(root):
    path = save(root, "m.txt", LISTS["comma"])
    for call, expected in [
        (lambda: read_list(root / "none.txt"), "no such file or folder"),
        (lambda: read_list(path, root / "none"), "none is not a folder"),
        (lambda: read_list(path, format="csv"), "'csv' is not known; expected one of: json, folders, npy"),
        (lambda: read_list(path, format="folders"), "is a file, which format 'folders' is not"),
        (lambda: read_list(root, format="json"), "is a folder, which format 'json' is not"),
        (lambda: read_list(path, format="json"), "not JSON"),
    ]:
        with pytest.raises(InputError, match=expected):
            call()


# ---------------------------------------------------------------------------------------------------------- split lists


def manifest():
    names = ["probe/1.jpg", "probe/2.jpg", "extra/2.jpg", "probe/3.tif"]
    return [Sample(root_of(name), root_of("masks/" + name), 1, "NIST") for name in names]


def root_of(name):
    return Path("/sets/NC2016") / name


def test_pick_finds_rows_by_name_and_by_folder_where_names_repeat(root):
    chosen, bad = pick(manifest(), save(root, "m.txt", "3.tif\n1.jpg\nprobe/2.jpg\n"))
    assert [s.image.as_posix() for s in chosen] == [
        "/sets/NC2016/probe/3.tif",
        "/sets/NC2016/probe/1.jpg",
        "/sets/NC2016/probe/2.jpg",
    ]
    assert bad == [] and chosen[0].mask == root_of("masks/probe/3.tif")


@pytest.mark.trust
def test_pick_takes_no_image_of_another_folder_for_one_that_is_not_there(root):
    """The tampered image was left out as a bad pair; the untouched one has its name."""
    chosen, bad = pick(manifest(), save(root, "m.txt", "extra/1.jpg\nprobe/3.tif\n"))
    assert [s.image.name for s in chosen] == ["3.tif"]
    assert bad == [(1, "line 1 of m.txt: extra/1.jpg: the one image of this name is in probe, another folder")]
    one_camera = [Sample(Path(f"/sets/cam1/{n}.jpg"), None, 0, "x") for n in (1, 2)]
    chosen, bad = pick(one_camera, save(root, "m.txt", "cam1/2.jpg\ncam2/1.jpg\n"))
    assert [s.image.name for s in chosen] == ["2.jpg"] and len(bad) == 1
    # A list of another layout, whose folders are none of the images', serves as before.
    chosen, bad = pick(manifest(), save(root, "m.txt", "world/1.jpg\nworld/3.tif\n"))
    assert [s.image.name for s in chosen] == ["1.jpg", "3.tif"] and bad == []
    chosen, bad = pick(manifest(), save(root, "m.txt", "NC16/probe/1.jpg\nNC16/probe/3.tif\n"))
    assert [s.image.name for s in chosen] == ["1.jpg", "3.tif"] and bad == []


@pytest.mark.trust
@pytest.mark.parametrize(
    ("disk", "listed"),
    [
        ("Tp/CM/{}.jpg", "Tp/{}.jpg"),
        ("Tp/{}.jpg", "CASIA 1.0/Tp/CM/{}.jpg"),
        ("train/images/{}.jpg", "images/train/{}.jpg"),
    ],
)
def test_pick_takes_lists_of_more_or_fewer_levels_or_in_another_order(disk, listed, root):
    names = [*map(disk.format, "ab"), "Au/c.jpg", "Au/d.jpg"]
    samples = [Sample(root_of(name), None, 0, "x") for name in names]
    text = "".join(listed.format(name) + "\n" for name in "ab") + "Au/c.jpg\n"
    chosen, bad = pick(samples, save(root, "m.txt", text))
    assert [s.image.name for s in chosen] == ["a.jpg", "b.jpg", "c.jpg"] and bad == []
    chosen, bad = pick(samples, save(root, "m.txt", text + "Authentic/d.jpg\n"))
    assert len(chosen) == 3 and "another folder" in bad[0][1]


@pytest.mark.trust
def test_frames_of_one_name_cost_no_more_than_others(root, monkeypatch):
    """Each entry looked at each image of its name, several times: the cube of their number."""
    looked = []
    monkeypatch.setattr(lists, "common_tail", lambda a, b: looked.append(a) or 1)
    names = [f"video{n:03}/frames/0001.png" for n in range(300)]
    samples = [Sample(root_of(name), None, 0, "x") for name in names]
    chosen, bad = pick(samples, save(root, "m.txt", "\n".join(reversed(names))))
    assert chosen == samples[::-1] and bad == [] and len(looked) <= 300
    ends = lists.Alike([sample.image.parts for sample in samples])
    assert ends.closest(("video007", "other", "0001.png")) == (list(range(300)), 1)
    assert ends.closest(("frames", "0001.png")) == (list(range(300)), 2)
    assert ends.closest(("video007", "frames", "0002.png")) == ([], 0)


def test_pick_takes_the_masks_of_the_manifest_not_of_the_list(root):
    chosen, _ = pick(manifest(), save(root, "m.txt", "probe/1.jpg reference/remove/mask/9.png\n"))
    assert chosen[0].mask == root_of("masks/probe/1.jpg")


def test_pick_names_what_it_cannot_find(root):
    chosen, bad = pick(manifest(), save(root, "m.txt", "1.jpg\n2.jpg\n4.jpg\n\nprobe/1.jpg\n"))
    assert len(chosen) == 1
    assert bad == [
        (2, "line 2 of m.txt: 2.jpg: 2 images of the manifest have this name, expected one"),
        (3, "line 3 of m.txt: 4.jpg: no images of the manifest have this name, expected one"),
        (5, "line 5 of m.txt: probe/1.jpg is in line 1 of m.txt already"),
    ]


# ------------------------------------------------------------------------------------------------ as people have them


@pytest.mark.trust
@pytest.mark.parametrize("ending", ["_gt", "-gt", "_GT", "_mask", "-mask", "_edgemask", "_groundtruth"])
def test_a_common_ending_of_masks_is_accepted_and_noted(root, ending):
    for name in "ab":
        (root / "Gt" / f"{name}.png").rename(root / "Gt" / f"{name}{ending}.png")
    with pytest.warns(
        UserWarning, match=rf"2 masks are called otherwise than their images: a.jpg with a{ending}.png, b"
    ):
        samples = read_list(root)
    assert [(s.image.name, s.mask.name) for s in samples] == [
        ("a.jpg", f"a{ending}.png"),
        ("b.tif", f"b{ending}.png"),
    ]


@pytest.mark.trust
def test_case_and_accents_of_names_do_not_part_image_and_mask(root):
    (root / "Gt" / "a.png").rename(root / "Gt" / "A.PNG")
    (root / "Tp" / "b.tif").rename(root / "Tp" / unicodedata.normalize("NFC", "café.tif"))
    (root / "Gt" / "b.png").rename(root / "Gt" / unicodedata.normalize("NFD", "café.png"))
    with pytest.warns(UserWarning, match="2 masks are called otherwise"):
        assert [s.image.suffix for s in read_list(root)] == [".jpg", ".tif"]


@pytest.mark.trust
def test_endings_that_leave_a_choice_are_named(root):
    (root / "Gt" / "a.png").rename(root / "Gt" / "a_mask.png")
    (root / "Gt" / "a_edgemask.png").touch()
    (root / "Gt" / "b_gt.png").touch()  # beside b.png, which is b's
    good, bad = sort_entries(root)
    assert [s.mask.name for s in good] == ["b.png"]
    assert [message for _, message in bad] == [
        "Tp/a.jpg: a.jpg and a_mask.png, a_edgemask.png have one name, expected one of each",
        "Gt/b_gt.png: a mask without an image in Tp",
    ]


@pytest.mark.trust
@pytest.mark.parametrize(
    "text",
    [
        '"Tp/a.jpg","Gt/a.png"\n"Tp/b.tif","Gt/b.png"\n',
        "Tp/a.jpg;Gt/a.png\nTp/b.tif;Gt/b.png\n",
        '"Tp/a.jpg"; "Gt/a.png"\n"Tp/b.tif"; "Gt/b.png"\n',
        'Tp/a.jpg, "Gt/a.png"\nTp\\b.tif, Gt\\b.png\n',
        '"Tp/a.jpg" "Gt/a.png" 1\n"Tp/b.tif"\t"Gt/b.png" 1\n',
    ],
)
def test_quoted_and_semicolon_lists_are_read(root, text):
    assert [(s.image.name, s.mask.name) for s in read_list(save(root, "m.txt", text))] == [
        ("a.jpg", "a.png"),
        ("b.tif", "b.png"),
    ]


@pytest.mark.trust
def test_commas_and_blanks_inside_quotes_belong_to_the_name(root):
    for new in ("a, b.jpg", 'the "a".jpg'):
        (root / "Tp" / new).write_bytes((root / "Tp" / "a.jpg").read_bytes())
    text = '"Tp/a, b.jpg",Gt/a.png\n"Tp/the ""a"".jpg",Gt/b.png\n'
    assert [s.image.name for s in read_list(save(root, "m.csv", text))] == ["a, b.jpg", 'the "a".jpg']
    assert [s.image.name for s in read_list(save(root, "m.txt", '"Tp/a, b.jpg" Gt/a.png 1\n'))] == ["a, b.jpg"]


@pytest.mark.trust
def test_lists_separated_by_tabs_may_have_blanks_in_paths_and_empty_cells(root):
    shutil.copy(root / "Tp" / "a.jpg", root / "Tp" / "a b.jpg")
    for text, images in (
        ("Tp/a b.jpg\tGt/a.png\nTp/b.tif\tGt/b.png\n", ["a b.jpg", "b.tif"]),
        ("Tp/a.jpg\t\tGt/a.png\nTp/b.tif\tGt/b.png\n", ["a.jpg", "b.tif"]),  # lined up
        ("Tp/a.jpg\t\tNone\t0\nTp/b.tif\t\tGt/b.png\t1\n", ["a.jpg", "b.tif"]),
        ("Tp/a.jpg\t\tNone\nTp/b.tif\t\tGt/b.png\n", ["a.jpg", "b.tif"]),
        ("Tp/a.jpg Gt/a.png\t1\nTp/b.tif\tGt/b.png 1\n", ["a.jpg", "b.tif"]),
    ):
        assert [s.image.name for s in read_list(save(root, "m.txt", text))] == images
    bad = sort_entries(save(root, "m.txt", "Tp/a.jpg\tGt/a.png\t1\nTp/b.tif\t\t0\n"))[1]
    assert bad[0][1] == "line 2 of m.txt: no mask; an authentic image has 'None' in its place"
    with pytest.raises(
        InputError, match="begins with the header of a manifest; save it with commas, and give it as one"
    ):
        read_list(save(root, "m.tsv", "image\tmask\tlabel\tsource\nTp/a.jpg\tGt/a.png\t1\tmine\n"))


@pytest.mark.trust
def test_quotes_that_do_not_close_and_manifests_are_named(root):
    path = save(root, "m.csv", 'Tp/a.jpg,Gt/a.png\n"Tp/b.tif,Gt/b.png\n')
    assert "line 2 of m.csv" in sort_entries(path)[1][0][1] and "not quoted" in sort_entries(path)[1][0][1]
    with pytest.raises(InputError, match="begins with the header of a manifest"):
        read_list(save(root, "m.csv", "image,mask,label,source\nTp/a.jpg,Gt/a.png,1,mine\n"))


@pytest.mark.trust
@pytest.mark.parametrize("delimiter", ",;")
def test_names_that_hold_the_other_delimiter(tmp_path, delimiter):
    other = ";" if delimiter == "," else ","
    names = [f"a{other}{other} {i}.jpg" for i in range(3)]
    text = "".join(f"{name}{delimiter}m{name[:-4]}.png\n" for name in names) + f"c.jpg{delimiter}None\n"
    several = text + f"d.jpg{delimiter}d.png{delimiter}{other.join(f'{i}.jpg' for i in range(40))}\n"
    assert [row.mask for row in entries(save(tmp_path, "more.txt", several), "comma")][-2:] == [None, "d.png"]
    alone = f"d.jpg{delimiter}d.png{delimiter}{other.join(f'{i}.jpg' for i in range(9))}\n" * 2
    assert [row.mask for row in entries(save(tmp_path, "alone.txt", alone), "comma")] == ["d.png", "d.png"]
    for form in ("comma", None):
        rows = entries(save(tmp_path, "m.txt", text), form)
        assert [row.image for row in rows] == [*names, "c.jpg"]


@pytest.mark.trust
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_lists_in_utf_16_are_named(tmp_path, encoding):
    data = "a.jpg,a.png\n".encode(encoding)
    path = save(tmp_path, "m.txt", data if encoding == "utf-16" else b"\xff\xfe" + data)
    for form in (None, "comma"):
        with pytest.raises(InputError, match=r"m\.txt: text in UTF-16; save the list in UTF-8"):
            list(entries(path, form))


@pytest.mark.trust
@pytest.mark.parametrize(
    "text",
    [
        '"a.jpg"\n"b, c.tif"\n',  # R quotes all names, pandas those with a comma
        'a.jpg\n"b, c.tif"\n',
        "a.jpg;\nb, c.tif;\n",  # a spreadsheet's empty second column
        '"Tp/a.jpg",\n"Tp/b, c.tif",,\n',
    ],
)
def test_quoted_names_and_empty_columns_of_a_list_of_names(root, text):
    samples = [Sample(root / "Tp" / name, None, 0, "x") for name in ("a.jpg", "b, c.tif", "c.tif")]
    assert pick(samples, save(root, "names.csv", text)) == (samples[:2], [])
    _, bad = pick(samples, save(root, "names.csv", text + '""\n'))
    assert [problem.partition(": ")[2] for _, problem in bad] == ["no image"]


@pytest.mark.slow
@pytest.mark.trust
def test_no_message_grows_with_the_list(root):
    path = save(root, "m.csv", "".join(f"Tp/{n}.jpg,{'Gt/a.png' if n % 3 else ''}\n" for n in range(30_000)))
    with pytest.raises(InputError) as error:
        read_list(path)
    assert len(str(error.value)) < 4000 and "30000 of 30000 entries" in str(error.value)


@pytest.mark.trust
def test_accents_do_not_hide_an_image_from_a_list_of_names(root):
    apart, composed = (unicodedata.normalize(form, "Tp/café.jpg") for form in ("NFD", "NFC"))
    samples = [Sample(root / apart, None, 0, "x"), Sample(root / "Tp/a.jpg", None, 0, "x")]
    chosen, bad = pick(samples, save(root, "names.txt", f"{composed}\n"))
    assert (chosen, bad) == (samples[:1], [])
