"""Archives are unpacked whole, once, beside themselves, or refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
import time
import zipfile

import pytest

import archives
from archives import unpack
from mpc_lite.errors import InputError


def zipped(path, *members):
    """members: (name, data) or a ready ZipInfo with data."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tarred(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tar_link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_names_in_utf_8_that_a_zip_does_not_call_so_are_read(tmp_path):
    """As some programs write them: read as letters of the IBM PC, no list of names answers to them."""
    right = "測試/é1.jpg".encode()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
        info = zipfile.ZipInfo("x" * len(right))
        made.writestr(info, b"one")
    plain = (tmp_path / "b.zip").read_bytes().replace(b"x" * len(right), right)
    (tmp_path / "b.zip").write_bytes(plain)
    folder, _ = unpack(tmp_path / "b.zip")
    assert (folder / "測試" / "é1.jpg").read_bytes() == b"one"


@pytest.mark.parametrize("make", [zipped, tarred])
def test_archives_are_unpacked_beside_themselves_once(make, tmp_path):
    archive = make(tmp_path / "set.archive", ("set/a.txt", b"one"), ("set/below/b.txt", b"two"))
    folder, sha256 = unpack(archive)
    assert folder == tmp_path / "set.archive.unpacked" and sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (folder / "set" / "below" / "b.txt").read_bytes() == b"two"
    (folder / "set" / "a.txt").write_text("still there")
    assert unpack(archive)[0] == folder and (folder / "set" / "a.txt").read_text() == "still there"


def test_a_name_may_be_as_long_as_leaves_room_for_the_folders(tmp_path):
    archive = zipped(tmp_path / f"{'数' * 77}.zip", ("a.txt", b"one"))  # 235 bytes, and ".unpacked" or ".sha256"
    assert (unpack(archive)[0] / "a.txt").read_bytes() == b"one"


@pytest.mark.trust
def test_what_killed_processes_had_unpacked_goes_after_an_hour(tmp_path):
    archive = zipped(tmp_path / "set.zip", ("a.txt", b"one"))
    old, young = (tmp_path / f".unfinished.{digit * 32}.tmp" for digit in "ab")
    for folder in (old, young):
        (folder / "files" / "set").mkdir(parents=True)
        (folder / "files" / "set" / "half.png").touch()
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (time.time() - 3700,) * 2)
    (young / "files" / "set" / "now.png").touch()
    assert (unpack(archive)[0] / "a.txt").read_bytes() == b"one"
    assert not old.exists() and (young / "files" / "set" / "half.png").exists()


def test_an_archive_that_was_replaced_is_an_error(tmp_path):
    archive = zipped(tmp_path / "set.zip", ("a.txt", b"one"))
    unpack(archive)
    zipped(archive, ("a.txt", b"two"))
    with pytest.raises(InputError, match=r"set\.zip\.sha256 says"):
        unpack(archive)
    (tmp_path / "set.zip.sha256").unlink()
    folder, _ = unpack(archive)  # as the message advises; the old files are gone
    assert (folder / "a.txt").read_bytes() == b"two"


@pytest.mark.trust
@pytest.mark.parametrize("record", [None, "mine", "0" * 63])
def test_a_folder_that_was_not_unpacked_here_stays(tmp_path, record):
    archive = zipped(tmp_path / "set.zip", ("a.txt", b"one"))
    folder = tmp_path / "set.zip.unpacked"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    if record is not None:
        (folder / ".sha256").write_text(record)
    with pytest.raises(InputError, match=r"was not made by it .* give this folder instead of the archive, or rename"):
        unpack(archive)
    assert (folder / "mine.txt").read_text() == "mine" and not (tmp_path / "set.zip.sha256").exists()


@pytest.mark.trust
def test_files_that_are_gone_from_the_folder_are_told(tmp_path, capsys):
    archive = zipped(tmp_path / "set.zip", ("set/a.txt", b"one"), ("set/b.txt", b"two"))
    folder, sha256 = unpack(archive)
    unpack(archive)
    assert capsys.readouterr().out == ""
    (folder / "set" / "a.txt").unlink()
    assert unpack(archive) == (folder, sha256)
    assert capsys.readouterr().out == (f"note: 1 files are gone from {folder}; remove it to unpack set.zip anew\n")
    (folder / ".sha256").write_text(sha256)  # as it was written once
    assert unpack(archive) == (folder, sha256) and capsys.readouterr().out == ""


@pytest.mark.trust
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path, mode):
    inner = zipped(tmp_path / "inner.zip", ("in.txt", b"in")).read_bytes()
    folder, _ = unpack(tarred(tmp_path / "set.tar", ("a.txt", b"a"), ("inner.zip", inner), mode=mode))
    assert sorted(path.name for path in folder.iterdir()) == [".sha256", "a.txt", "inner.zip"]
    assert (folder / "inner.zip").read_bytes() == inner
    tar = tarred(tmp_path / "inner.tar", ("in.txt", b"in"), mode="w").read_bytes()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("inner.tar", tar)
    assert (unpack(tmp_path / "set.zip")[0] / "inner.tar").read_bytes() == tar


@pytest.mark.trust
@pytest.mark.parametrize("before", [b"#!/bin/sh\nexit\n", bytes(2048)])
def test_a_zip_behind_a_program_that_unpacks_it_is_a_zip(tmp_path, before):
    archive = zipped(tmp_path / "set.zip", ("a.txt", b"one"))
    archive.write_bytes(before + archive.read_bytes())
    assert (unpack(archive)[0] / "a.txt").read_bytes() == b"one"


def test_a_colon_in_a_name_is_no_drive(tmp_path):
    names = ("IMG 10:30.png", "12:30/a:b.txt", "ab:c.txt")
    for make in (zipped, tarred):
        folder, _ = unpack(make(tmp_path / f"{make.__name__}.archive", *((name, b"a") for name in names)))
        assert all((folder / name).is_file() for name in names)


@pytest.mark.parametrize(
    "name",
    ["c:evil.txt", "./C:/evil.txt", "../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"],
)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_out_are_refused(make, name, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = make(inner / "set.archive", ("good.txt", b"good"), (name, b"evil"))
    with pytest.raises(InputError, match="leads out"):
        unpack(archive)
    assert not list(tmp_path.rglob("evil*")) and not (inner / "set.archive.unpacked").exists()
    assert not [path for path in inner.iterdir() if path.is_dir()]  # nothing half unpacked stays


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc", "../..", "good.txt"])
def test_links_in_tars_are_refused(kind, target, tmp_path):
    archive = tarred(tmp_path / "set.tar", ("good.txt", b"good"), (tar_link("link", target, kind), b""), mode="w")
    with pytest.raises(InputError, match="link, a link or device, which is never unpacked"):
        unpack(archive)


def test_writing_through_a_link_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tar_link("way", str(outside), tarfile.SYMTYPE)
    archive = tarred(tmp_path / "set.tar", (link, b""), ("way/evil.txt", b"evil"), mode="w")
    with pytest.raises(InputError):
        unpack(archive)
    assert list(outside.iterdir()) == []


def test_links_and_devices_in_zips_and_tars_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(InputError, match="link, a link"):
        unpack(zipped(tmp_path / "set.zip", (info, b"/etc/passwd")))
    with pytest.raises(InputError, match="never unpacked"):
        unpack(tarred(tmp_path / "set.tar", (tar_link("null", "", tarfile.CHRTYPE), b"")))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_bombs_are_refused_before_they_fill_the_disk(make, tmp_path, monkeypatch):
    archive = make(tmp_path / "bomb.archive", *((f"{n}.bin", bytes(1 << 20)) for n in range(4)))
    monkeypatch.setattr(archives, "BIG", 2 << 20)
    with pytest.raises(InputError, match="are not photographs"):
        unpack(archive)
    monkeypatch.setattr(archives, "BIG", 1 << 30)  # small ones may be of any ratio: masks compress well
    assert len(list(unpack(archive)[0].glob("*.bin"))) == 4


def test_an_archive_larger_than_the_free_space_is_refused(tmp_path, monkeypatch):
    free = archives.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match="0 MB are free"):
        unpack(zipped(tmp_path / "set.zip", ("a", b"x" * 11)))


@pytest.mark.parametrize(
    "start, words",
    [(b"Rar!\x1a\x07\x00", "7z x set.bin"), (b"7z\xbc\xaf\x27\x1c", "by hand"), (b"hello", "neither a folder")],
)
def test_other_formats_are_to_be_unpacked_by_hand(start, words, tmp_path):
    (tmp_path / "set.bin").write_bytes(start + bytes(100))
    with pytest.raises(InputError, match=words):
        unpack(tmp_path / "set.bin")


def test_damaged_archives_are_told(tmp_path):
    archive = zipped(tmp_path / "set.zip", ("a.txt", bytes(range(256)) * 50))
    data = bytearray(archive.read_bytes())
    data[60] ^= 255
    archive.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        unpack(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]  # nor is it recorded as the right one
    tar = tarred(tmp_path / "set.tar.gz", ("a.txt", bytes(range(256)) * 5000))
    tar.write_bytes(tar.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged"):
        unpack(tar)


# ----------------------------------------------------------------------------------------------------- the end of a tar

COMPRESSED = [bytes, gzip.compress, bz2.compress, lzma.compress]
IDS = ["tar", "gz", "bz2", "xz"]


def members(folder):
    """The bytes of three members in a tar, and where each begins and the zeros behind them."""
    path = tarred(folder / "m.tar", *((f"{n}.txt", bytes([65 + n]) * 700) for n in range(3)), mode="w")
    with tarfile.open(path) as archive:
        begins = [info.offset for info in archive]
    data = path.read_bytes()
    path.unlink()
    return data[: begins[-1] + 1536], [*begins, begins[-1] + 1536]


def unpacked(folder, data):
    (folder / "set.archive").write_bytes(data)
    return sorted(path.name for path in unpack(folder / "set.archive")[0].glob("*.txt"))


def refused(folder, data, words):
    with pytest.raises(InputError, match=rf"set\.archive: {words}"):
        unpacked(folder, data)
    assert [path.name for path in folder.iterdir()] == ["set.archive"]  # nor is its sha256 recorded


@pytest.mark.trust
@pytest.mark.parametrize("compress", COMPRESSED, ids=IDS)
@pytest.mark.parametrize("zeros", [100, 512, 1024, 1500, 10240, 3_000_000])
def test_zeros_of_any_number_end_a_tar(compress, zeros, tmp_path):
    assert unpacked(tmp_path, compress(members(tmp_path)[0] + bytes(zeros))) == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.trust
@pytest.mark.parametrize("compress", COMPRESSED, ids=IDS)
@pytest.mark.parametrize("damage", [3, 124, 150])
@pytest.mark.parametrize("member", [1, 2])
def test_a_damaged_header_is_not_the_end(compress, damage, member, tmp_path):
    data, begins = members(tmp_path)
    data = bytearray(data + bytes(1024))
    data[begins[member] + damage] ^= 1
    refused(tmp_path, compress(data), rf"damaged or locked archive \(bad checksum at byte {begins[member]}\)")


@pytest.mark.trust
def test_a_damaged_long_header_is_not_the_end(tmp_path):
    info = tarfile.TarInfo("2.txt")
    header = info.create_pax_header({**info.get_info(), "name": "ä"}, "utf-8")
    assert header.count(b"path=") == 1
    begin = header.index(b" path=")
    header = header[: begin - 2] + b"0" * 2 + header[begin:]  # a record of no length
    refused(tmp_path, members(tmp_path)[0] + header + bytes(1024), r"damaged or locked archive \(invalid header")


@pytest.mark.trust
@pytest.mark.parametrize("compress", COMPRESSED, ids=IDS)
@pytest.mark.parametrize("more", [-1, 1, 200, 511, 512, 600])
def test_a_tar_cut_in_a_member_is_refused(compress, more, tmp_path):
    data, begins = members(tmp_path)
    refused(tmp_path, compress(data[: begins[2] + more]), "damaged or locked archive")


@pytest.mark.trust
def test_a_tar_without_zeros_is_taken_where_a_checksum_says_that_it_is_whole(tmp_path):
    data, begins = members(tmp_path)
    for cut in begins[1:]:
        words = f"ends at byte {cut} without the zeros that close a tar archive: it may be cut off; fetch it anew"
        for compress in (bytes, bz2.compress, lzma.compress):
            refused(tmp_path, compress(data[:cut]), words)
    for number, cut in enumerate(begins[1:], start=1):
        (tmp_path / str(number)).mkdir()
        assert len(unpacked(tmp_path / str(number), gzip.compress(data[:cut]))) == number


@pytest.mark.trust
@pytest.mark.parametrize("compress", COMPRESSED, ids=IDS)
def test_what_follows_the_end_is_not_left_out_in_silence(compress, tmp_path):
    data, begins = members(tmp_path)
    hole = data[: begins[1]] + bytes(1536) + data[begins[2] :] + bytes(1024)
    for archive, end in ((data + bytes(1024) + data, begins[3]), (hole, begins[1])):
        refused(tmp_path, compress(archive), f"goes on behind its end, the zeros at byte {end}: a damaged place, or")


@pytest.mark.trust
@pytest.mark.parametrize("compress", COMPRESSED[1:], ids=IDS[1:])
def test_a_compressed_stream_is_read_to_its_end(compress, tmp_path):
    """Here its first bytes hold all members: the zeros behind them are more than is read at once."""
    packed = compress(members(tmp_path)[0] + bytes(3_000_000))
    refused(tmp_path, packed[:-1], "damaged or locked archive")
    changed = bytearray(packed)
    changed[-5] ^= 1  # of the length (gz) or checksum
    refused(tmp_path, changed, "damaged or locked archive")


@pytest.mark.trust
def test_a_tar_gz_with_a_wrong_checksum_is_refused(tmp_path):
    packed = bytearray(gzip.compress(members(tmp_path)[0] + bytes(1024)))
    packed[-8] ^= 1
    refused(tmp_path, packed, r"damaged or locked archive \(CRC check failed")


@pytest.mark.parametrize("compress", COMPRESSED[1:], ids=IDS[1:])
@pytest.mark.parametrize("cut", [300, 1536, 5000])
def test_joined_streams_are_one_archive(compress, cut, tmp_path):
    data = members(tmp_path)[0] + bytes(1024)
    packed = compress(data[:cut]) + compress(data[cut:])
    assert unpacked(tmp_path, packed + bytes(512) * (compress is gzip.compress)) == ["0.txt", "1.txt", "2.txt"]


def test_zeros_without_measure_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BIG", 2 << 20)
    refused(tmp_path, bz2.compress(members(tmp_path)[0] + bytes(5 << 20)), "unfolds to more than 3 MB of zeros behind")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_empty_members_and_folders_may_be_last(form, tmp_path):
    with tarfile.open(tmp_path / "set.archive", "w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
        info = tarfile.TarInfo("ä" * 40)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    assert unpacked(tmp_path, (tmp_path / "set.archive").read_bytes()) == ["a.txt"]


def test_a_part_of_an_archive_and_zstd_are_told_by_name(tmp_path):
    data = bytearray(zipped(tmp_path / "set.010", ("a.txt", b"one")).read_bytes())
    (tmp_path / "set.z01").write_bytes(b"PK\x07\x08 the first part")
    assert (unpack(tmp_path / "set.010")[0] / "a.txt").read_bytes() == b"one"  # a whole one may be called anything
    data[data.rindex(b"PK\x05\x06") + 4] = 2
    (tmp_path / "set.zip").write_bytes(data)
    (tmp_path / "b.zip.001").write_bytes(b"PK\x03\x04 the first part")
    for name in ("set.zip", "set.z01", "b.zip.001"):
        with pytest.raises(InputError, match=rf"{name}: is one part of several; unpack them together by hand"):
            unpack(tmp_path / name)
    (tmp_path / "c.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    with pytest.raises(InputError, match=r"zstd is not unpacked here"):
        unpack(tmp_path / "c.tar.zst")


def test_an_archive_that_is_locked_by_a_password_is_told_so(tmp_path):
    data = bytearray(zipped(tmp_path / "a.zip", ("a.txt", b"one")).read_bytes())
    for place in (6, data.index(b"PK\x01\x02") + 8):  # flags, before the file and in the list at the end
        data[place] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip: is locked by a password; unpack it by hand, and give the folder"):
        unpack(tmp_path / "a.zip")
