"""What other tools do: every row is complete, every test it names exists, and one of the surprises is looked for."""

import ast
import json
import re

from tests.book.site_under_test import ROOT, chapters

PAGE = (ROOT / "book/other-tools.md").read_text(encoding="utf-8")
HEAD = ["tool", "one would guess", "what happens", "what to do"]


def rows() -> list[list[str]]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")
    ]
    return [cells for cells in lines if not set(cells[0]) <= {"-"}]


def test_a_row_names_the_tool_the_guess_the_surprise_and_the_way_out():
    table = [cells for cells in rows() if cells != HEAD]
    assert len(table) >= 25 and all(len(cells) == 4 and all(cells) for cells in table)
    without_number = [cells[0] for cells in table if not re.search(r"\d", cells[0])]
    assert len(without_number) <= 5, without_number  # nearly every row says of which version it speaks
    assert len(rows()) - len(table) == len(re.findall(r"^## ", PAGE, re.M)) - 1


def test_every_finding_has_its_row():
    assert sorted(re.findall(r"`(findings/[\w-]+\.sh)`", PAGE)) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "findings").glob("*.sh")
    )


def test_every_answer_is_held_by_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 15 and len(named) == PAGE.count("`tests/")
    for file, function in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, function)


def strange(outputs: list[dict]) -> list[str]:
    """Texts among a cell's outputs that show numpy's type beside a number."""
    texts = ["".join(x.get("text", "")) + str(x.get("data", {}).get("text/plain", "")) for x in outputs]
    return [text for text in texts if re.search(r"np\.(float|int)\d+\(", text)]


def test_no_number_of_a_chapter_is_shown_with_the_name_of_its_type():
    """numpy 2 writes np.float64(0.63), and MyST-NB glues that into the sentence."""
    assert strange([{"data": {"text/plain": ["np.float64(0.6312)"]}}]) and not strange([{"text": ["0.6312"]}])
    for chapter in chapters():
        cells = json.loads((ROOT / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert [strange(cell.get("outputs", [])) for cell in cells if strange(cell.get("outputs", []))] == [], chapter
