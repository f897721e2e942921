"""NIST16 (Nimble Challenge 2016): 564 forgeries; images, masks and labels are paired by its reference sheets.

python data_scripts/nist16.py NC2016_Test0613 --out sets
python data_scripts/nist16.py NC2016_Test0613 --out sets --split test=NIST16_for_finetuned.txt
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from common import UNVERIFIED, DataSet, MaskRule, Pair, Tree, stem, text_of
from make import main
from mpc_lite.errors import InputError

COLUMNS = ("ProbeFileName", "ProbeMaskFileName", "IsTarget")


def rows(sheet: Path) -> Iterator[tuple[str, str, bool]]:
    """(probe, mask, tampered?) of each row of a reference sheet, whose columns are separated by | or by commas."""
    lines = text_of(sheet, f"{sheet}:").splitlines()
    table = csv.DictReader(lines, delimiter="|" if lines and "|" in lines[0] else ",")
    try:
        yield from _rows(table, sheet)
    except csv.Error as error:
        raise InputError(f"{sheet}: damaged in line {table.line_num} ({error}); take it out or replace it") from None


def _rows(table: csv.DictReader, sheet: Path) -> Iterator[tuple[str, str, bool]]:
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(f"{sheet}: column {', '.join(missing)} is missing; expected a reference sheet of NC2016")
    for row in table:
        probe, mask, target = ((row[name] or "").strip().replace("\\", "/") for name in COLUMNS)
        if probe:
            yield probe, mask, target.upper() in ("Y", "YES", "TRUE", "1")


def pairs(tree: Tree):
    """What any sheet calls a target is tampered; the manipulation sheet, which names all of them, is asked first."""
    sheets = tree.files(name="NC2016-*-ref*.csv", suffixes=(".csv",))
    sheets.sort(key=lambda sheet: "manipulation" not in sheet.name.casefold())
    targets: dict[str, str] = {}
    others: dict[str, None] = {}
    named = set()
    for sheet in sheets:
        for probe, mask, tampered in rows(sheet):
            named.add(Path(mask).name.casefold())
            if tampered:
                targets.setdefault(probe, mask)
            else:
                others[probe] = None

    probes = defaultdict(list)
    for path in tree.files("probe"):
        probes[path.name.casefold()].append(path)
    masks = tree.files("reference/*/mask")
    for probe in sorted(targets):
        image, missing = _image(probe, probes)
        mask, problem = _mask(targets[probe], masks)
        yield Pair(image, mask, problem=missing or problem)  # without an image the mask says which row it is
    unnamed = [mask for mask in masks if mask.name.casefold() not in named]
    whole = any("manipulation" in sheet.name.casefold() for sheet in sheets)
    for probe in sorted(others.keys() - targets.keys()):
        image, missing = _image(probe, probes)
        if not whole:
            missing = missing or "authentic by the sheets that are there; the manipulation sheet, which says so, is not"
        for mask in unnamed:
            if re.match(rf"{re.escape(Path(probe).stem.casefold())}(?![0-9a-z])", stem(mask)):
                missing = missing or f"authentic by the sheets, and no sheet names its mask {mask.name}"
        yield Pair(image, label=0, problem=missing)
    if not sheets:
        return
    told = {Path(probe).name.casefold() for probe in (*targets, *others)}
    for name in sorted(probes.keys() - told):
        yield from (Pair(image, problem="no sheet names it") for image in probes[name])
    for mask in unnamed:
        yield Pair(None, mask, problem="mask without image: no sheet names it")


def _image(probe: str, probes: dict[str, list[Path]]) -> tuple[Path | None, str]:
    """The file of a probe, by its name alone; and what is wrong with it."""
    same = probes.get(Path(probe).name.casefold(), [])
    if len(same) > 1:
        return same[0], f"{len(same)} images are called {same[0].name}"
    return (same[0], "") if same else (None, f"the sheets name {probe}, which is not there")


def _mask(name: str, masks: list[Path]) -> tuple[Path | None, str]:
    """The file that a sheet means: the path's end decides, then the bare name if there is only one of it."""
    if not name:
        return None, "no mask: the sheet names none"
    same = [path for path in masks if path.name.casefold() == Path(name).name.casefold()]
    exact = [path for path in same if path.as_posix().casefold().endswith("/" + name.casefold())]
    if len(exact) == 1 or len(same) == 1:
        return (exact or same)[0], ""
    return None, f"{len(same)} masks for it: {name}" if same else f"no mask: {name} is not there"


NIST16 = DataSet(
    name="nist16",
    source="NIST",
    title="NIST Nimble Challenge 2016 (NC2016 Test0613)",
    owner="National Institute of Standards and Technology, USA",
    page="https://mfc.nist.gov/",
    terms="research only, under NIST's agreement; credit NIST (Guan et al. 2019); not to be passed on",
    evidence=UNVERIFIED,
    seen="no file; PSCC-Net's and TruFor's lists of its pairs, and the sheets' columns from programs that read them",
    layout="probe/*.jpg, reference/<manipulation|removal|splice>/mask/*.png and reference/*/NC2016-*-ref.csv",
    mask=MaskRule("inverted in the originals: 0 is tampered (unverified)", inverted=True),
    counts={
        "tampered": {
            564: "MPC, IML-ViT, IMDL-BenCo, PSCC-Net",
            160: "TruFor; PSCC-Net's fine-tuning test list",
        },
        "authentic": {560: "common knowledge, unverified", 160: "TruFor"},
    },
    paper=564,
    pairs=pairs,
    remark="Protocol 2 splits it 404 to 160 by PSCC-Net's list of the 160: from_list.py makes both manifests.",
)

if __name__ == "__main__":
    sys.exit(main(NIST16))
