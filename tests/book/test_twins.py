"""The notebooks beside the chapters: made from their sources, executed, and fit to be compared by nbval."""

import copy
import re

import jupytext
import make_twins
import nbformat
import pytest
from labels import ROOT, chapters, read_book
from twin_checks import equation_labels, problems

from mpc_lite.errors import InputError

CONFIG = ROOT / "book" / "tools" / "twins" / "nbval_sanitise.cfg"
CHAPTERS = chapters()


@pytest.fixture(scope="module")
def book():
    return read_book()


def twin(source):
    """(the committed notebook, the labels of its source's equations)."""
    assert source.with_suffix(".ipynb").is_file(), f"{source.name} has no notebook beside it"
    labels = equation_labels(jupytext.read(source))
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4), labels


# --- all that are committed -----------------------------------------------------------------------------------------


def test_there_are_chapters():
    assert len(CHAPTERS) >= 7 and all(source.is_file() for source in CHAPTERS)
    here = {path.with_suffix(".md") for path in (ROOT / "book").glob("part*/*.ipynb")}
    assert here == set(CHAPTERS), "each chapter has a notebook, and each notebook a chapter in _toc.yml"


@pytest.mark.slow
@pytest.mark.parametrize("source", make_twins.sources(), ids=lambda p: p.stem)
def test_the_twin_is_that_of_its_source(source, book):
    difference = make_twins.drift(source, book)
    if difference:
        pytest.fail(difference, pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)
def test_comparing_the_twin_means_something(source):
    notebook, labels = twin(source)
    nbformat.validate(notebook)
    assert problems(notebook, labels) == []


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)
def test_the_twin_carries_no_traces_of_its_making(source):
    notebook, _ = twin(source)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "widgets"}
    assert notebook.metadata.kernelspec.name == "python3" and notebook.metadata.language_info == {"name": "python"}
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert not [cell.id for cell in notebook.cells if {"papermill", "execution"} & set(cell.metadata)]


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)
def test_no_number_is_told_twice_by_one_name(source):
    """The text would show the last one, and the book's builder takes it for a mistake."""
    cells = twin(source)[0].cells
    told = [
        o.metadata.scrapbook.name for c in cells for o in c.get("outputs", []) if "scrapbook" in o.get("metadata", {})
    ]
    assert sorted(told) == sorted(set(told))


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)
def test_nothing_of_the_books_markup_is_left(source):
    for cell in twin(source)[0].cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(```+).*?^\1$|`[^`\n]+`", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            raw = re.findall(r"\{[a-z:]+\}`|^\s*:{3}|^\([\w-]+\)=|`{3}\{|⟨[\w-]+⟩|\$\$ *\(", prose, re.MULTILINE)
            assert raw == [], cell.source[:200]


# --- the checks themselves: each must see the fault that it is for --------------------------------------------------


@pytest.fixture
def good():
    """A small twin without faults."""
    cells = [nbformat.v4.new_markdown_cell("# Title\n\nSee https://example.org/home/page.")]
    for position, (source, tags) in enumerate(
        [
            ("pass", ["bootstrap"]),
            ("SEED: int = 0", ["parameters"]),
            ("print(1)", ["nbval-check-output", "checks-eq-a"]),
            ("print(2)", ["nbval-check-output"]),
            ("3", ["nbval-check-output", "checks-eq-b"]),
        ],
        1,
    ):
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags}, execution_count=position)
        cells.append(cell)
    for cell in cells[3:5]:
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    cells[5].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=5)]
    return nbformat.v4.new_notebook(cells=cells)


def _strip(notebook):
    for cell in notebook.cells[1:]:
        cell.outputs, cell.execution_count = [], None


def _put(cell, output, **content):
    cell.outputs.append(nbformat.v4.new_output(output, **content))


RECORD = {"data": {"application/papermill.record/text/plain": "0.5"}}
FAULTS = {
    "not executed": (_strip, "execution count None"),
    "outputs cleared": (lambda n: [c.update(outputs=[]) for c in n.cells[1:]], "0 cells with the tag"),
    "one cell without output": (lambda n: n.cells[3].update(outputs=[]), "has no text output: print(1)"),
    "only a record": (lambda n: (n.cells[4].update(outputs=[]), _put(n.cells[4], "display_data", **RECORD)), "no text"),
    "order": (lambda n: n.cells[2].update(execution_count=7), "execution count 7"),
    "error": (lambda n: _put(n.cells[2], "error", ename="ValueError", evalue="", traceback=[]), "ValueError"),
    "stderr": (lambda n: _put(n.cells[2], "stream", name="stderr", text="a warning"), "stderr: a warning"),
    "tag removed": (lambda n: n.cells[4].metadata.tags.clear(), "2 cells with the tag"),
    "equation unchecked": (lambda n: n.cells[5].metadata.tags.pop(), "checks-eq-b"),
    "parameters gone": (lambda n: n.cells[2].metadata.tags.clear(), "parameters"),
    "path in an output": (lambda n: _put(n.cells[2], "stream", name="stdout", text="in /home/me/x"), "/home/me"),
    "path in a page": (lambda n: n.cells[0].update(source="`/home/x.py`"), "/home/x.py"),
    "path of Windows": (lambda n: _put(n.cells[2], "stream", name="stdout", text="C:\\Users\\x"), "C:"),
    "unfinished": (lambda n: n.cells[0].update(source="TODO: explain"), "'TODO'"),
    "empty": (lambda n: n.update(cells=n.cells[:1]), "no code cell"),
}


def test_a_good_notebook_passes(good):
    assert problems(good, ["eq-a", "eq-b"]) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen(good, fault):
    change, words = FAULTS[fault]
    change(good)
    assert [p for p in problems(good, ["eq-a", "eq-b"]) if words in p], problems(good, ["eq-a", "eq-b"])


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)
def test_a_stripped_chapter_is_seen(source):
    notebook, labels = twin(source)
    stripped = copy.deepcopy(notebook)
    for cell in stripped.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    code = sum(cell.cell_type == "code" for cell in stripped.cells)
    assert len(problems(stripped, labels)) >= code + len(labels) + 1


# --- from source to twin --------------------------------------------------------------------------------------------

SOURCE = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
(ch-tiny)=
# Tiny

$$ a = b $$ (eq-tiny-a)

```{code-cell} ipython3
:tags: [parameters]
SEED: int = 0
```

It is {glue:text}`half:.1f`.

```{code-cell} ipython3
---
tags: [nbval-check-output, checks-eq-tiny-a]
mystnb: {figure: {caption: "By {eq}`eq-tiny-a`.", name: fig-tiny-a}}
---
import ipywidgets, os
from mpc_lite.notebook import begin
begin("smoke", SEED).tell("half", 0.54)
print(os.path.basename(os.getcwd()), end="")
print("!")
ipywidgets.IntSlider()
```
"""


@pytest.fixture
def tiny(tmp_path):
    """(source of a chapter, function that reads its book) in a root of its own."""
    (tmp_path / "book" / "part1-a").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    source = tmp_path / "book" / "part1-a" / "03-tiny.md"
    source.write_text(SOURCE)
    return source, lambda: read_book(root=tmp_path)


@pytest.mark.slow
def test_a_chapter_from_source_to_twin(tiny):
    source, read = tiny
    assert len(make_twins.make(source, read())) == 1, "only: too few checked cells"
    first = source.with_suffix(".ipynb").read_bytes()
    notebook = nbformat.reads(first.decode(), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.metadata.tags[0] for cell in code] == ["bootstrap", "parameters", "nbval-check-output"]
    assert code[2].outputs[1].text == "part1-a!\n", "executed in the chapter's folder; streams are whole"
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert text == ["# Tiny\n\n$$\na = b\n\\tag{3.1}\n$$", "It is 0.5.", "**Figure 3.1.** By (3.1)."]
    assert make_twins.drift(source, read()) == ""
    make_twins.make(source, read(), text_only=True)
    assert source.with_suffix(".ipynb").read_bytes() == first
    make_twins.make(source, read())
    assert source.with_suffix(".ipynb").read_bytes() == first, "a second run makes the same file, widgets included"

    # What changes later is seen, and prose can be mended without running anything.
    for old, new in [("It is", "It was"), ("half:.1f", "half:.2f"), ("SEED: int = 0", "SEED: int = 1")]:
        source.write_text(SOURCE.replace(old, new))
        assert "mend with" in make_twins.drift(source, read()), new
    with pytest.raises(InputError, match="execute it"):
        make_twins.make(source, read(), text_only=True)
    source.write_text(SOURCE.replace("a = b", "a = c"))
    make_twins.make(source, read(), text_only=True)
    assert make_twins.drift(source, read()) == ""
    notebook.cells[-1].source = "**Figure 3.2.** By hand."
    make_twins.write(source.with_suffix(".ipynb"), notebook)
    assert "-**Figure 3.2.** By hand." in make_twins.drift(source, read())
    source.with_suffix(".ipynb").unlink()
    with pytest.raises(InputError, match=r"no 03-tiny\.ipynb"):
        make_twins.drift(source, read())


def test_a_reference_that_leads_nowhere_stops_the_work_before_anything_runs(tiny):
    source, read = tiny
    source.write_text(SOURCE.replace("It is", "It is {ref}`ch-nowhere`, {cite:t}`nobody`"))
    with pytest.raises(InputError, match=r"03-tiny\.md:14: no label 'ch-nowhere'[^$]*no 'nobody' in"):
        make_twins.make(source, read())
    assert not source.with_suffix(".ipynb").exists()


@pytest.mark.slow
def test_a_number_that_no_cell_tells_is_an_error(tiny):
    source, read = tiny
    make_twins.make(source, read())
    source.write_text(SOURCE.replace("half:.1f", "third:.1f"))
    with pytest.raises(InputError, match=r"no cell tells the number 'third' \(told are: half\)"):
        make_twins.make(source, read(), text_only=True)
