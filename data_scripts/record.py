"""What is told of a set: the provenance file, the counts on the screen, the table of bad pairs."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import statistics
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from checked import Checked
from common import DataSet, MaskRule, Pair
from mpc_lite.cli.terminal import put
from mpc_lite.errors import InputError, printable, printable_lines, some
from mpc_lite.files import write_atomic

SHOWN = 20  # bad pairs on the screen; the files list them all


class Parser(argparse.ArgumentParser):
    """Its messages repeat what it was given, and with `*` those are the names of other people's files."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_lines(message))


def tell(text: str) -> None:
    """Print a line whose names are other people's."""
    put(printable(text))


def _kinds(pair: Pair) -> list[str]:
    return [*(["tampered"] if pair.label else ["authentic"]), *([pair.source] if pair.source else [])]


def record(
    dataset: DataSet, rule: MaskRule, checked: Checked, pairs: Sequence[Pair], archives: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The provenance: without a date and without a path of the machine, so that equal input gives an equal file."""
    counts = Counter(kind for pair in pairs if pair.image for kind in _kinds(pair))
    good = Counter(kind for pair in checked.good for kind in _kinds(pair))
    paper = {"tampered": dataset.paper} if dataset.paper is not None else {}
    kinds = dict.fromkeys([*dataset.counts, *counts])
    return {
        "schema": 1,
        "set": dataset.name,
        "source": dataset.source,
        "title": dataset.title,
        "owner": dataset.owner,
        "page": dataset.page,
        "terms": dataset.terms,
        "evidence": dataset.evidence,
        "seen": dataset.seen,
        "remark": dataset.remark,
        "mask_rule": dataclasses.asdict(rule),
        "masks": {
            "as_given": checked.as_given,
            "converted": checked.converted,
            "median_tampered_share": round(statistics.median(checked.shares), 4) if checked.shares else None,
        },
        "counts": {
            kind: {
                "found": counts[kind],
                "good": good[kind],
                "expected": {str(n): who for n, who in dataset.counts.get(kind, {}).items()},
                "paper": paper.get(kind),
            }
            for kind in kinds
        },
        "splits": dict(sorted(Counter(s.split for s in checked.samples if s.split).items())),
        "archives": list(archives),
        "notes": checked.notes,
        "bad": checked.bad,
    }


def check_record(path: Path, name: str) -> None:
    """InputError for a file that is there and is no record of this set, as scores may be that were given its name; and
    for a manifest without the record that this script puts beside its own."""
    if not path.is_file() or not path.stat().st_size:
        manifest = path.with_suffix(".csv")
        if manifest.is_file() and manifest.stat().st_size:
            raise InputError(
                f"{manifest} is there, without the record {path.name} that this script writes beside its manifest, and "
                "would be lost; give it another name, or choose another --out"
            )
        return
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        if json.loads(path.read_bytes()).get("set") == name:
            return
    raise InputError(f"{path} is there and is no record of {name}; give it another name, or choose another --out")


def report(dataset: DataSet, facts: dict[str, Any], manifest: Path, unused: Sequence[str]) -> None:
    """Print the counts (found, expected, the paper's: a line each), the splits, the bad pairs and what was written;
    and what pictures are `unused` where the counts are not those expected or pairs are bad."""
    whole = not facts["bad"]
    for kind, count in facts["counts"].items():
        expected = " or ".join(f"{n} ({who})" for n, who in count["expected"].items()) or "not known"
        paper = f"; paper's test set: {count['paper']}" if count["paper"] else ""
        differs = "" if not count["expected"] or str(count["found"]) in count["expected"] else " (DIFFERS)"
        whole = whole and not differs
        tell(f"{kind}: found {count['found']}{differs}, good {count['good']}; expected {expected}{paper}")
    for name, number in facts["splits"].items():
        tell(f"split {name}: {number}")
    share = facts["masks"]["median_tampered_share"]
    if share is not None and share > 0.5:
        tell(f"WARNING: half of the masks mark more than {share:.0%} as tampered: are they the other way round?")
    if dataset.remark:
        tell(f"note: {dataset.remark}")
    if unused and not whole:
        tell(f"note: pictures that the set's layout does not name, and that are not used: {some(unused, 6)}")
    bad = facts["bad"]
    for each in bad[:SHOWN]:
        tell(f"bad: {each['image'] or '-'} | {each['mask'] or '-'} | {each['problem']}")
    if len(bad) > SHOWN:
        tell(f"bad: {len(bad) - SHOWN} more")
    if bad:
        tell(f"{len(bad)} bad pairs are left out; all are listed in {manifest.with_suffix('.bad.csv')}")
    good = sum(facts["counts"].get(kind, {}).get("good", 0) for kind in ("tampered", "authentic"))
    if good:
        tell(f"wrote {manifest}: {good} images")


def write_bad(path: Path, bad: list[dict[str, str]]) -> None:
    """The bad pairs as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("image", "mask", "problem"), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _not_a_formula(cell) for name, cell in row.items()} for row in bad)
    write_atomic(path, text.getvalue().encode())


def _not_a_formula(cell: str) -> str:
    """Spreadsheets run what begins so, and file names are other people's: an apostrophe makes it a text. Some divide
    cells by semicolons."""
    return re.sub(r"(^|;)(?=[=+\-@])", r"\1'", printable(cell))


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Readable JSON in UTF-8; what a name holds beside it stands there as \\udce9, which is JSON too."""
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, text.encode(errors="backslashreplace"))


def replace(files: dict[Path, Callable[[Path], None]]) -> None:
    """Let each function make its file under another name and, once all are complete, give them their own, in order.

    So the earlier files, which belong together, stay together when one of the new ones cannot be written.
    """
    temporary = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp") for path in files}
    try:
        for path, write in files.items():
            try:
                write(temporary[path])
            except InputError as error:
                raise InputError(str(error).replace(temporary[path].name, path.name)) from None
        for path, complete in temporary.items():
            os.replace(complete, path)
    finally:
        for complete in temporary.values():
            with contextlib.suppress(OSError):
                complete.unlink()
