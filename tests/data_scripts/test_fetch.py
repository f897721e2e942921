"""Downloads that go on where they stopped, checksums recorded and compared, archives unpacked without trusting them."""

import dataclasses
import hashlib
import http.server
import io
import stat
import tarfile
import threading
import zipfile

import pytest

import fetch
from common import Download
from fetch import download, unpack, verified
from mpc_lite.errors import InputError

BODY = bytes(range(256)) * 2048  # 512 KB


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `body` with ranges and an ETag; answers with at most `limit` bytes and then hangs up."""

    body, limit, etag, ranges = BODY, None, '"one"', True
    asked: list = []  # noqa: RUF012 (the test's own)

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and cls.ranges else 0
        if self.headers.get("If-Range", cls.etag) != cls.etag:
            start = 0
        if self.path != "/set.zip":
            return self.send_error(404)
        if start and start >= len(cls.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(cls.body)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(cls.body) - 1}/{len(cls.body)}")
        self.send_header("Content-Length", str(len(cls.body) - start))
        self.send_header("ETag", cls.etag)
        self.end_headers()
        part = cls.body[start:]
        self.wfile.write(part if cls.limit is None else part[: cls.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        handler.url = f"http://127.0.0.1:{running.server_port}/set.zip"
        yield handler
        running.shutdown()


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    what, server.limit = Download(server.url, "set.zip"), 200_000
    with pytest.raises(InputError, match="run the same command again"):
        download(what, tmp_path)
    assert not (tmp_path / "set.zip").exists() and (tmp_path / "set.zip.part").stat().st_size == 200_000
    server.limit = None
    assert download(what, tmp_path).read_bytes() == BODY
    assert server.asked == [None, "bytes=200000-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip", "set.zip.sha256"]
    expected = hashlib.sha256(BODY).hexdigest()
    assert (tmp_path / "set.zip.sha256").read_text() == f"{expected}  set.zip\n"
    download(what, tmp_path)
    assert len(server.asked) == 2  # it is there


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server, tmp_path):
    what, server.limit = Download(server.url, "set.zip"), 200_000
    with pytest.raises(InputError):
        download(what, tmp_path)
    server.limit, server.body, server.etag = None, BODY[::-1], '"two"'
    assert download(what, tmp_path).read_bytes() == BODY[::-1]


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(b"x" * 100)
    server.ranges = False
    assert download(Download(server.url, "set.zip"), tmp_path).read_bytes() == BODY


def test_a_part_that_was_complete_is_kept_and_a_longer_one_is_not(server, tmp_path):
    part = tmp_path / "set.zip.part"
    part.write_bytes(BODY + b"more")
    with pytest.raises(InputError, match="discarded"):
        download(Download(server.url, "set.zip"), tmp_path)
    assert not part.exists()
    part.write_bytes(BODY)
    assert download(Download(server.url, "set.zip"), tmp_path).read_bytes() == BODY


def test_another_sha256_is_an_error_the_first_time_and_later(server, tmp_path):
    with pytest.raises(InputError, match="the set's script says 00"):
        download(Download(server.url, "set.zip", sha256="00" * 32), tmp_path)
    assert not (tmp_path / "set.zip").exists()
    target = download(Download(server.url, "set.zip"), tmp_path)
    target.write_bytes(BODY[:-1] + b"?")
    with pytest.raises(InputError, match=r"set\.zip\.sha256 says .* changed or is damaged"):
        download(Download(server.url, "set.zip"), tmp_path)


def test_errors_of_the_server_are_told(server, tmp_path):
    with pytest.raises(InputError, match="404"):
        download(Download(server.url.replace("set", "other"), "set.zip"), tmp_path)
    with pytest.raises(InputError, match="again"):
        download(Download("http://127.0.0.1:1/set.zip", "set.zip"), tmp_path)


def test_a_set_is_fetched_unpacked_and_recorded(server, run, tmp_path, photo, mask_file, load):
    dso = load("dso1").DSO1
    photo(tmp_path / "in" / "splicing-01.png")
    mask_file(tmp_path / "in" / "m.png", inside=0, outside=255)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "in" / "splicing-01.png", "DSO-1/splicing-01.png")
        archive.write(tmp_path / "in" / "m.png", "DSO-1-Fake-Images-Masks/splicing-01.png")
    server.body = (tmp_path / "x.zip").read_bytes()
    offered = dataclasses.replace(dso, downloads=(Download(server.url, "set.zip"),))
    done = run(offered, "--download")
    assert done.code == 0 and len(done.rows) == 1
    assert done.record["archives"] == [
        {
            "file": "set.zip",
            "bytes": len(server.body),
            "sha256": hashlib.sha256(server.body).hexdigest(),
            "url": server.url,
        }
    ]
    with pytest.raises(SystemExit):  # the owner of this one offers nothing
        run(dso, "--download")


# ---------------------------------------------------------------------------------------------------------- unpacking


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


@pytest.mark.parametrize("make", [zipped, tarred])
def test_archives_are_unpacked_beside_themselves_once(make, tmp_path):
    archive = make(tmp_path / "set.archive", ("set/a.txt", b"one"), ("set/below/b.txt", b"two"))
    folder, sha256 = unpack(archive)
    assert folder == tmp_path / "set.archive.unpacked" and sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (folder / "set" / "below" / "b.txt").read_bytes() == b"two"
    (folder / "set" / "a.txt").write_text("still there")
    assert unpack(archive)[0] == folder and (folder / "set" / "a.txt").read_text() == "still there"


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


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
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
    monkeypatch.setattr(fetch, "BIG", 2 << 20)
    with pytest.raises(InputError, match="are not photographs"):
        unpack(archive)
    monkeypatch.setattr(fetch, "BIG", 1 << 30)  # small ones may be of any ratio: masks compress well
    assert len(list(unpack(archive)[0].glob("*.bin"))) == 4


def test_an_archive_larger_than_the_free_space_is_refused(tmp_path, monkeypatch):
    free = fetch.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: free)
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


@pytest.mark.parametrize(
    "form", ["{}  a.zip\n", "{} *a.zip\n", "{}", "SHA256 (a.zip) = {}\n", "SHA256  {}  C:\\a.zip\r\n"]
)
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_record_of_another_program_is_understood(tmp_path, form, case):
    archive, digest = tmp_path / "a.zip", hashlib.sha256(b"1").hexdigest()
    archive.with_name("a.zip.sha256").write_text(form.format(case(digest)))
    archive.write_bytes(b"1")
    assert verified(archive) == digest
    archive.write_bytes(b"2")
    with pytest.raises(InputError, match=f"a.zip.sha256 says {digest}"):
        verified(archive)


@pytest.mark.parametrize("text", ["", "ab12  a.zip"])
def test_a_record_without_a_digest_confirms_nothing(tmp_path, text):
    (tmp_path / "a.zip").write_bytes(b"1")
    (tmp_path / "a.zip.sha256").write_text(text)
    with pytest.raises(InputError, match="changed or is damaged"):
        verified(tmp_path / "a.zip")


def test_a_missing_record_is_written_and_then_compared(tmp_path):
    (tmp_path / "f").write_bytes(b"1")
    assert verified(tmp_path / "f") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "f").write_bytes(b"2")
    with pytest.raises(InputError, match="says"):
        verified(tmp_path / "f")
