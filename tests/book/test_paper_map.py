"""Paper map and ledger: what they name exists, every item is there, and numbers are those of the chapters."""

import ast
import importlib
import inspect
import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
MAP = (BOOK / "paper-map.md").read_text(encoding="utf-8")
LEDGER = (BOOK / "deviations.md").read_text(encoding="utf-8")
ROLE = re.compile(r"\{py:(\w+)\}`(?:[\w.]+ <)?([\w.]+)>?`")
KINDS = {"func": inspect.isfunction, "meth": callable, "class": inspect.isclass, "mod": inspect.ismodule}
STATES = ("**works**", "**not run**", "**not there yet**")

# What is known of the differences, in the order of the notes that the ledger was written from: short names of its rows.
KNOWN = {
    1: ["Anchors"],
    2: ["Positive term"],
    3: ["Denominator"],
    4: ["Positives of the cross terms", "Shortcut of the cross terms"],
    5: ["Weight of the cross terms"],
    6: ["Unit vectors and temperature", "Number of sampled pixels"],
    7: ["Noise between the passes"],
    8: ["Optimiser", "Learning rate of stage 2", "Schedule"],
    9: ["Frozen encoder"],
    10: ["Best checkpoint"],
    11: ["The CAT-Net training set"],
    12: ["Name of the stage-2 loss"],
    13: ["Batch norm in the head"],
    14: ["Parameter count", "The average of Table 5"],
    15: ["Path of the ImageNet file"],
    16: ["Path of the stage-1 weights"],
    17: ["Prefix of the stage-1 tensors"],
    18: ["Masks of mixed sizes"],
    19: ["Missing guards"],
    20: ["The tolerant loader"],
    21: ["The community's inference script"],
}
GROUPS = ["Loss", "Views and labels", "Sampling", "Backbone and head", "Optimisation", "Data and selection"]
GROUPS += ["Evaluation", "Scripts that break", "Ours alone", "Neighbours"]

# Row of the ledger, chapter, and how each number that the chapter told stands in the row.
TOLD = [
    (
        "Shortcut of the cross terms",
        "06-contrastive-loss",
        {"cross_scale_before": ".2f", "cross_scale_shuffled": ".2f"},
    ),
    ("Shortcut of the cross terms", "06-contrastive-loss", {"cross_modality_before": ".2f"}),
    ("Shortcut of the cross terms", "06-contrastive-loss", {"cross_modality_shuffled": ".2f"}),
    ("Shortcut of the cross terms", "06-contrastive-loss", {"within_image_shuffled": ".2f"}),
    ("Shortcut of the cross terms", "04-views", {"before_coarse": ".2f", "after_coarse": ".2f"}),
    ("Shortcut of the cross terms", "04-views", {"paper_stage1_cross_scale": ".2f"}),
    ("Shortcut of the cross terms", "04-views", {"paper_knows_the_map_cross_scale": ".2f"}),
    ("Shortcut of the cross terms", "04-views", {"official_coarse": ".2f", "paper_coarse": ".2f"}),
    (
        "Unit vectors and temperature",
        "06-contrastive-loss",
        {"alive": "d", "share_tenth": ".0f", "share_cold": ".0f"},
    ),
    ("Noise between the passes", "04-views", {"before_itself": ".2f", "after_itself": ".2f"}),
    ("Labels at the coarser maps", "04-views", {"gone_2": ".0f"}),
    ("Number of sampled pixels", "05-sampling", {"cosine_after_16": ".2f", "cosine_untrained_16": ".2f"}),
    ("Padded tokens", "03-backbone", {"n_splices": "d", "f1_padded": ".2f", "f1_hidden": ".2f"}),
    ("Frozen encoder", "07-fine-tuning", {"tuning_steps": "d", "change_low": ".0f", "change_high": ".0f"}),
    ("Frozen encoder", "07-fine-tuning", {"extra_range": ""}),
    ("Threshold", "02-measuring", {"legacy": ".4f", "n": "d"}),
    ("Shortcut of the cross terms", "14-against-the-paper", {"left_released_at_the_start": ""}),
    ("Shortcut of the cross terms", "14-against-the-paper", {"left_released_after_stage_1": ""}),
    ("Shortcut of the cross terms", "14-against-the-paper", {"f1_without_L1": "", "auc_without_L1": ""}),
    ("Shortcut of the cross terms", "14-against-the-paper", {"f1_best_threshold_without_L1": ""}),
    ("Masks from JPEG", "12-protocols-and-data", {"added_90": ".0f"}),
    ("Prefix of the stage-1 tensors", "15-official-checkpoints", {"f1_right": "", "f1_none": "", "n_held": "d"}),
    ("Prefix of the stage-1 tensors", "15-official-checkpoints", {"loss_right": ".3f", "loss_none": ".3f"}),
    ("The tolerant loader", "15-official-checkpoints", {"share": ".1f", "f1_lite": ".2f", "f1_last_middle": ".2f"}),
    ("Pixels without a direction", "09-embedding", {"dead_lite-stage1": ".0f", "dead_noise_lite-stage1": ".2f"}),
    (
        "Pixels without a direction",
        "09-embedding",
        {"dead_training_lite-stage1": ".2f", "dead_lite": ".2f", "dead_lite2": ".2f"},
    ),
    ("Weight of the tampered class", "07-fine-tuning", {"share_start_50": ".0f", "share_start_75": ".0f"}),
]


def rows(page: str) -> dict[str, str]:
    """Heading of the third level -> the text below it, up to the next heading or label."""
    parts = re.split(r"^### (.+)\n", page, flags=re.M)
    return {
        name: re.split(r"^(?:## |\()", text, flags=re.M)[0] for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


@cache
def sources() -> str:
    """All that may carry a label: chapters and pages."""
    return "\n".join(p.read_text(encoding="utf-8") for p in sorted(BOOK.rglob("*.md")) if "_build" not in p.parts)


def symbol(name: str):
    """The object of a dotted name, and the module that it was found in; modules hide behind equally named functions."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found, module
    raise AssertionError(f"{name}: no such module")


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("kind", "name"), sorted(set(ROLE.findall(MAP + LEDGER))))
def test_every_object_exists_and_the_reference_documents_it(kind, name):
    found, module = symbol(name)
    assert KINDS[kind](found)
    assert f".. automodule:: {module.__name__}\n" in (BOOK / "api.md").read_text(encoding="utf-8")
    assert found.__doc__ and not any(part.startswith("_") for part in name.split("."))
    assert kind == "mod" or found.__module__ == module.__name__  # members that were imported are not documented


@pytest.mark.parametrize("named", sorted(set(re.findall(r"\btests/[\w/]+\.py(?:::\w+)?", MAP + LEDGER))))
def test_every_named_test_exists(named):
    file, _, function = named.partition("::")
    assert (ROOT / file).is_file()
    assert not function or function in functions_in(file)
    assert function or not re.search(rf"{named}(?!::)", MAP), "the map names tests, not files"


@pytest.mark.parametrize(("role", "label"), sorted(set(re.findall(r"\{(ref|numref|eq)\}`([\w-]+)`", MAP + LEDGER))))
def test_every_label_exists(role, label):
    pattern = {
        "ref": rf"^\({label}\)=\n#",
        "eq": rf"^\$\$ \({label}\)$",
        "numref": rf"^ +name: {label}$|^:name: {label}$",
    }
    assert re.search(pattern[role], sources(), re.M)


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`(book/[^`]+)`", MAP + LEDGER))))
def test_every_named_file_exists(file):
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("number", KNOWN)
def test_every_known_difference_has_its_rows(number):
    assert sorted(KNOWN) == list(range(1, 22))
    for name in KNOWN[number]:
        assert name in rows(LEDGER)


def test_the_ledger_is_grouped_and_every_row_complete():
    assert re.findall(r"^## (.+)$", LEDGER, re.M) == GROUPS
    alone = LEDGER.index("\n## Scripts that break")
    names = re.findall(r"^### (.+)$", LEDGER, re.M)
    assert len(names) == len(set(names))
    for name, text in rows(LEDGER).items():
        lines = re.findall(r"^- \*\*([^*]+)\*\*", text, re.M)
        whole = ["The paper states", "The released code does", "We do", "Effect"]
        if LEDGER.index(f"\n### {name}\n") < alone:
            assert list(dict.fromkeys(lines)) == whole, name
        else:
            assert lines in (whole[1:], whole[2:]), name


def label(row: str) -> str:
    """What links to a row of the ledger: its name in small letters, with hyphens."""
    return "row-" + re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def test_every_row_can_be_linked_and_back_matter_does_it():
    names = re.findall(r"^### (.+)$", LEDGER, re.M)
    assert re.findall(r"^\((row-[a-z0-9-]+)\)=\n### (.+)$", LEDGER, re.M) == [(label(name), name) for name in names]
    assert label("The CAT-Net training set") == "row-the-cat-net-training-set"
    for page in sorted(BOOK.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert [name for name in names if f'"{name}"' in text] == [], page.name
        assert set(re.findall(r"\{ref\}`(row-[\w-]+)`", text)) <= set(map(label, names)), page.name


@pytest.mark.parametrize("item", ["Eq. 1 2 3 4 5 6", "Fig. 1 2 3 4 5", "Table 1 2 3 4 5 6 7 8"])
def test_every_equation_figure_and_table_is_on_the_map(item):
    word, *numbers = item.split()
    headings = " ".join(re.findall(r"^### (.+)$", MAP, re.M))
    for number in numbers:
        assert len(re.findall(rf"(?<!\w){re.escape(word)} {number}\b", headings)) == 1, f"{word} {number}"


def test_every_place_on_the_map_says_its_state():
    for name, text in rows(MAP).items():
        (state,) = re.findall(r"^- State: (.+)$", text, re.M)
        assert any(known in state for known in STATES), name
        assert name.startswith(("Fig", "Table")) or "- Package: " in text, name


@pytest.mark.parametrize(("row", "chapter", "numbers"), TOLD)
def test_numbers_of_the_ledger_are_those_that_the_chapter_told(row, chapter, numbers):
    found = list(BOOK.glob(f"part*/{chapter}.ipynb"))
    assert found, f"{chapter} has no notebook beside it"
    told = {}
    for cell in json.loads(found[0].read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                (told[name],) = output["data"].values()
    text = rows(LEDGER)[row]
    for name, form in numbers.items():
        value = ast.literal_eval(told[name]) if isinstance(told[name], str) else told[name]
        shown = format(value, form).replace("-", "−")
        assert re.search(rf"(?<![\d.]){re.escape(shown)}(?![\d]|\.\d)", text), f"{name} is {shown} in the chapter"


def test_the_reference_lists_every_module_once():
    listed = re.findall(r"^\.\. automodule:: mpc_lite\.([\w.]+)$", (BOOK / "api.md").read_text(encoding="utf-8"), re.M)
    package = ROOT / "mpc_lite"
    modules = {".".join(p.relative_to(package).with_suffix("").parts) for p in package.rglob("*.py")}
    shown = {m for m in modules if not m.startswith(("cli.", "figures.chapters.")) and not m.endswith("__init__")}
    assert sorted(listed) == sorted(shown)
