"""Many photographs in, pictures, lines and a page out: nothing lost, nothing overwritten, nothing fetched."""

import errno
import json
import os
import re
import shutil
import time
import warnings
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mpc_lite.errors import InputError
from mpc_lite.files import location, pictures_in
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.overlay import overlay as painted_with_legend
from mpc_lite.inference.photo_report import thumbnails
from mpc_lite.inference.predict import KEYS, photographs, predict
from mpc_lite.network.model import MPC
from mpc_lite.provenance import sealed
from mpc_lite.run_folder import LOCK
from tests.inference.test_localizer import Fake, brightness, photo, ramp
from tests.test_files import closed


def test_predict_writes_pictures_and_lines_and_survives_bad_photos(tmp_path):
    (tmp_path / "other").mkdir()
    image = ramp(40, 70)
    Image.fromarray(image).save(tmp_path / "é a.png")
    Image.fromarray(image[:30]).save(tmp_path / "other" / "É A.bmp")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    photos = [tmp_path / "é a.png", tmp_path / "broken.jpg", tmp_path / "gone.png", tmp_path / "other" / "É A.bmp"]
    localizer = Localizer(Fake(brightness, stride=1), "tiles", size=32)
    out = tmp_path / "new" / "out"
    lines = list(predict(photos, out, localizer))
    assert [json.loads(line) for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()] == lines

    first, broken, gone, second = lines
    assert list(first) == list(KEYS)
    assert (first["width"], first["height"], first["error"]) == (70, 40, None)
    assert first["image"] == (tmp_path / "é a.png").as_posix()
    assert first["score"] == pytest.approx(localizer(image).score, abs=1e-6)
    assert first["tampered_fraction"] == pytest.approx((image[..., 0] > 127.5).mean(), abs=1e-6)
    assert first["files"] == {kind: f"é a.{kind}.png" for kind in ("score", "mask", "overlay")}
    assert second["files"]["mask"] == "É A-2.mask.png" and second["height"] == 30  # the same name on many disks
    assert "cannot be read as an image" in broken["error"] and "No such file" in gone["error"]
    assert broken["score"] is None and broken["files"] == {}

    score, mask, overlay = (np.asarray(Image.open(out / name)) for name in first["files"].values())
    assert score.dtype == np.uint16 and np.abs(score / 65535 - image[..., 0] / 255).max() < 1e-5
    np.testing.assert_array_equal(mask, np.where(image[..., 0] > 127.5, 255, 0))
    np.testing.assert_array_equal(overlay, painted_with_legend(image, localizer(image).score_map))
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [LOCK, "predictions.jsonl", *first["files"].values(), *second["files"].values()]
    )


def test_a_folder_takes_the_results_of_one_run_at_a_time(tmp_path):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    first = predict([tmp_path / "a.png"], tmp_path / "out", localizer)
    line = next(first)
    with pytest.raises(InputError, match="out is in use by process"):
        next(predict([tmp_path / "a.png"], tmp_path / "out", localizer))
    assert list(first) == [] and json.loads((tmp_path / "out" / "predictions.jsonl").read_text()) == line
    assert len(list(predict([tmp_path / "a.png"], tmp_path / "out", localizer))) == 1


@pytest.mark.parametrize("threshold", [0.25, 0.8])
def test_the_threshold_makes_mask_contour_and_share_and_no_score(tmp_path, threshold):
    image = ramp(40, 70)
    Image.fromarray(image).save(tmp_path / "a.png")
    localizer = Localizer(Fake(brightness, stride=1), "tiles", size=32)
    (line,) = predict([tmp_path / "a.png"], tmp_path / "out", localizer, report=True, threshold=threshold)
    score_map = localizer(image).score_map
    assert line["score"] == pytest.approx(localizer(image).score, abs=1e-6)
    assert line["tampered_fraction"] == pytest.approx((score_map > threshold).mean(), abs=1e-6)
    mask, overlay = (np.asarray(Image.open(tmp_path / "out" / f"a.{kind}.png")) for kind in ("mask", "overlay"))
    np.testing.assert_array_equal(mask, np.where(score_map > threshold, 255, 0))
    np.testing.assert_array_equal(overlay, painted_with_legend(image, score_map, threshold))
    assert (overlay != painted_with_legend(image, score_map)).any()
    assert f"the contour runs at {threshold:g}" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_another_threshold_is_refused_before_anything_is_written(tmp_path, threshold):
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        list(predict([], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32), threshold=threshold))
    assert not (tmp_path / "out").exists()


def test_predict_never_overwrites_a_photo_of_its_list(tmp_path):
    photos = [tmp_path / name for name in ("a.png", "A.mask.png", "a-2.png")]  # A and a are one on many disks
    for path in photos:
        Image.fromarray(photo(8, 8)).save(path)
    before = [path.read_bytes() for path in photos]
    lines = list(predict(photos, tmp_path, Localizer(Fake(brightness), "tiles", size=32)))
    assert [line["files"]["mask"] for line in lines] == ["a-2.mask.png", "A.mask.mask.png", "a-2-2.mask.png"]
    assert [path.read_bytes() for path in photos] == before


def test_the_name_of_a_photo_among_many_of_one_stem_is_found_at_once(tmp_path, monkeypatch):
    """Photos of one name from many folders: no number is tried again that was given, or is another program's."""
    photos, out, tried = [tmp_path / f"{n}" / "image.png" for n in range(12)], tmp_path / "out", Counter()
    for path in photos:
        path.parent.mkdir()
        Image.fromarray(photo(8, 8)).save(path)
    out.mkdir()
    (out / "image-3.mask.png").write_bytes(b"another's")

    def counted(path):
        tried[Path(path).name] += 1
        return location(path)

    monkeypatch.setattr("mpc_lite.inference.predict.location", counted)
    lines = list(predict(photos, out, Localizer(Fake(brightness), "tiles", size=32)))
    assert [x["files"]["mask"] for x in lines][:3] == ["image.mask.png", "image-2.mask.png", "image-4.mask.png"]
    assert lines[-1]["files"]["mask"] == "image-13.mask.png"
    del tried["image.png"]
    assert max(tried.values()) == 1


def test_no_file_that_predict_did_not_write_is_overwritten(tmp_path):
    Image.fromarray(ramp(40, 70)).save(tmp_path / "a.png")
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.mask.png")  # a truth, of no list
    localizer = Localizer(Fake(brightness, stride=1), "tiles", size=32)
    before = (tmp_path / "a.mask.png").read_bytes()
    for _ in range(3):  # its own files are replaced
        (line,) = predict([tmp_path / "a.png"], tmp_path, localizer)
        assert line["files"]["mask"] == "a-2.mask.png" and len(list(tmp_path.glob("[!.]*"))) == 6
    assert (tmp_path / "a.mask.png").read_bytes() == before

    mask = tmp_path / "a-2.mask.png"
    edited = Image.open(mask)
    kept = PngInfo()
    for key, text in edited.text.items():  # as painting programs do
        kept.add_text(key, text)
    edited.putpixel((0, 0), 128)
    edited.save(mask, pnginfo=kept)
    mine = mask.read_bytes()
    (line,) = predict([tmp_path / "a.png"], tmp_path, localizer)
    assert line["files"]["mask"] == "a-3.mask.png" and mask.read_bytes() == mine


def test_own_pictures_are_known_after_runs_of_other_photos_and_broken_off_ones(tmp_path):
    photos, out = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out"
    for path in photos:
        Image.fromarray(photo(8, 8)).save(path)
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    first = list(predict(photos, out, localizer))
    lines = predict(photos[1:], out, localizer)
    next(lines)
    lines.close()
    assert [line["files"] for line in predict(photos, out, localizer, threshold=0.7)] == [
        line["files"] for line in first
    ]
    assert len(list(out.glob("*.png"))) == 6


@pytest.mark.parametrize("name", ["predictions.jsonl", "report.html"])
def test_a_table_or_page_of_another_program_is_not_replaced(name, tmp_path):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    localizer, file = Localizer(Fake(brightness), "tiles", size=32), tmp_path / name
    for _ in range(2):  # its own is
        assert len(list(predict([tmp_path / "a.png"], tmp_path, localizer, report=True))) == 1
    file.write_text('{"image": "a.png", "label": 1}\n')
    with pytest.raises(InputError, match=f"{name}: not written by predict, and would be replaced; move it"):
        list(predict([tmp_path / "a.png"], tmp_path, localizer, report=True))
    assert file.read_text() == '{"image": "a.png", "label": 1}\n'


def test_predict_lines_are_on_disk_as_soon_as_they_are_known(tmp_path):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    lines = predict([tmp_path / "a.png"] * 2, tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32))
    next(lines)
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 1
    lines.close()


def test_predict_reports_a_photo_that_needs_too_much_memory(tmp_path):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")

    def localizer(image):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    said = next(predict([tmp_path / "a.png"], tmp_path / "out", localizer))["error"]
    assert said == "the memory does not suffice for this image; use a larger machine, or leave it out"


@pytest.mark.parametrize("error", [ValueError("-12 samples"), cv2.error("OpenCV: broken"), ZeroDivisionError()])
@pytest.mark.parametrize("place", ["localizer", "overlay", "thumbnails"])
def test_no_photo_ends_the_list_whatever_goes_wrong_with_it(tmp_path, monkeypatch, place, error):
    for name in ("a.png", "b.png"):
        Image.fromarray(photo(8, 8)).save(tmp_path / name)
    localizer, calls = Localizer(Fake(brightness), "tiles", size=32), []

    def first_fails(function):
        def called(*words):
            calls.append(words)
            if len(calls) == 1:
                raise error
            return function(*words)

        return called

    if place == "localizer":
        answer = first_fails(localizer)
    else:
        answer, where = localizer, f"mpc_lite.inference.predict.{place}"
        monkeypatch.setattr(where, first_fails(painted_with_legend if place == "overlay" else thumbnails))
    facts = {"mode": "tiles", "size": 32, "fingerprint": "0"}
    wrapped = type("Wrapped", (), {"__call__": lambda self, image: answer(image), **facts})()
    bad, good = predict([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", wrapped, report=True)
    assert (
        bad["error"]
        == f"{type(error).__name__}: {error}; a fault of the program: report it, if you can with this photograph"
    )
    assert bad["score"] is None and bad["files"] == {} and good["error"] is None and len(good["files"]) == 3
    assert "Not scored: 1" in (tmp_path / "out" / "report.html").read_text()


def test_a_photo_longer_than_a_png_can_be_is_named(tmp_path, capfd):
    Image.fromarray(np.zeros((1_000_001, 1, 3), np.uint8)).save(tmp_path / "a.bmp")
    (line,) = predict([tmp_path / "a.bmp"], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32))
    assert "a.bmp: cannot be read as an image (a side of 1000001 pixels, at most 1000000)" in line["error"]
    assert capfd.readouterr() == ("", "")


def test_predict_says_when_the_folder_cannot_be_written(tmp_path):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written"):
        list(predict([tmp_path / "a.png"], tmp_path / "file", localizer))
    out = tmp_path / "out"

    def vanishing(image):
        if out.is_dir():
            shutil.rmtree(out)
            out.touch()  # for whoever runs the tests may write any folder
        return localizer(image)

    with pytest.raises(InputError, match=r"cannot write .*a\.score\.png"):
        list(predict([tmp_path / "a.png"] * 2, out, vanishing))


@pytest.mark.parametrize("kind", ["score", "mask", "overlay"])
def test_a_picture_that_cannot_be_written_is_the_error_of_its_photo_alone(tmp_path, kind):
    for name in ("a.png", "b.png"):
        Image.fromarray(photo(8, 8)).save(tmp_path / name)
    (tmp_path / "out" / f"a.{kind}.png").mkdir(parents=True)  # a folder where a picture should go
    photos, localizer = [tmp_path / "a.png", tmp_path / "b.png"], Localizer(Fake(brightness), "tiles", size=32)
    bad, good = predict(photos, tmp_path / "out", localizer, report=True)
    assert bad["error"].endswith(f"a.{kind}.png: a folder has this name; rename it, or choose another")
    assert bad["score"] is None and bad["files"] == {} and good["error"] is None and len(good["files"]) == 3
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 2
    assert "Not scored: 1" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_one_picture_refuses_all(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("mpc_lite.files.os.fsync", refuse)
    with pytest.raises(InputError, match=os.strerror(number)):
        list(predict([tmp_path / "a.png"] * 2, tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32)))


@pytest.mark.trust
@pytest.mark.parametrize("name", ["predictions.jsonl", "report.html"])
def test_a_table_that_is_a_link_is_not_written_through(tmp_path, name):
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("../elsewhere")
    with pytest.raises(InputError, match=rf"{name}: not written by predict, and would be replaced"):
        list(
            predict([tmp_path / "a.png"], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32), report=True)
        )
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.trust
def test_the_lines_of_a_snapshot_by_hard_links_stay_as_they_were(folder, tmp_path):
    localizer, out = Localizer(Fake(brightness), "tiles", size=32), tmp_path / "out"
    list(predict([folder], out, localizer))
    before = (out / "predictions.jsonl").read_bytes()
    os.link(out / "predictions.jsonl", tmp_path / "monday.jsonl")
    (line,) = predict([folder / "dark.png"], out, localizer)
    assert json.loads((out / "predictions.jsonl").read_text("utf-8")) == line
    assert (tmp_path / "monday.jsonl").read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is a thing of Linux")
def test_predict_says_when_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("mpc_lite.inference.predict.check_plain", lambda path: None)  # a device stands for the disk
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    Image.fromarray(photo(8, 8)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left on device"):
        list(predict([tmp_path / "a.png"], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32)))


@pytest.mark.slow
@pytest.mark.data
def test_real_forgeries_of_every_set(data_dir, tmp_path):
    names = ["lalonde/images/image_000093.jpg"]
    names += [
        f"{name}/images/{sorted(os.listdir(data_dir / 'forged' / name / 'images'))[0]}" for name in ("casia2", "cvip")
    ]
    localizer = Localizer(MPC.build("nano").eval(), "tiles", size=128, overlap=32)
    for line in predict([data_dir / "forged" / name for name in names], tmp_path, localizer):
        assert line["error"] is None and 0 <= line["score"] <= 1
        assert Image.open(tmp_path / line["files"]["score"]).size == (line["width"], line["height"])


# ------------------------------------------------------------------------------------------------------------- report


class Links(HTMLParser):
    """Addresses that a page names, and the alt texts of its pictures."""

    def __init__(self, page):
        super().__init__()
        self.addresses, self.alts, self.heads = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.addresses += [named[key] for key in ("src", "href") if key in named]
        self.alts += [named.get("alt")] if tag == "img" else []


@pytest.fixture
def folder(tmp_path):
    """Three photographs of rising brightness, a broken one, a hidden one, and a file that is no picture."""
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    for name, grey in (("dark.png", 20), ("below/bright <b>.png", 230), ("middle.png", 120)):
        Image.fromarray(np.full((40, 600, 3), grey, np.uint8)).save(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no picture")
    return photos


def test_a_folder_stands_for_its_pictures_without_earlier_results(folder):
    localizer, out = Localizer(Fake(brightness), "tiles", size=32), folder / "found"
    first = [line["image"] for line in predict([folder], out, localizer)]
    assert first == [
        (folder / name).as_posix() for name in ("below/bright <b>.png", "broken.jpg", "dark.png", "middle.png")
    ]
    assert [line["image"] for line in predict([folder], out, localizer)] == first
    assert pictures_in(folder / "below") == [folder / "below" / "bright <b>.png"]
    (folder / "empty").mkdir()
    (line,) = predict([folder / "empty"], out, localizer)
    assert "empty holds no photograph: in it and below, no name ends in .jpg, .jpeg, .png" in line["error"]


def test_a_closed_folder_is_one_line_among_the_others(folder, tmp_path, monkeypatch):
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    closed(monkeypatch, folder / "below")
    *lines, last = predict([folder], tmp_path, localizer)
    assert [line["score"] is None for line in lines] == [True, False, False]  # the broken one
    assert last["image"].endswith("below") and "cannot look into" in last["error"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_pipes_by_the_names_of_results_are_not_waited_for(folder, tmp_path):
    localizer, out = Localizer(Fake(brightness), "tiles", size=32), tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "dark.mask.png")
    (line,) = predict([folder / "dark.png"], out, localizer)
    assert line["files"]["mask"] == "dark-2.mask.png"  # of nobody's making, and so left alone
    (out / "predictions.jsonl").unlink()
    for name, report in (("report.html", True), ("predictions.jsonl", False)):
        os.mkfifo(out / name)
        with pytest.raises(InputError, match=f"{name} is a pipe or a device; expected the name of a file to write"):
            list(predict([folder / "dark.png"], out, localizer, report))


def test_a_folder_of_links_holds_what_they_lead_to(folder, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "sub").symlink_to(folder / "below")
    (line,) = predict([tmp_path / "holiday"], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32))
    assert line["image"].endswith("holiday/sub/bright <b>.png") and line["error"] is None


@pytest.mark.parametrize("outs", [["", "", ""], ["a", "b", "below/c"]])
def test_what_predict_wrote_is_no_photograph(outs, folder):
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    first = [line["image"] for line in predict([folder], folder / "found", localizer)]
    for number, out in enumerate(outs):
        if number == 0 and not out:
            assert [line["image"] for line in predict([folder / "below"], folder / "below", localizer)] == first[:1]
        else:
            with pytest.warns(
                UserWarning,
                match=r"\d+ pictures that predict or evaluate wrote are left out: .*\.(mask|overlay|score)\.png",
            ):
                assert [line["image"] for line in predict([folder], folder / out, localizer)] == first
    with pytest.raises(
        InputError, match=r"3 pictures that predict or evaluate wrote are left out.*; name the photographs"
    ):
        list(predict(sorted((folder / "found").glob("dark.*.png")), folder / "other", localizer))


def test_the_report_shows_all_by_falling_score_and_fetches_nothing(folder, tmp_path):
    out = tmp_path / "out"
    lines = list(predict([folder], out, Localizer(Fake(brightness), "tiles", size=32), report=True))
    page = (out / "report.html").read_text(encoding="utf-8")
    names = re.findall(r"<li><h2>.*?([^/]+)</h2>", page)
    assert names == ["bright &lt;b&gt;.png", "middle.png", "dark.png"]  # names are text, never markup
    links = Links(page)
    own = {file for line in lines for file in line["files"].values()}
    inline = [a for a in links.addresses if a.startswith("data:image/jpeg;base64,")]
    beside = {a.replace("%20", " ").replace("%3C", "<").replace("%3E", ">") for a in links.addresses if a not in inline}
    assert len(inline) == 1 + 2 * 3 and beside == own
    assert all((out / file).is_file() for file in beside)
    assert len(links.alts) == 7 and all(len(alt) > 15 for alt in links.alts)
    assert "Not scored: 1" in page and "broken.jpg" in page.partition("Not scored")[2]
    assert "default-src 'none'" in page and "<script" not in page
    assert len(page) < 200_000  # thumbnails, not photographs


@pytest.mark.trust
def test_the_report_says_what_was_left_out_for_its_mark(folder, tmp_path):
    """Anybody can put it into a picture, so nobody may take a page without that picture for a page of all."""
    (folder / "<i>forged.png").write_bytes(sealed((folder / "dark.png").read_bytes()))
    with pytest.warns(UserWarning, match="1 pictures that predict or evaluate wrote are left out"):
        list(predict([folder], tmp_path / "out", Localizer(Fake(brightness), "tiles", size=32), report=True))
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Left out: 1</h2>" in page and "&lt;i&gt;forged.png" in page.partition("Left out")[2] and "<i>" not in page


def test_no_report_unless_asked_and_none_of_a_list_that_was_not_finished(folder, tmp_path):
    localizer = Localizer(Fake(brightness), "tiles", size=32)
    list(predict([folder], tmp_path / "a", localizer))
    lines = predict([folder], tmp_path / "b", localizer, report=True)
    next(lines)
    lines.close()
    assert not (tmp_path / "a" / "report.html").exists() and not (tmp_path / "b" / "report.html").exists()


@pytest.mark.trust
@pytest.mark.parametrize("report", [False, True])
def test_a_run_in_which_nothing_could_be_scored_leaves_the_earlier_ones_lines(folder, tmp_path, report):
    localizer, out = Localizer(Fake(brightness), "tiles", size=32), tmp_path / "out"
    list(predict([folder], out, localizer, report=True))
    files = [out / "predictions.jsonl", out / "report.html"]
    before = [file.read_text("utf-8") for file in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (line,) = predict([folder / "typo.png"], out, localizer, report=report)
    assert "No such file" in line["error"] and [file.read_text("utf-8") for file in files] == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lines = list(predict([folder / "typo.png", folder / "dark.png"], out, localizer, report=report))
    assert [json.loads(line) for line in files[0].read_text("utf-8").splitlines()] == lines  # the error first
    assert ("middle.png" in files[1].read_text("utf-8")) != report
    (line,) = predict([folder / "typo.png"], tmp_path / "new", localizer)
    assert json.loads((tmp_path / "new" / "predictions.jsonl").read_text()) == line


@pytest.mark.trust
def test_no_confidence_stays_beside_the_map_of_another_photograph(folder, tmp_path):
    localizer, out = Localizer(Fake(brightness), "tiles", size=32), tmp_path / "out"
    list(predict([folder / "dark.png"], out, localizer, report=True, confidence=True))
    shutil.copy(folder / "middle.png", tmp_path / "dark.png")
    with pytest.warns(UserWarning, match=r"report.html shows an earlier run; --report makes it anew"):
        (line,) = predict([tmp_path / "dark.png"], out, localizer)
    assert sorted(file.name for file in out.glob("*.png")) == sorted(line["files"].values())


def test_confidence_is_written_when_asked_for(tmp_path):
    Image.fromarray(ramp(40, 70)).save(tmp_path / "a.png")
    localizer = Localizer(Fake(brightness, stride=1), "tiles", size=32)
    (line,) = predict([tmp_path / "a.png"], tmp_path / "out", localizer, confidence=True)
    confidence = np.asarray(Image.open(tmp_path / "out" / line["files"]["confidence"]))
    assert confidence.shape == (40, 70) and confidence.dtype == np.uint16 and confidence.min() > 65000


@pytest.mark.trust
def test_a_folder_whose_name_begins_with_a_tilde_is_no_home(tmp_path, monkeypatch):
    """predict . looked for ~root/a.png in the home of root."""
    monkeypatch.chdir(tmp_path)
    for name in ("~root/a.png", "~/b.png", "c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(ramp(40, 70)).save(name)
    lines = list(predict(["."], "out", Localizer(Fake(brightness, stride=1), "tiles", size=32)))
    assert {line["image"]: line["error"] for line in lines} == {"~root/a.png": None, "~/b.png": None, "c.png": None}


def test_a_folder_of_thousands_of_own_pictures_is_looked_through_at_once(tmp_path):
    """For each file all own ones were put into a set: 5000 photographs beside 15000 results waited for 41 s."""
    png, files = tmp_path / "own.png", 1500
    png.write_bytes(sealed(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()))
    for number in range(files):
        os.link(png, tmp_path / f"{number}.score.png")
        (tmp_path / f"{number}.jpg").touch()
    started = time.perf_counter()
    photos, own = photographs([tmp_path])
    assert (len(photos), len(own)) == (files, files + 1) and time.perf_counter() - started < 3


def test_a_long_name_is_cut_between_its_characters(tmp_path):
    Image.fromarray(ramp(40, 70)).save(tmp_path / f"{'日本' * 41}.png")
    (line,) = predict(
        [tmp_path / f"{'日本' * 41}.png"], tmp_path / "out", Localizer(Fake(brightness, stride=1), "tiles")
    )
    assert line["files"]["mask"] == f"{'日本' * 30}.mask.png"


@pytest.mark.trust
def test_raw_and_layered_files_of_a_folder_are_told_and_own_pictures_known_by_their_seal(tmp_path):
    Image.fromarray(ramp(40, 70)).save(tmp_path / "a.png")
    for name in ("IMG_1.DNG", "b.psd", "c.jxl", "notes.txt", ".hidden.nef"):
        (tmp_path / name).touch()
    (tmp_path / "evidence (1).PNG").write_bytes(sealed((tmp_path / "a.png").read_bytes()))
    with pytest.warns(UserWarning, match=r"3 files of kinds that are not read here .*: IMG_1\.DNG, b\.psd, c\.jxl$"):
        photos, own = photographs([tmp_path])
    assert photos == [tmp_path / "a.png"] and own == [tmp_path / "evidence (1).PNG"]


@pytest.mark.trust
def test_pictures_without_a_picture_s_ending_are_told(tmp_path):
    """As browsers and messengers save them."""
    for name, kind in (
        ("b.jpg_large", "JPEG"),
        ("c", "PNG"),
        ("d.jpg.1", "JPEG"),
        ("e.scan", "TIFF"),
        ("a.png", "PNG"),
    ):
        Image.fromarray(ramp(40, 70)).save(tmp_path / name, format=kind)
    (tmp_path / "notes.txt").write_text("no picture")
    for kept in ("a.png_original", "a.png~", "a.png.part", "a.THM"):  # of a picture that is scored, or none yet
        (tmp_path / kept).write_bytes((tmp_path / "c").read_bytes())
    with pytest.warns(
        UserWarning, match=r"4 pictures are passed over, whose .*: b\.jpg_large, c, d\.jpg\.1, e\.scan; "
    ):
        photos, _ = photographs([tmp_path])
    assert photos == [tmp_path / "a.png"]
    assert photographs([tmp_path / "c"]) == ([tmp_path / "c"], [])
