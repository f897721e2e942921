"""A manifest from a list of another repository: BenCo, CAT-Net, TruFor, MVSS-Net, MPC, PSCC-Net (mpc_lite.data.lists).

    python data_scripts/from_list.py CASIA_v2_train_list.txt --root CASIA2 --out m.csv --source CASIAv2
    python data_scripts/from_list.py NIST16_for_finetuned.txt --of sets/nist16.csv --split test --expect 160 \
        --out sets/nist16_test.csv
    python data_scripts/from_list.py NIST16_for_finetuned.txt --of sets/nist16.csv --rest --split train --expect 404 \
        --out sets/nist16_train.csv

With `--of` the list only says which images of a manifest to take, and the masks stay those that the set's own script
prepared; with `--rest` it says which to leave. That is how PSCC-Net's fine-tuning splits are made: NIST16 404 and 160,
COVERAGE 75 and 25; its lists name the test images. (Its CASIA-D/fake.txt, 921 names, mixes CASIA v1 and v2: give `--of`
twice.) Bad entries are listed and left out; exit code 1 then, and when the
number is not the expected one; 2 for a mistake.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import warnings
from pathlib import Path

from mpc_lite.cli.terminal import any_letter_prints, at_end, put
from mpc_lite.data.list_formats import FORMATS
from mpc_lite.data.lists import pick, sort_entries
from mpc_lite.data.manifest import REQUIRED, Sample, check_name, read_manifest, read_mask, write_manifest
from mpc_lite.errors import InputError, printable
from mpc_lite.files import PICTURES, check_output, csv_rows, place, relative
from mpc_lite.images import read_image
from mpc_lite.run_folder import clear_stale
from mpc_lite.training.signals import Stopped, ending
from record import Parser


def main(argv: list[str] | None = None) -> int:
    any_letter_prints()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, metavar="LIST", help="the list, or a folder with Tp/ and Gt/")
    parser.add_argument("--out", type=Path, required=True, metavar="M.csv", help="the manifest to write")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where the list's paths start (default: its folder)")
    parser.add_argument("--source", metavar="NAME", help="name of the data set (default: the list's name)")
    parser.add_argument("--format", choices=FORMATS, help="the list's format, when its content does not tell")
    parser.add_argument("--split", metavar="NAME", help="the rows get this split: train, test")
    parser.add_argument("--expect", type=int, metavar="N", help="the number of rows there must be")
    parser.add_argument(
        "--of",
        type=Path,
        action="append",
        metavar="MANIFEST",
        help="take the images that the list names from it; repeatable",
    )
    parser.add_argument("--rest", action="store_true", help="with --of: take its tampered images that are not named")
    options = parser.parse_args(argv)
    asked: list[int] = []
    try:
        with ending() as asked:
            return at_end(make(options), 2)
    except KeyboardInterrupt:
        put("interrupted", error=True)
        return Stopped("", *asked[:1]).exit_code
    except InputError as mistake:
        put(printable(f"error: {mistake}"), error=True)
        return 2


def make(options: argparse.Namespace) -> int:
    if options.of and options.root:
        raise InputError("--root and --of: with --of the manifest says where the images are; leave --root out")
    if options.rest and not options.of:
        raise InputError("--rest needs --of MANIFEST: the rows that are left when the list's are taken out")
    options.out = place(options.out)
    if options.out.suffix.lower() in PICTURES:
        raise InputError(f"--out {options.out}: a manifest is written there; expected a name such as manifest.csv")
    check_output(options.out, [options.list, *(options.of or ())])
    clear_stale(options.out.parent)
    if options.of:
        rows = [sample for manifest in options.of for sample in read_manifest(manifest)]
        check_output(options.out, _files(rows))
        samples, bad = pick(rows, options.list, options.format)
        if options.rest:
            named = {sample.image for sample in samples}
            samples = [sample for sample in rows if sample.label == 1 and sample.image not in named]
    else:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            samples, bad = sort_entries(options.list, options.root, options.source, options.format)
        for note in notes:
            put(printable(f"note: {note.message}"))
    check_output(options.out, _files(samples))
    _check_replaces(options.out)
    problems = [problem for _, problem in bad]
    if options.rest and bad:
        problems.append("what the list names and was not found may be among the rest: correct this first")
    if not options.of:  # rows of a manifest have been opened before
        samples, unusable = opened(samples, options.out.parent)
        problems += unusable
    changes = {name: getattr(options, name) for name in ("split", "source") if getattr(options, name)}
    samples = [dataclasses.replace(sample, **changes) for sample in samples]
    if samples:
        try:
            options.out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--out {options.out}: its folder cannot be made ({error.strerror}); choose another"
            ) from None
        write_manifest(options.out, samples)
    tampered = sum(sample.label for sample in samples)
    written = printable(options.out) if samples else "nothing written"
    put(f"{written}: {tampered} tampered, {len(samples) - tampered} authentic")
    if options.expect not in (None, len(samples)):
        problems.append(f"{len(samples)} rows, expected {options.expect}")
    for problem in problems:
        put(f"  {printable(problem)}")
    return 1 if problems else 0


def _check_replaces(out: Path) -> None:
    """InputError for a file that is there and is no manifest."""
    if out.is_file() and out.stat().st_size:
        try:
            header = next(csv_rows(out, "a manifest"), ([], ""))[0]
        except InputError:  # no table at all
            header = []
        if not {name.strip() for name in header} >= set(REQUIRED):
            raise InputError(f"--out {out}: is there and is no manifest, and would be lost; give another name")


def _files(samples: list[Sample]) -> list[Path]:
    return [file for sample in samples for file in (sample.image, sample.mask) if file]


def opened(samples: list[Sample], folder: Path) -> tuple[list[Sample], list[str]]:
    """The samples whose files are whole and belong together (size, label), and what is wrong with the others.

    folder: that of the manifest, which holds their paths."""
    good, problems = [], []
    for sample in samples:
        try:
            for file in (sample.image, sample.mask):
                check_name(relative(file, folder))
            read_mask(sample, size=read_image(sample.image).shape[:2])
            good.append(sample)
        except InputError as error:
            text = str(error).removeprefix(f"{sample.image}: ")
            problems.append(f"entry {sample.row}, {sample.image.name}: {text}")
    return good, problems


if __name__ == "__main__":
    sys.exit(main())
