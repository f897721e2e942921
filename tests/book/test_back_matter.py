"""Notation, glossary and troubleshooting: terms are defined, messages are the package's own, commands exist."""

import ast
import re
import shlex
from functools import cache

import pytest
import typer.main

from mpc_lite.cli import app
from mpc_lite.recipes.load import assignments, load_recipe
from tests.book.site_under_test import ROOT

BOOK = ROOT / "book"
PAGES = sorted(path for path in BOOK.rglob("*.md") if "tools" not in path.parts)
NAMES = ("notation", "glossary", "questions", "troubleshooting", "own-pictures", "other-tools")
BACK = [BOOK / f"{name}.md" for name in NAMES]
TROUBLE = BOOK / "troubleshooting.md"
# Where messages come from: the package, the set-up cell of the notebooks, the twins' tool, what the tests skip with.
SPEAKERS = [*(ROOT / "mpc_lite").rglob("*.py"), *(BOOK / "tools").rglob("*.py"), ROOT / "tests/book/site_under_test.py"]
LEAST = 15  # letters of a message that its source must hold as they stand


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def lines(page, language: str) -> list[str]:
    return [line for block in fences(page.read_text(encoding="utf-8"), language) for line in block.splitlines() if line]


# ----------------------------------------------------------------------------------------------------------- glossary


def glossary(text: str) -> list[str]:
    """The terms, in small letters: the lines of the directive that are not indented."""
    (body,) = re.findall(r"^:::\{glossary\}\n(?::sorted:\n)?(.*?)^:::$", text, re.S | re.M)
    return [line.strip().lower() for line in body.splitlines() if line and not line.startswith(" ")]


def used(text: str) -> set[str]:
    """Terms that a page refers to, as {term}`word` or {term}`words <word>`."""
    marked = re.findall(r"\{term\}`([^`]+)`", text)
    return {re.sub(r".*<(.+)>$", r"\1", " ".join(term.split())).lower() for term in marked}


def test_the_readers_of_terms():
    assert glossary(":::{glossary}\n:sorted:\n\nF1\n  A score.\n\nview\nlook\n  B.\n:::\n") == ["f1", "view", "look"]
    assert used("a {term}`Permuted\nF1` and {term}`maps <score map>`") == {"permuted f1", "score map"}


def test_every_term_is_defined_once():
    defined = glossary((BOOK / "glossary.md").read_text(encoding="utf-8"))
    assert sorted(defined) == sorted(set(defined))
    missing = {page.name: used(page.read_text(encoding="utf-8")) - set(defined) for page in PAGES}
    assert {name: terms for name, terms in missing.items() if terms} == {}


def test_words_with_several_meanings_are_told_apart_and_the_names_of_recipes_and_weights_are_there():
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    meanings = re.findall(r"^\| (.*?) ?\| (.*?[^|-].*?) \| (.+?) \|$", text.split("| word |")[1].split(":::")[0], re.M)
    words = [row[0].strip("*") for row in meanings if row[0]]
    assert words == ["lite", "official", "cell", "stage", "map"]
    assert len(meanings) >= 3 * len(words) and all(row[1] and row[2] for row in meanings)
    # Every place where a recipe's value may be called official has its line.
    keys = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "mpc_lite/recipes").glob("*keys.py"))
    places = re.findall(r'^    (\w+): Literal\[[^\]]*"official"', keys, re.M)
    of_official = " ".join(row[1] for row in meanings)
    assert {f"{'schedule' if name == 'name' else name} `official`" for name in places} <= set(
        re.findall(r"\w+ `official`", of_official)
    )
    shipped = {path.stem for path in (ROOT / "mpc_lite/pretrained").glob("*.safetensors")}
    assert shipped | {"nano", "quickstart", "formulation", "profile", "variant", "stage 1", "stage 2"} <= set(
        glossary(text)
    )


# ----------------------------------------------------------------------------------------------------------- messages


def templates(code: str) -> list[tuple[str, str]]:
    """(pattern, literal text) of each string of a source; what is filled in matches anything."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [node.value]
        else:
            continue
        parts = [part if part is None else part.strip("\n") for part in parts]
        literal = "".join(part or "" for part in parts)
        found.append(("".join(".*?" if part is None else re.escape(part) for part in parts), literal))
    return found


@cache
def spoken() -> list[tuple[re.Pattern[str], str]]:
    codes = [path.read_text(encoding="utf-8") for path in SPEAKERS]
    codes += [
        re.sub("@[A-Z]+@", "0", cell) for code in codes for cell in re.findall(r'CELL = r"""(.*?)"""', code, re.S)
    ]
    found = {template for code in codes for template in templates(code) if len(template[1]) >= LEAST}
    return [(re.compile(pattern), literal) for pattern, literal in found]


def is_said(message: str) -> bool:
    """Whether a string of the sources gives the message; `mpc-lite check` leaves out the advice after a semicolon."""
    message = message.removeprefix("error: ")
    patterns = [pattern for pattern, literal in spoken() if len(literal) >= len(message) / 6]
    return any(pattern.fullmatch(message + advice) for pattern in patterns for advice in ("", "; fix"))


@pytest.mark.slow
@pytest.mark.parametrize("message", lines(TROUBLE, "text"), ids=lambda message: "")
def test_a_quoted_message_is_said_somewhere(message):
    assert is_said(message)


def test_a_message_that_nobody_says_is_found():
    assert is_said("error: unknown protocol 'f1'; expected one of mpc, pooled")
    assert not is_said("error: unknown protocol 'f1'; choose one of mpc, pooled")
    assert not is_said("error: the mask is too small for this image")
    assert is_said("row 2 of a.csv: mask 4×4, image 8×8") and not is_said("row 2 of a.csv: mask 4×4, photo 8×8")


# ----------------------------------------------------------------------------------------------------------- commands


def mpc_lite(line: str):
    """(name, values) of a command line, parsed but not run; and, of its recipe, every key checked."""
    words = shlex.split(line)
    words = words[words.index("mpc-lite") + 1 :]
    group = typer.main.get_command(app)
    command = group.get_command(group.make_context("mpc-lite", words[:], resilient_parsing=True), words[0])
    assert command is not None, f"no command {words[0]}"
    values = command.make_context(words[0], words[1:]).params
    given = {key: value for key, value in assignments(values.get("parameters") or []).items() if not key.isupper()}
    if recipe := values.get("recipe") or (words[0] == "reproduce" and values["name"]):
        load_recipe(recipe, values["profile"], given)
    return words[0], values


@pytest.mark.parametrize("line", [x for page in BACK for x in lines(page, "sh")])
def test_a_command_exists(line):
    if "mpc-lite " in line:
        mpc_lite(line)
        return
    words = shlex.split(line)
    assert words[0] in ("python", "pytest", "pip")
    if words[0] == "python":
        script = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in script for word in words[2:] if word.startswith("-"))
    assert all((ROOT / word).is_file() for word in words if word.endswith((".py", ".md")))


def test_a_command_that_does_not_exist_is_found():
    name, values = mpc_lite("OMP_NUM_THREADS=1 mpc-lite pretrain --recipe quickstart --out a -p pretrain.batch=4")
    assert name == "pretrain" and str(values["out"]) == "a"
    for wrong in ("mpc-lite train", "mpc-lite check a.csv --fix", "mpc-lite info quickstart -p pretrain.lr=1"):
        with pytest.raises(Exception, match=r"(?i)no (command|such option)|unknown key"):
            mpc_lite(wrong)


@pytest.mark.parametrize("page", BACK, ids=lambda path: path.stem)
def test_commands_in_the_text_have_names_that_exist(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    group = typer.main.get_command(app)
    assert set(re.findall(r"`mpc-lite ([a-z]+)", text)) <= set(group.commands)


@pytest.mark.parametrize("code", fences(TROUBLE.read_text(encoding="utf-8"), "python"), ids=lambda code: "")
def test_the_names_that_a_snippet_imports_exist(code):
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    exec(compile(ast.Module(imports, []), "snippet", "exec"), {})


# ----------------------------------------------------------------------------------------------------------- notation


def rows(text: str) -> list[list[str]]:
    """Cells of the pipe tables of a page, without their heads."""
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return [cells for cells in table if cells[0] not in ("symbol", "meaning") and not set(cells[0]) <= {"-"}]


@pytest.mark.slow
def test_notation_has_a_symbol_once_in_a_chapter_and_variables_that_exist():
    text = (BOOK / "notation.md").read_text(encoding="utf-8")
    sources = [*(ROOT / "mpc_lite").rglob("*.py"), *BOOK.glob("part*/*.md")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    assert [re.findall(r"\{ref\}`(ch-\w+)`", s) for s in sections[1:-1]] == [
        re.findall(r"^\((ch-\w+)\)=$", path.read_text(encoding="utf-8"), re.M)
        for path in sorted(BOOK.glob("part*/*.md"))
    ]
    for section in sections[:-1]:
        cells = rows(section)
        assert cells and all(len(row) == 4 for row in cells), "a pipe in a cell, or a column too few"
        symbols = re.findall(r"\$[^$]+\$", " ".join(row[0] for row in cells))
        assert sorted(symbols) == sorted(set(symbols))
        words = [
            word
            for row in cells
            for name in re.findall(r"`([^`]+)`", row[3])
            for word in re.findall(r"[A-Za-z_]\w*", name)
        ]
        assert [word for word in words if not re.search(rf"\b{word}\b", code)] == []
