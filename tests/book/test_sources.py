"""The chapters' sources keep the template: sections, card, figures, exercises, sizes; nothing is executed."""

import ast
import re
import statistics

import jupytext
import pytest

from tests.book.site_under_test import ROOT, chapters

HEADINGS = [
    "The end first",
    "What the paper states",
    "From symbol to shape to code",
    "By hand",
    "Does it do what the equation says?",
    "See it",
    "Play with it",
    "Ours against the paper",
    "Where people trip",
    "Summary",
    "Exercises",
    "Reproduce this chapter",
    "Further reading",
]
# What you will be able to do, three to six bullets; what it needs, in one line; the part of the paper.
CARD = re.compile(
    r":class: tip\n\*\*You will\*\*\n\n(?:- [a-z].*;\n){2,5}- [a-z].*\.\n\n"
    r"\*\*Before\*\*: .+ · \*\*Data\*\*: .+ · \*\*Time\*\*: about (\d+) s .+\n\n\*\*Paper\*\*: .+"
)
DRAWS = re.compile(r"^(?:\w+ = )?(?:show|flip|explore)\(", re.MULTILINE)


def text_of(chapter):
    return (ROOT / f"{chapter}.md").read_text()


def section(text, name):
    return text.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def code_cells(chapter):
    return [c for c in jupytext.read(ROOT / f"{chapter}.md").cells if c.cell_type == "code"]


def prose_of(text):
    """Running text: no code, formulas, tables, directives' options or exercises."""
    text = text.split("\n---\n", 1)[1].split("\n## Exercises\n")[0]
    text = re.sub(r"^```\{(?:code-cell|literalinclude)\}.*?^```$|^\$\$.*?^\$\$.*?$", "", text, flags=re.S | re.M)
    return re.sub(r"^(\||:|```).*$|\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$\n]*\$", "", text, flags=re.M)


def raw_roles(text):
    """Roles that stand inside inline code, where they are shown and not filled in; blocks of code are left out."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1$", "", text, flags=re.S | re.M)
    inline = re.finditer(r"(\{[\w:]+\})?(?<!`)(`+)(?!`)(.+?)(?<!`)\2(?!`)", text)
    return [x[0] for x in inline if not x[1] and re.search(r"\{(?:glue|ref|numref|eq|term|doc|cite)\b", x[3])]


def test_a_role_inside_code_is_seen():
    assert raw_roles("after `{glue:text}`name`` it") == ["`{glue:text}`"]
    assert raw_roles("`` {glue:text}`a` ``, `x {ref}`") == ["`` {glue:text}`a` ``", "`x {ref}`"]
    assert raw_roles("*{glue:text}`a`* and {glue:text}`b:.2f` and `c`\n```\n`{ref}`\n```\n") == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("book/**/*.md")), ids=lambda page: page.stem)
def test_no_role_is_shown_raw(page):
    assert raw_roles(page.read_text()) == []


@pytest.mark.parametrize("chapter", chapters())
def test_sections_stand_in_the_templates_order(chapter):
    found = [x for x in re.findall(r"^## (.*)$", text_of(chapter), re.M) if x in HEADINGS]
    assert found == HEADINGS


@pytest.mark.parametrize("chapter", chapters())
def test_card_sizes_and_length(chapter):
    text = text_of(chapter)
    card = text.split("} In this chapter\n", 1)[1].split("\n:::", 1)[0]
    assert CARD.fullmatch(card), card
    lines = [len(c.source.splitlines()) for c in code_cells(chapter)]
    assert max(lines) <= 40 and statistics.median(lines) <= 12 and len(lines) >= 12
    words = len(re.findall(r"[A-Za-z][\w'’-]*", prose_of(text)))
    assert 1500 <= words <= 3000, words
    assert len(re.findall(r"^(?:[-*]|\d\.) ", section(text, "Summary"), re.M)) == 5
    assert "TODO" not in text and "FIXME" not in text


def test_the_front_page_promises_what_the_cards_say():
    page = (ROOT / "book" / "index.md").read_text()
    assert "most chapters take less than a minute on two laptop cores" in page
    seconds = [int(re.search(r"\*\*Time\*\*: about (\d+) s", text_of(chapter))[1]) for chapter in chapters()]
    assert sum(s < 60 for s in seconds) > len(seconds) / 2 and max(seconds) <= 90


@pytest.mark.parametrize("chapter", chapters())
def test_figures_are_named_captioned_said_and_announced(chapter):
    text, names = text_of(chapter), []
    before_exercises = text.split("\n## Exercises\n")[0]
    for cell in code_cells(chapter):
        if not DRAWS.search(cell.source) or cell.source not in before_exercises:
            continue
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        assert re.match(r"fig-[a-z]+-[a-z0-9-]+$", figure.get("name", "")), cell.source[:200]
        assert f'"{figure["name"].removeprefix("fig-")}"' in cell.source, figure["name"]
        assert re.match(r"[A-Z].{15,}?[.:] ", figure["caption"].replace("\n", " ")), figure["caption"]
        assert "alt" in cell.source
        assert isinstance(ast.parse(cell.source).body[-1], ast.Expr), f"{figure['name']}: its cell does not end with it"
        place = text.index(f"name: {figure['name']}\n")
        assert f"{{numref}}`{figure['name']}`" in text[:place], f"{figure['name']} is not announced before it appears"
        names.append(figure["name"])
    assert len(names) == len(set(names)) >= 3


@pytest.mark.parametrize("chapter", chapters())
def test_exercises_at_three_levels_with_hints_and_solutions(chapter):
    exercises = section(text_of(chapter), "Exercises")
    assert re.findall(r"\{exercise-start\} (\w+): \S", exercises) == ["check", "change", "extend"]
    assert len(re.findall(r"\*Hint", exercises)) >= 3
    labels = re.findall(r"\{exercise-start\}.*\n:label: (\S+)", exercises)
    assert re.findall(r"\{solution-start\} (\S+)\n(?::label: \S+\n)?:class: dropdown", exercises) == labels
    for solution in exercises.split("{solution-start}")[1:]:
        assert "{code-cell}" in solution.split("{solution-end}")[0]


@pytest.mark.parametrize("chapter", chapters())
def test_pitfalls_lead_to_the_ledger(chapter):
    trips = section(text_of(chapter), "Where people trip")
    assert 2 <= len(re.findall(r"^(?::::+|```)\{(?:admonition|warning)\}", trips, re.M)) <= 4
    assert re.search(r"/book/deviations|`row-|`[^`]*ledger-", trips)


def test_a_row_of_the_ledger_is_a_link_to_it():
    titles = re.findall(r"^\(row-[\w-]+\)=\n#+ (.*)$", (ROOT / "book" / "deviations.md").read_text(), re.M)
    assert len(titles) > 50
    named = "|".join(re.escape(title) for title in titles)
    plain = re.compile(rf"\"(?:{named})\" (?:in|are)|(?:rows?|ledger-\w+>`,) \*(?:{named})\*")
    assert plain.search('("Images of one class" in the ledger)') and plain.search("row *Padded tokens*")
    assert [chapter for chapter in chapters() if plain.search(text_of(chapter))] == []


@pytest.mark.parametrize("chapter", chapters())
def test_code_shown_is_included_from_the_package(chapter):
    shown = re.findall(r"\{literalinclude\} (\S+)\n:pyobject: (\S+)", text_of(chapter))
    assert shown and all(path.startswith("../../mpc_lite/") for path, _ in shown)
    for cell in code_cells(chapter):
        for path, name in shown:
            assert f"def {name}(" not in cell.source and f"class {name}(" not in cell.source, (path, name)
