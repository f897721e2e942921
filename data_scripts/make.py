"""From a set's pairs to its manifest: open and check each file, convert masks, count, record, report.

    DIR/NAME.csv       the manifest, which `mpc-lite check` finds in order
    DIR/NAME.json      where it comes from: owner, terms, mask rule, counts, archives, every bad pair
    DIR/NAME.bad.csv   the bad pairs again, as a table; only where there are any
    DIR/NAME/masks/    masks that the package would read differently from the set's rule, converted (`converted.py`)

Exit codes: 0 all pairs are good, 1 some are bad (the good ones are in the manifest), 2 a mistake, told in one message,
130 interrupted (143 by SIGTERM, 129 by SIGHUP): the same command begins anew.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from archives import Unreadable, unpack
from checked import Checked, SplitList
from common import DataSet, MaskRule, Pair, Tree, text_of
from converted import Converted
from fetch import download, progress
from mpc_lite.cli.terminal import any_letter_prints, at_end, put
from mpc_lite.data.manifest import write_manifest
from mpc_lite.errors import InputError, printable, some
from mpc_lite.files import check_output, place
from mpc_lite.run_folder import HOLDER, LOCK, clear_stale, locked
from mpc_lite.training.signals import Stopped, ending
from record import Parser, check_record, record, replace, report, tell, write_bad, write_json

LINE = 10_000  # letters of a line with an image's name and its mask's
_ENDING = r"\.(?:jpe?g|png|tiff?|bmp)"
# Words of a first line in which no picture is named.
_HEADER = re.compile("image|mask|file|name|path|label", re.IGNORECASE)
_FILE_NAME = re.compile(  # quoted as in CSV, or up to what separates names
    rf'"(?P<quoted>(?:[^"]|"")*?{_ENDING})\s*"|(?!")(?P<plain>[^",;|\t]*?{_ENDING})(?=[\s,;|]|$)'
    # Else what holds no name is passed over at once: to begin anew at each letter takes the square of the length.
    r'|"+[^",;|\t]*(?:"(?=[\s:,;|]|$))?|[^",;|\t]+',
    re.IGNORECASE,
)


def main(*sets: DataSet, argv: list[str] | None = None) -> int:
    """The command line of a set's script; gives the exit code."""
    any_letter_prints()
    parser = Parser(
        description="; ".join(dict.fromkeys(s.title for s in sets)) + f". Terms: {sets[0].terms}.",
        epilog=f"Expected: {sets[0].layout}. Where to get it: {sets[0].page}",
    )
    parser.add_argument("inputs", nargs="*", type=Path, metavar="FOLDER|ARCHIVE", help="what you downloaded")
    parser.add_argument("--out", type=Path, help="folder of the manifests (default: $MPC_LITE_SETS, else ./sets)")
    parser.add_argument("--threshold", type=int, help=f"masks: tampered above it (default {sets[0].mask.threshold})")
    parser.add_argument(
        "--split", action="append", default=[], metavar="NAME=FILE", help="images named in this list get the split NAME"
    )
    if any(s.downloads for s in sets):
        parser.add_argument("--download", action="store_true", help="fetch what the owner offers at a public address")
    options = parser.parse_args(argv)
    out = place(options.out or os.environ.get("MPC_LITE_SETS") or "sets")
    asked: list[int] = []
    try:
        with ending() as asked:
            return at_end(_make(sets, options, out), 2)
    except KeyboardInterrupt:
        progress("")
        put("interrupted", error=True)
        return Stopped("", *asked[:1]).exit_code
    except InputError as mistake:
        problem = str(mistake)
    except OSError as error:  # a full disk, a folder that may not be read or written
        problem = f"{error.filename or out}: {error.strerror or error}; free some space, or choose another folder"
    put(printable(f"error: {problem}"), error=True)
    return 2


def _make(sets: tuple[DataSet, ...], options: argparse.Namespace, out: Path) -> int:
    splits = [_split_list(text) for text in options.split]
    read = [*options.inputs, *(text.partition("=")[2] for text in options.split)]
    for name in (f"{each.name}{end}" for each in sets for end in (".csv", ".json", ".bad.csv")):
        check_output(out / name, read)
    if options.threshold is not None and not 0 <= options.threshold < 255:
        raise InputError(f"--threshold {options.threshold}: expected 0 to 254")
    roots, archives = _inputs(sets, options.inputs, getattr(options, "download", False), out)
    codes, told = [], set()
    for each in sets:
        rule = each.mask
        if options.threshold is not None:
            rule = dataclasses.replace(rule, threshold=options.threshold, chosen=True)
        code = run(each, roots, out, rule, archives, splits, alone=len(sets) == 1, told=told)
        codes += [] if code is None else [code]
    if not codes:
        raise InputError(_advice(sets[0], roots))
    return max(codes)


def _inputs(sets: tuple[DataSet, ...], inputs: list[Path], fetch: bool, out: Path) -> tuple[list[Path], list[dict]]:
    """The folders to look into, archives unpacked; and what is recorded of the archives."""
    wanted = dict.fromkeys(d for s in sets for d in s.downloads) if fetch else ()
    there = {each for each in wanted if (out / "downloads" / each.file).is_file()}
    with _alone(out / "downloads") if len(there) < len(wanted) else contextlib.nullcontext():
        urls = {download(each, out / "downloads"): each.url for each in wanted}
    new = {out / "downloads" / each.file for each in wanted} - {out / "downloads" / each.file for each in there}
    if not inputs and not urls:
        fetchable = " or --download" if any(s.downloads for s in sets) else ""
        raise InputError(f"give the folder or archive of the set{fetchable}; {_where(sets[0])}")
    roots, archives = [], []
    for path in [*map(place, inputs), *urls]:
        if path.is_dir():
            roots.append(path)
        elif path.is_file():
            if path.suffix.lower() in (".xlsx", ".csv", ".txt", ".json"):
                raise InputError(
                    f"{path} is a list or a sheet; put it into a folder of the set, where it is looked for"
                )
            try:
                folder, sha256 = unpack(path)
            except Unreadable as error:
                if path not in new:
                    raise
                for file in (path, path.with_name(f"{path.name}.sha256")):  # else an error page would be the right file
                    file.unlink(missing_ok=True)
                raise InputError(f"{error}. It came from {urls[path]}, and is deleted: run again to fetch it") from None
            roots.append(folder)
            archive = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256}
            archives.append(archive | ({"url": urls[path]} if path in urls else {}))
        else:
            raise InputError(f"{path}: no such folder or archive; {_where(sets[0])}")
    return roots, archives


def _where(dataset: DataSet) -> str:
    return f"expected in it: {dataset.layout}. Where to get it: {dataset.page}"


def _advice(dataset: DataSet, roots: list[Path]) -> str:
    names = sorted(path.name + "/" * path.is_dir() for root in roots for path in root.iterdir())
    listing = some(names, 8) or "nothing"
    folders = ", ".join(map(str, roots))
    return f"{folders}: no image of {dataset.title} was recognised; found: {listing}; {_where(dataset)}"


def _split_list(text: str) -> SplitList:
    """NAME=FILE: a text whose lines begin with an image's name or path, which may be followed by its mask's."""
    name, _, file = text.partition("=")
    if not (name and file):
        raise InputError(f"--split {text}: expected NAME=FILE, a text file that names an image on each line")
    lines = text_of(place(file), f"--split {text}: the list").splitlines()
    if long := [str(number) for number, line in enumerate(lines, start=1) if len(line) > LINE]:
        plural = "s" if len(long) > 1 else ""
        tell(f"note: --split {text}: line{plural} {some(long)}, longer than {LINE} letters, left out")
    named, beside, others = [], [], []
    for number, line in enumerate(lines, start=1):
        names = list(filter(None, map(_name_in, _FILE_NAME.finditer(line)))) if len(line) <= LINE else []
        if len(names) > 3 and len(lines) == 1:
            raise InputError(f"--split {text}: line {number} names several images; write a line for each")
        if names:
            named.append(names[0])
            beside += [(names[0], names[1])] if len(names) > 1 else []
        elif line.strip() and len(line) <= LINE and not (number == 1 and _HEADER.search(line)):
            others.append(line.strip())
    if not named:
        raise InputError(f"--split {text}: no line names an image; expected lines such as 'Tp/a.jpg' or 'a.jpg a.png'")
    if others:
        lines = "1 line names" if len(others) == 1 else f"{len(others)} lines name"
        tell(f"note: --split {text}: {lines} no image with its ending, left out: {some(others, 3)}")
    return SplitList(name, named, beside)


def _name_in(match: re.Match) -> str:
    """The name that was found; "" of a field without one."""
    return (match["plain"] or (match["quoted"] or "").replace('""', '"')).strip().replace("\\", "/")


# ---------------------------------------------------------------------------------------------------------- one set


def run(
    dataset: DataSet,
    roots: Sequence[Path],
    out: Path,
    rule: MaskRule,
    archives: Sequence[dict[str, Any]] = (),
    splits: Sequence[SplitList] = (),
    alone: bool = True,
    told: set[str] | None = None,
) -> int | None:
    """Write the manifest of one set and what belongs to it; the exit code, or None if none of its images is there.

    `alone`: the script has no other set, so that finding nothing is an InputError. `told`: the notes on the folders
    that need not be told again.
    """
    folder = out / dataset.name
    tree = Tree(roots)
    told = set() if told is None else told
    for note in dict.fromkeys(tree.notes):
        if note not in told:
            tell(f"note: {note}")
    told.update(tree.notes)
    pairs = list(dataset.pairs(tree))
    if not any(pair.image for pair in pairs):
        if not alone:
            put(f"{dataset.name}: nothing of it in the folders given, left out")
            return None
        raise InputError(_advice(dataset, tree.roots))
    check_record(out / f"{dataset.name}.json", dataset.name)
    put(f"{dataset.title}\n  owner: {dataset.owner}\n  terms: {dataset.terms}\n  layout: {dataset.evidence}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made ({error.strerror}); choose another folder") from None
    for place_of_ours in (out, folder / "masks"):
        clear_stale(place_of_ours)

    with _alone(folder):
        return _write(dataset, tree, pairs, out, rule, archives, splits)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock of a set's folder: of two runs at once, each would write over the other's masks. Nothing of it stays."""
    above = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not (os.path.isdir(above) and os.access(above, os.W_OK)):  # what cannot be written is told if it is to be
        yield
        return
    with locked(folder, "Ctrl-C where it runs"):
        try:
            yield
        finally:
            for name in (HOLDER, LOCK):
                with contextlib.suppress(OSError):  # Windows deletes no file that is open
                    (folder / name).unlink()
    with contextlib.suppress(OSError):  # masks lie there
        folder.rmdir()


def _write(
    dataset: DataSet,
    tree: Tree,
    pairs: list[Pair],
    out: Path,
    rule: MaskRule,
    archives: Sequence[dict[str, Any]],
    splits: Sequence[SplitList],
) -> int:
    """`run`, in a folder that is locked."""
    folder, manifest = out / dataset.name, out / f"{dataset.name}.csv"
    masks = Converted(folder / "masks", (file for pair in pairs for file in (pair.image, pair.mask)))
    checked = Checked(tree, rule, masks, dataset.source, splits, pairs)
    for number, pair in enumerate(pairs, start=1):
        checked.add(pair)
        if number % 20 == 0:
            progress(f"{dataset.name}: {number} of {len(pairs)}, {len(checked.bad)} bad")
    progress("")
    checked.end()

    facts = record(dataset, rule, checked, pairs, archives)
    earlier = not checked.samples and manifest.is_file()
    bad, files = out / f"{dataset.name}.bad.csv", {}
    if checked.bad:
        files[bad] = lambda path: write_bad(path, checked.bad)
    if not earlier:
        files[out / f"{dataset.name}.json"] = lambda path: write_json(path, facts)
    if checked.samples:
        files[manifest] = lambda path: write_manifest(path, checked.samples)
    replace(files)
    if not checked.bad:  # the table of an earlier run
        bad.unlink(missing_ok=True)
    changed = masks.end() if checked.samples else []
    report(dataset, facts, manifest, tree.unused(pairs))
    if masks.removed:
        tell(f"note: {masks.removed} masks of an earlier run are removed; make anew what from_list.py made of its list")
    if changed:
        tell(
            f"note: {some(changed, 3)} in {masks.folder} changed since this script wrote it, so it stays, and the "
            "manifest does not name it; a corrected mask counts in the place of the set's own"
        )
    if not checked.samples:
        stays = f", and {manifest} of an earlier run stays as it is" if earlier else ""
        tell(f"no manifest: every pair is bad{stays}; {_where(dataset)}")
    return 1 if checked.bad else 0
