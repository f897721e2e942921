"""Downloads that go on where they stopped, checksums recorded and compared."""

import dataclasses
import errno
import hashlib
import http.server
import os
import threading
import zipfile
from pathlib import Path

import pytest

from common import Download
from fetch import download, verified
from make import main
from mpc_lite.errors import InputError

BODY = bytes(range(256)) * 2048  # 512 KB


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `body` with ranges and the `version` headers; answers with at most `limit` bytes and then hangs up.

    careless: ranges are served of whatever file is there, and If-Range is not looked at. shift: of a range's begin.
    """

    body, limit, ranges, careless, shift = BODY, None, True, False, 0
    version = {"ETag": '"one"'}  # noqa: RUF012
    asked: list = []  # noqa: RUF012 (the test's own)

    def do_GET(self):
        cls = type(self)
        wanted = self.headers.get("Range")
        cls.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and cls.ranges else 0
        if not cls.careless and self.headers.get("If-Range") not in (None, *cls.version.values()):
            start = 0
        start += cls.shift if start else 0
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
        for name, text in cls.version.items():
            self.send_header(name, text)
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


@pytest.mark.trust
def test_a_page_that_a_server_sends_in_place_of_an_archive_does_not_stay(load, server, tmp_path, capsys):
    """It was recorded as the right file: the same command never fetched the archive, and by hand it was 'damaged'."""
    dataset = dataclasses.replace(load("casia1").CASIA1, downloads=(Download(server.url, "set.zip"),))
    server.body, call = b"<!DOCTYPE html><html>come back later</html>", ["--download", "--out", str(tmp_path)]
    for _ in range(2):
        assert main(dataset, argv=call) == 2
        assert f"It came from {server.url}, and is deleted: run again to fetch it" in capsys.readouterr().err
        assert not list((tmp_path / "downloads").iterdir())
    (tmp_path / "downloads" / "set.zip").write_bytes(server.body)  # put there by hand: it stays
    assert main(dataset, argv=call) == 2 and "is deleted" not in capsys.readouterr().err
    assert (tmp_path / "downloads" / "set.zip").exists()


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
    server.limit, server.body, server.version = None, BODY[::-1], {"ETag": '"two"'}
    assert download(what, tmp_path).read_bytes() == BODY[::-1]


MONDAY, TUESDAY = (f"{day} Jan 2024 00:00:00 GMT" for day in ("Mon, 01", "Tue, 02"))


@pytest.mark.trust
@pytest.mark.parametrize("careless", [False, True])
@pytest.mark.parametrize(
    "first, second",
    [
        ({"ETag": '"one"'}, {"ETag": '"two"'}),
        ({"Last-Modified": MONDAY}, {"Last-Modified": TUESDAY}),
        ({"ETag": 'W/"one"', "Last-Modified": MONDAY}, {"ETag": 'W/"two"', "Last-Modified": TUESDAY}),
        ({"ETag": 'W/"one"'}, {"ETag": 'W/"one"'}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize("longer", [b"", b"more"])
def test_halves_of_two_files_are_never_joined(server, tmp_path, first, second, careless, longer):
    what, server.limit, server.version, server.careless = Download(server.url, "set.zip"), 200_000, first, careless
    with pytest.raises(InputError, match="connection broke after 200000"):
        download(what, tmp_path)
    server.limit, server.body, server.version = None, BODY[::-1] + longer, second
    if careless and server.version.get("ETag") != 'W/"one"' and second:
        with pytest.raises(InputError, match=r"another now, set\.zip\.part was discarded; run the same command again"):
            download(what, tmp_path)
    assert download(what, tmp_path).read_bytes() == server.body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.zip", "set.zip.sha256"]


@pytest.mark.trust
@pytest.mark.parametrize("changes", [{"body": BODY + b"more"}, {"shift": 5}, {"shift": -5}])
def test_a_rest_of_another_length_or_place_is_not_taken(server, tmp_path, changes):
    what, server.limit, server.careless = Download(server.url, "set.zip"), 200_000, True
    with pytest.raises(InputError, match="connection broke"):
        download(what, tmp_path)
    server.limit = None
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(InputError, match="discarded"):
        download(what, tmp_path)
    assert download(what, tmp_path).read_bytes() == server.body


@pytest.mark.parametrize("version", [{"Last-Modified": MONDAY}, {"ETag": 'W/"one"', "Last-Modified": MONDAY}])
def test_the_time_of_the_last_change_is_enough_to_go_on(server, tmp_path, version):
    what, server.limit, server.version = Download(server.url, "set.zip"), 200_000, version
    with pytest.raises(InputError, match="connection broke"):
        download(what, tmp_path)
    server.limit = None
    assert download(what, tmp_path).read_bytes() == BODY and server.asked == [None, "bytes=200000-"]


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(b"x" * 100)
    server.ranges = False
    assert download(Download(server.url, "set.zip"), tmp_path).read_bytes() == BODY


def test_a_part_that_was_complete_is_kept_and_a_longer_one_is_not(server, tmp_path):
    part = tmp_path / "set.zip.part"
    part.write_bytes(BODY + b"more")
    part.with_name("set.zip.part.etag").write_text('"one"')  # as it was written once, without the length
    with pytest.raises(InputError, match="discarded"):
        download(Download(server.url, "set.zip"), tmp_path)
    assert not part.exists()
    part.write_bytes(BODY)
    assert download(Download(server.url, "set.zip"), tmp_path).read_bytes() == BODY
    assert server.asked == [f"bytes={len(BODY) + 4}-", f"bytes={len(BODY)}-"]


def test_an_empty_record_of_a_full_disk_is_none(tmp_path, monkeypatch):
    archive, digest = tmp_path / "a.zip", hashlib.sha256(b"1").hexdigest()
    archive.write_bytes(b"1")

    def full(*_):
        (tmp_path / "a.zip.sha256").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert verified(archive) == digest
    assert not (tmp_path / "a.zip.sha256").exists()
    (tmp_path / "a.zip.sha256").touch()  # of an earlier version
    assert verified(archive) == digest
    assert (tmp_path / "a.zip.sha256").read_text() == f"{digest}  a.zip\n"


def test_a_name_that_is_not_utf8_is_recorded(tmp_path):
    archive = tmp_path / os.fsdecode(b"\xca\xfd.zip")
    archive.write_bytes(b"1")
    assert verified(archive) == verified(archive)
    recorded = Path(f"{archive}.sha256").read_bytes()
    assert recorded == hashlib.sha256(b"1").hexdigest().encode() + b"  \xca\xfd.zip\n"


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


def test_a_record_without_a_digest_confirms_nothing(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"1")
    (tmp_path / "a.zip.sha256").write_text("ab12  a.zip")
    with pytest.raises(InputError, match="changed or is damaged"):
        verified(tmp_path / "a.zip")


def test_a_missing_record_is_written_and_then_compared(tmp_path):
    (tmp_path / "f").write_bytes(b"1")
    assert verified(tmp_path / "f") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "f").write_bytes(b"2")
    with pytest.raises(InputError, match="says"):
        verified(tmp_path / "f")
