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
from mpc_lite.errors import InputError, shown

YES, NO = ("Y", "YES", "T", "TRUE", "1", "1.0"), ("N", "NO", "F", "FALSE", "0", "0.0")
COLUMNS = ("ProbeFileName", "ProbeMaskFileName", "IsTarget")


def rows(sheet: Path) -> Iterator[tuple[str, str, str]]:
    """(probe, mask, IsTarget) of each row of a reference sheet, whose columns are separated by | or by commas."""
    lines = text_of(sheet, f"{sheet}:").splitlines()
    table = csv.DictReader(lines, delimiter="|" if lines and "|" in lines[0] else ",")
    try:
        yield from _rows(table, sheet)
    except csv.Error as error:
        raise InputError(f"{sheet}: damaged in line {table.line_num} ({error}); take it out or replace it") from None


def _rows(table: csv.DictReader, sheet: Path) -> Iterator[tuple[str, str, str]]:
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(f"{sheet}: column {', '.join(missing)} is missing; expected a reference sheet of NC2016")
    for row in table:
        probe, mask, target = ((row[name] or "").strip().replace("\\", "/") for name in COLUMNS)
        if probe:
            yield probe, mask, target


def pairs(tree: Tree):
    """What any sheet calls a target is tampered; the manipulation sheet, which names all of them, is asked first."""
    sheets = tree.files(name="NC2016-*-ref*.csv", suffixes=(".csv",))
    sheets.sort(key=lambda sheet: "manipulation" not in sheet.name.casefold())
    targets: dict[str, str] = {}
    others: dict[str, str] = {}  # probe -> what no sheet should say of it
    named = set()
    for sheet in sheets:
        for probe, mask, target in rows(sheet):
            named.add(Path(mask).name.casefold())
            if target.upper() in YES:
                targets.setdefault(probe, mask)
            else:
                unclear = "" if target.upper() in NO else f"IsTarget is '{shown(target)}' in {sheet.name}, not Y or N"
                others[probe] = others.get(probe) or unclear

    probes = defaultdict(list)
    for path in tree.files("probe"):
        probes[path.name.casefold()].append(path)
    masks = tree.files("reference/*/mask")
    of_name = defaultdict(list)
    for path in masks:
        of_name[path.name.casefold()].append(path)
    for probe in sorted(targets):
        image, missing = _image(probe, probes)
        mask, problem = _mask(targets[probe], of_name)
        yield Pair(image, mask, problem=missing or problem)  # without an image the mask says which row it is
    unnamed = [mask for mask in masks if mask.name.casefold() not in named]
    of_probe: dict[str, Path] = {}  # begins as its mask does, up to what is no letter or number
    for mask in unnamed:
        name = stem(mask)
        for end in re.finditer(r"(?<=.)(?![0-9a-z])", name):
            of_probe.setdefault(name[: end.start()], mask)
    whole = any("manipulation" in sheet.name.casefold() for sheet in sheets)
    for probe in sorted(others.keys() - targets.keys()):
        image, missing = _image(probe, probes)
        missing = missing or others[probe]
        if not whole:
            missing = missing or "authentic by the sheets that are there; the manipulation sheet, which says so, is not"
        if not missing and (mask := of_probe.get(Path(probe).stem.casefold())):
            missing = f"authentic by the sheets, and no sheet names its mask {mask.name}"
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


def _mask(name: str, masks: dict[str, list[Path]]) -> tuple[Path | None, str]:
    """The file that a sheet means: the path's end decides, then the bare name if there is only one of it."""
    if not name:
        return None, "no mask: the sheet names none"
    same = masks.get(Path(name).name.casefold(), [])
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
