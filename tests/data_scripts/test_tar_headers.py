"""Headers of a tar that take more memory than the members they belong to. Nothing here needs more than 2 MB."""

import gzip
import io
import shutil
import subprocess
import tarfile

import pytest

from archives import unpack
from mpc_lite.errors import InputError

pytestmark = pytest.mark.trust


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.USTAR_FORMAT)


def version(program: str) -> str:
    found = shutil.which(program)
    return subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60).stdout if found else ""


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_header_is_refused_before_it_is_read(kind, first, compress, tmp_path, monkeypatch):
    """What a header of hundreds of megabytes would need is never asked for: 70 KB are over the limit already."""
    good = b"" if first else header("a.txt", 1, tarfile.REGTYPE) + b"a".ljust(512, b"\0")
    archive = tmp_path / "set.tar"
    archive.write_bytes(compress(good + header("././@LongLink", 70_000, kind) + bytes(512)))
    with pytest.raises(InputError, match=r"set\.tar: holds a header of 68 KB"):
        unpack(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar"]


def sparse(kind: str) -> bytes:
    """A member whose map of holes goes on for 1.2 MB: in headers that continue it, or before the data."""
    if kind == "1.0":
        info = tarfile.TarInfo("a.txt")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
        data = (b"200000\n" + b"001\n" * 400_000).ljust(1_600_512, b"\0")
        info.size = len(data)
        return info.tobuf(tarfile.PAX_FORMAT) + data
    block = bytearray(header("a.txt", 0, tarfile.GNUTYPE_SPARSE))
    block[257:265], block[482], block[483:494] = b"ustar  \0", 1, b"0" * 11
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = (b"%011o " % 1 * 42).ljust(512, b"\1")
    return bytes(block) + more * 2400 + bytes(512)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("kind", ["old", "1.0"])
def test_a_map_of_holes_without_end_is_refused(kind, compress, tmp_path):
    archive = tmp_path / "set.tar"
    for before in (b"", header("b.txt", 0, tarfile.REGTYPE)):
        archive.write_bytes(compress(before + sparse(kind) + bytes(1024)))
        with pytest.raises(InputError, match=r"set\.tar: holds a sparse file whose map of holes is longer than 1024"):
            unpack(archive)
        assert [path.name for path in tmp_path.iterdir()] == ["set.tar"]


@pytest.mark.skipif("GNU tar" not in version("tar"), reason="other programs write other maps")
@pytest.mark.parametrize("form", ["gnu", "posix0.0", "posix0.1", "posix1.0"])
def test_files_with_holes_are_unpacked(form, tmp_path):
    with open(tmp_path / "a.bin", "wb") as file:
        for place in range(0, 100 << 16, 1 << 16):
            file.seek(place)
            file.write(b"a")
        file.truncate(101 << 16)
    kind = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form[5:]}"]
    tar = ["tar", "--sparse", *kind, "-C", str(tmp_path), "-cf", str(tmp_path / "set.tar"), "a.bin"]
    subprocess.run(tar, check=True, timeout=60)
    assert (tmp_path / "set.tar").stat().st_size < 1 << 20
    assert (unpack(tmp_path / "set.tar")[0] / "a.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_headers_for_all_members_have_a_limit_together(tmp_path):
    many = [tarfile.TarInfo.create_pax_global_header({f"k{n}": "x" * 10_000}) for n in range(7)]
    for number in (6, 7):
        data = b"".join(each + header(f"{n}.txt", 0, tarfile.REGTYPE) for n, each in enumerate(many[:number]))
        (tmp_path / f"{number}.tar").write_bytes(data + bytes(1024))
    assert len(list(unpack(tmp_path / "6.tar")[0].glob("*.txt"))) == 6
    with pytest.raises(InputError, match=r"7\.tar: holds headers of 68 KB for all its members, expected up to 64 KB"):
        unpack(tmp_path / "7.tar")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_as_long_as_systems_allow_are_unpacked(form, tmp_path):
    name = "/".join(["n" * 200] * 4) + "/ä.txt"
    with tarfile.open(tmp_path / "set.tar", "w", format=form) as archive:
        for each in (name, "b.txt"):
            info = tarfile.TarInfo(each)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"a"))
    folder, _ = unpack(tmp_path / "set.tar")
    assert (folder / name).read_bytes() == b"a" and (folder / "b.txt").is_file()


def test_headers_count_towards_what_an_archive_unfolds_to(tmp_path, monkeypatch):
    """Members without a byte, each with a header of 60 KB: minutes of reading from a small file."""
    monkeypatch.setattr("archives.BIG", 1 << 20)
    archive = tmp_path / "set.tar.gz"
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(30):
            info = tarfile.TarInfo(f"{number}.txt")
            info.pax_headers = {"comment": "a" * 60_000}
            tar.addfile(info)
    assert 100 * archive.stat().st_size < 1_800_000
    with pytest.raises(InputError, match="unfold to more than 1 MB are not photographs"):
        unpack(archive)
    monkeypatch.setattr("archives.BIG", 1 << 22)
    folder, _ = unpack(archive)
    assert len(list(folder.glob("*.txt"))) == 30
