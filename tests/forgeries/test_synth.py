"""Forgeries: the region, what each kind does, and the whole as a pure function of (split, seed, index)."""

import errno
import hashlib
import os
import subprocess
import sys
import time
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.cli import main
from mpc_lite.data.manifest import check, read_manifest
from mpc_lite.errors import InputError
from mpc_lite.forgeries import synth
from mpc_lite.forgeries.camera import SPLITS, cameras_of, split_ranges
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.forgeries.scenes import PACKAGED, Scenes, hash_share, load_scene, photo_files
from mpc_lite.forgeries.synth import KINDS, check_fresh, forge, region, write_set
from mpc_lite.images import decode, encode_jpeg
from mpc_lite.provenance import sealed
from mpc_lite.recipes.load import load_recipe
from mpc_lite.run_folder import holds_run, locked


@pytest.fixture(scope="module")
def scenes():
    return {split: Scenes(split, ["packaged", "dead_leaves"]) for split in SPLITS}


def digest(*made) -> str:
    return hashlib.sha256(b"".join(f.image.tobytes() + f.mask.tobytes() for f in made)).hexdigest()


@pytest.mark.parametrize("size", [32, 128])
def test_region_covers_the_area_it_was_asked_for(size):
    areas = [region(np.random.default_rng(i), size, (0.03, 0.4)).mean() for i in range(40)]
    assert min(areas) >= 0.025 and max(areas) <= 0.42
    assert region(np.random.default_rng(1), size, (0.2, 0.2)).mean() == pytest.approx(0.2, abs=0.02)


def test_splits_share_no_camera_quality_or_scene(scenes):
    for i, a in enumerate(SPLITS):
        for b in SPLITS[:i]:
            assert not {repr(c)[20:] for c in cameras_of(a)} & {repr(c)[20:] for c in cameras_of(b)}
            assert not {c.quality for c in cameras_of(a)} & {c.quality for c in cameras_of(b)}
            assert not set(split_ranges()[a]["final"]) & set(split_ranges()[b]["final"])
            assert not set(PACKAGED[a]) & set(PACKAGED[b])
            assert not set(scenes[a].items) & set(scenes[b].items)
    with pytest.raises(InputError, match="unknown"):
        cameras_of("testing")


@pytest.mark.slow
def test_forgeries_are_a_pure_function_of_seed_and_index(scenes):
    indices = (0, 3, 7)
    ours = [forge("train", 5, i, scenes["train"], 64) for i in indices]
    back = [forge("train", 5, i, scenes["train"], 64) for i in reversed(indices)][::-1]
    assert digest(*ours) == digest(*back)
    assert digest(*ours) != digest(*(forge("train", 6, i, scenes["train"], 64) for i in indices))
    code = (
        "from mpc_lite.forgeries.scenes import Scenes; from mpc_lite.forgeries.synth import forge; import hashlib\n"
        "s = Scenes('train', ['packaged', 'dead_leaves']); m = [forge('train', 5, i, s, 64) for i in (0, 3, 7)]\n"
        "print(hashlib.sha256(b''.join(f.image.tobytes() + f.mask.tobytes() for f in m)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(*ours)


@pytest.mark.slow
def test_kinds_do_what_they_say(scenes):
    kinds = [forge("train", 0, i, scenes["train"], 64).kind for i in range(60)]
    assert set(kinds) == set(KINDS)
    for kind in KINDS:
        made = forge("test", 1, 4, scenes["test"], 64, kind=kind)
        assert made.kind == kind
        assert made.mask.any() == (kind != "authentic")
        assert made.image.dtype == np.uint8 and made.image.shape == (64, 64, 3)
    splice = forge("test", 1, 4, scenes["test"], 64, kind="splice")
    assert len(set(splice.cameras)) == 2
    null = forge("test", 1, 4, scenes["test"], 64, null=True)
    assert null.cameras[0] == null.cameras[1] and null.mask.any()


def test_outside_the_mask_a_hard_splice_is_the_untouched_photograph(scenes):
    """Against the authentic picture of the same index: the same draws up to the paste, so the same host photograph."""
    for index in range(30):
        made = forge("train", 2, index, scenes["train"], 64, kind="splice")
        host = forge("train", 2, index, scenes["train"], 64, kind="authentic")
        if made.jpeg is None and host.jpeg is None:
            far = np.ones_like(made.mask, bool)
            rows, columns = np.nonzero(made.mask)
            far[max(rows.min() - 8, 0) : rows.max() + 9, max(columns.min() - 8, 0) : columns.max() + 9] = False
            assert np.array_equal(made.image[far], host.image[far])
            assert (made.image != host.image)[made.mask == 1].mean() > 0.3
            return
    pytest.fail("no pair without a final JPEG among 30")


@pytest.mark.slow
def test_authentic_share_is_kept(scenes):
    share = np.mean([forge("train", 9, i, scenes["train"], 32, 0.3).kind == "authentic" for i in range(150)])
    assert 0.2 < share < 0.4


@pytest.mark.trust
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_in_place_of_a_folder_of_the_set_is_not_followed(tmp_path, scenes):
    for name in ("docs", "set"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "000000.png").write_bytes(b"mine")
    (tmp_path / "set" / ".unfinished").touch()
    (tmp_path / "set" / "images").symlink_to("../docs")
    with pytest.raises(InputError, match=r"images is a link, and pictures would go to where it leads"):
        write_set(tmp_path / "set", "test", 1, 0, 48, scenes["test"])
    assert (tmp_path / "docs" / "000000.png").read_bytes() == b"mine"


def test_write_set_gives_a_manifest_that_check_accepts(tmp_path, scenes):
    path = write_set(tmp_path / "set", "test", 6, 0, 64, scenes["test"])
    assert check(path) == []
    rows = read_manifest(path)
    assert len(rows) == 6 and {r.source.split("-")[0] for r in rows} == {"generated"}
    again = write_set(tmp_path / "again", "test", 6, 0, 64, scenes["test"])
    for a, b in zip(rows, read_manifest(again), strict=True):
        assert a.image.read_bytes() == b.image.read_bytes()


def test_scenes_refuse_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        Scenes("train", ["photos"], str(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no photograph"):
        Scenes("train", ["photos"], str(tmp_path))
    with pytest.raises(InputError, match="environment variable"):
        Scenes("train", ["photos"], "$MPC_LITE_NOT_SET/photos")
    with pytest.raises(InputError, match="go together"):
        Scenes("train", ["photos"])
    with pytest.raises(InputError, match="unknown"):
        Scenes("train", ["paintings"])


def test_a_folder_of_photographs_is_shared_out_by_name(tmp_path):
    for i in range(30):
        Image.fromarray(np.full((40, 40, 3), i, np.uint8)).save(tmp_path / f"photo{i}.png")
    parts = [set(Scenes(split, ["photos"], str(tmp_path)).items) for split in SPLITS]
    assert sum(map(len, parts)) == 30 == len(set.union(*parts))
    view = Scenes("train", ["photos"], str(tmp_path)).view(0, 48, np.random.default_rng(0))
    assert view.shape == (48, 48, 3) and view.dtype == np.float32 and view.min() >= 0 and view.max() <= 1


def photographs(folder, names, side=40):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


@pytest.mark.trust
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_photographs_and_folders_whose_names_are_not_utf_8_are_taken(tmp_path):
    folder = photographs(tmp_path / os.fsdecode(b"Foto\xe9"), [os.fsdecode(b"caf\xe9%d.png" % i) for i in range(30)])
    parts = [set(Scenes(split, ["photos"], str(folder)).items) for split in SPLITS]
    assert sum(map(len, parts)) == 30 == len(set.union(*parts))
    manifest = write_set(tmp_path / "set", "train", 3, 0, 64, Scenes("train", ["photos"], str(folder)))
    assert {sample.source.partition("-")[0] for sample in read_manifest(manifest)} == {"photos"}


@pytest.mark.trust
def test_hidden_photographs_are_nobodys(tmp_path):
    names = [f"{i}.png" for i in range(30)]
    folder = photographs(tmp_path / "mine", [*names, ".hidden.png", ".trash/a.png", "__MACOSX/b.png"])
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")
    items = [item.name for split in SPLITS for item in Scenes(split, ["photos"], str(folder)).items]
    assert sorted(items) == sorted(names)


@pytest.mark.trust
def test_what_was_made_here_is_no_photograph(tmp_path, scenes, capsys):
    folder = photographs(tmp_path / "mine", ["a.png", "images/b.png", "c.score.png"])
    (folder / "images" / "found.png").write_bytes(sealed((folder / "a.png").read_bytes()))
    for name in ("old", "broken"):
        write_set(folder / name, "test", 2, 0, 48, scenes["test"])
    (folder / "broken" / "manifest.csv").unlink()
    (folder / "broken" / synth.UNFINISHED).touch()
    (folder / "old" / "note.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "link").symlink_to(folder / "old" / "images")
    kept = [folder / name for name in ("a.png", "c.score.png", "images/b.png", "old/note.png")]
    assert photo_files(str(folder)) == kept
    text = (folder / "old" / "manifest.csv").read_text()  # as spreadsheets save it
    for saved in (
        f"\ufeff{text}",
        text.replace(",", ";"),
        text.replace("\n", ",notes\n"),
        text.replace("label", '"label"'),
    ):
        (folder / "old" / "manifest.csv").write_text(saved, encoding="utf-8")
        assert photo_files(str(folder)) == kept
    with pytest.warns(
        UserWarning, match=r"\d+ pictures that predict, evaluate or synth wrote are left out: .*found\.png"
    ):
        made = Scenes("train", ["photos"], str(folder))
    assert made.shared_out.startswith("4 of 4 photographs in ")
    synth_call = ["synth", "--out", str(tmp_path / "new"), "--n", "1", "--size", "32", "--split", "train", "--photos"]
    assert main([*synth_call, str(folder)]) == 0
    assert f"note: {made.left_out}\nnote: 4 of 4 photographs" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"holds no photograph: 2 pictures that .*; name what they were made from"):
        Scenes("train", ["photos"], str(folder / "old" / "images"))


@pytest.mark.trust
def test_too_few_photographs_for_a_split_are_counted(tmp_path):
    folder = photographs(tmp_path / "mine", ["0.png", "1.png", "2.png", "3.png"])
    assert Scenes("train", ["photos"], str(folder)).shared_out.startswith("4 of 4 photographs in ")
    with pytest.raises(InputError) as error:
        Scenes("test", ["photos"], str(folder))
    text = str(error.value)
    assert text.startswith("0 of 4 photographs in ") and "belong to the split 'test' (10% of them" in text
    assert "about 20 photographs give two; add some, or take the split 'train'" in text


@pytest.mark.trust
@pytest.mark.parametrize("where", ["images.decode_file", "forgeries.scenes.Image.fromarray"])
def test_a_photograph_too_large_for_the_memory_is_stood_in_for_by_the_next(tmp_path, monkeypatch, where):
    folder = photographs(tmp_path / "mine", [f"{i}.png" for i in range(6)])
    scenes = Scenes("train", ["photos"], str(folder))
    expected = Scenes("train", ["photos"], str(folder)).view(2, 32, np.random.default_rng(3))
    Image.fromarray(np.zeros((1100, 1100, 3), np.uint8)).save(scenes.items[1])
    monkeypatch.setattr(f"mpc_lite.{where}", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.warns(UserWarning, match=r"the memory does not suffice .*the next photograph stands in"):
        stood_in = scenes.view(1, 32, np.random.default_rng(3))
    assert np.array_equal(stood_in, expected) and list(scenes.unreadable) == [scenes.items[1]]


@pytest.mark.trust
def test_a_photograph_that_cannot_be_read_is_stood_in_for_by_the_next(tmp_path):
    folder = photographs(tmp_path / "mine", [f"{i}.png" for i in range(6)])
    scenes = Scenes("train", ["photos"], str(folder))
    bad = scenes.items[1]
    bad.write_bytes(bad.read_bytes()[:200])
    expected = Scenes("train", ["photos"], str(folder)).view(2, 32, np.random.default_rng(3))
    with pytest.warns(UserWarning, match=rf"{bad.name}: cannot be read .*the next photograph stands in"):
        stood_in = scenes.view(1, 32, np.random.default_rng(3))
    assert np.array_equal(stood_in, expected) and list(scenes.unreadable) == [bad]
    for item in scenes.items:
        item.write_text("nothing")
    load_scene.cache_clear()
    with pytest.warns(UserWarning), pytest.raises(InputError, match=f"none of {len(scenes)} photographs can be read"):
        Scenes("train", ["photos"], str(folder)).view(0, 32, np.random.default_rng(3))


@pytest.mark.trust
def test_a_set_that_another_process_writes_is_left_alone(tmp_path, scenes):
    """Its mark `UNFINISHED` is no permission to begin anew while its writer lives."""
    stream = Stream("test", 1, load_recipe("quickstart").data, 48)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "000000.png").touch()
    (tmp_path / synth.UNFINISHED).touch()
    with locked(tmp_path):
        for write in (
            lambda: write_set(tmp_path, "test", 3, 1, 48, scenes["test"], fresh=True),
            lambda: stream.write(tmp_path, 3, 48),
        ):
            with pytest.raises(InputError, match=rf"in use by process {os.getpid()} .*since .*stop it \(Ctrl-C, or"):
                write()
        assert (tmp_path / "images" / "000000.png").exists()
    write_set(tmp_path, "test", 1, 1, 48, scenes["test"], fresh=True)
    with pytest.raises(InputError, match="is not empty"):  # it was finished since somebody looked
        write_set(tmp_path, "test", 1, 1, 48, scenes["test"], fresh=True)


@pytest.mark.trust
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_pipe_in_a_set_that_was_not_finished_is_not_waited_for(tmp_path, scenes):
    (tmp_path / synth.UNFINISHED).touch()
    os.mkfifo(tmp_path / "manifest.csv")
    with pytest.raises(InputError, match=r"manifest\.csv is a pipe or a device"):
        write_set(tmp_path, "test", 1, 1, 48, scenes["test"], fresh=True)


@pytest.mark.trust
def test_a_full_disk_is_told_with_the_folder(tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["synth", "--out", str(tmp_path / "set"), "--n", "1", "--size", "48"]) == 2
    assert f"{os.strerror(errno.ENOSPC)} ({tmp_path / 'set'}); choose another folder" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["synth", "--out", str(tmp_path / "set"), "--n", "1", "--size", "48"]) == 0


@pytest.mark.trust
@pytest.mark.parametrize(("make", "name"), [("touch", synth.UNFINISHED), ("mkdir", "images"), ("mkdir", "masks")])
def test_a_set_whose_first_files_are_refused_blocks_no_other(tmp_path, scenes, monkeypatch, make, name):
    """A disk may have space, and no number left for one more file or folder."""
    plain = getattr(Path, make)

    def full(path, *arguments, **options):
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        plain(path, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, make, full)
        write_set(tmp_path / "set", "test", 1, 1, 48, scenes["test"], fresh=True)
    assert write_set(tmp_path / "set", "test", 1, 1, 48, scenes["test"], fresh=True).is_file()


@pytest.mark.trust
def test_a_set_that_was_not_finished_is_begun_anew(tmp_path, scenes, monkeypatch):
    whole = write_set(tmp_path / "whole", "test", 3, 1, 48, scenes["test"]).parent

    def stops(*arguments):
        if arguments[2] == 2:
            raise KeyboardInterrupt
        return forge(*arguments)

    monkeypatch.setattr(synth, "forge", stops)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path / "set", "test", 5, 7, 48, scenes["test"])
    assert (tmp_path / "set" / synth.UNFINISHED).exists() and list((tmp_path / "set" / "images").iterdir())
    monkeypatch.undo()
    write_set(tmp_path / "set", "test", 3, 1, 48, scenes["test"])
    files = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (whole, tmp_path / "set")]
    assert files[0] == files[1] and all(
        (whole / f).read_bytes() == (tmp_path / "set" / f).read_bytes() for f in files[0]
    )


@pytest.mark.slow
def test_cost_in_jpeg_round_trips(scenes, record_property):
    """The cost of a forgery is stated as a ratio to one Pillow JPEG round trip of the same image."""
    made = [forge("train", 0, i, scenes["train"], 256) for i in range(8)]
    ours = theirs = 0.0
    for i, f in enumerate(made):  # in turns, in seconds of this process: what else the machine does is not counted
        start = time.process_time()
        forge("train", 0, i, scenes["train"], 256)
        ours, start = ours + time.process_time() - start, time.process_time()
        decode(encode_jpeg(f.image, 90, 2))
        theirs += time.process_time() - start
    ratio = ours / theirs
    record_property("jpeg_round_trips_per_forgery", round(ratio, 1))
    print(f"one 256² forgery costs {ratio:.1f} JPEG round trips")
    assert ratio < 60


@pytest.mark.trust
def test_a_set_killed_while_it_wrote_its_lock_blocks_no_other(tmp_path):
    for name in (".lock", "..lock.json.7dbcbb1e29bb471e96b492e7f9c4b2fd.tmp"):
        (tmp_path / name).touch()
    check_fresh(tmp_path)
    assert not holds_run(tmp_path)
    for name in (".DS_Store", ".directory", "Thumbs.db", "._manifest.csv", "@eaDir"):  # whoever looked into the folder
        (tmp_path / name).touch()
        check_fresh(tmp_path)
        (tmp_path / ".unfinished").touch()
        check_fresh(tmp_path)
        (tmp_path / ".unfinished").unlink()
        (tmp_path / name).unlink()
    (tmp_path / ".photo.png.tmp").touch()
    with pytest.raises(InputError, match="is not empty"):
        check_fresh(tmp_path)
    assert holds_run(tmp_path)


def test_photographs_are_of_one_split_however_a_system_writes_their_names():
    """A Mac takes accents apart, and a copy of a folder must not train on what another copy tests."""
    names = ["\u00e9t\u00e9.jpg", "Z\u00fcrich.jpg", "\uac00.png"]
    for name in names:
        apart = unicodedata.normalize("NFD", name)
        assert apart != name and hash_share(apart) == hash_share(name)
    assert hash_share("a.jpg") == zlib.crc32(b"a.jpg") / 2**32  # as ever, for names without accents
