"""The notation page knows every letter of the chapters' numbered equations, and says none that they spell otherwise."""

import re

import pytest

from tests.book.site_under_test import ROOT, chapters

NOTATION = ROOT / "book" / "notation.md"
GREEK = (
    "alpha|beta|gamma|delta|varepsilon|epsilon|theta|lambda|Lambda|mu|nu|xi|pi|rho|sigma|tau|phi|psi|omega|Omega|Delta|"
    "Sigma|eta|ell|Theta|Gamma|Phi"
)
BRACES = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
WORDS = re.compile(r"\\(?:text|mathrm|mathsf|operatorname|textbf|texttt)\*?\s*(?:\{[^{}]*\}|\w)")
BELOW = re.compile(rf"_(?:{BRACES}|\\[a-zA-Z]+|\w)|'")
LARGE = re.compile(rf"\\(?:sum|prod|max|min|log|bigcup)\s*_(?:{BRACES}|\\?\w+)")
# d of an integral and of a derivative, e of a power, π of a cosine: no table needs to tell them.
KNOWN = {"d", "e", r"\pi"}


def letters(tex: str, indices: bool = False) -> set[str]:
    """The letters of a formula: Latin, Greek (with their backslash), and those of an alphabet (`\\mathcal S`).

    What stands below a letter is left out unless `indices`: it counts or names.
    """
    tex = WORDS.sub(" ", tex)
    if not indices:
        tex = BELOW.sub(" ", LARGE.sub(" ", tex))
    tex = tex.replace("^", "").replace("_", " ")
    alphabet = r"\\(mathcal|mathbb|mathbf)\s*\{?(\w)\}?"
    found = {f"\\{a} {letter}" for a, letter in re.findall(alphabet, tex)}
    tex = re.sub(alphabet, " ", tex)
    found |= {f"\\{name}" for name in re.findall(rf"\\({GREEK})(?![a-zA-Z])", tex)}
    return found | set(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", re.sub(r"\\[a-zA-Z]+", " ", tex)))


def equations(text: str) -> dict[str, str]:
    """label -> formula of each numbered equation."""
    return {m[2]: m[1] for m in re.finditer(r"\$\$((?:(?!\$\$).)*?)\$\$ \((eq-[\w-]+)\)", text, re.DOTALL)}


def sections() -> list[str]:
    return re.split(r"^## ", NOTATION.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def symbols(section: str) -> set[str]:
    """The letters in the first two columns of a section's table: the symbols, and those their meaning brings in."""
    cells = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")]
    return {x for pair in cells for tex in re.findall(r"\$([^$]+)\$", " ".join(pair)) for x in letters(tex, True)}


def test_the_letters_of_a_formula():
    assert letters(r"M = \mathrm{weights} + 12\,|\theta| + K_{\text{fwd}} + L_a") == {"M", r"\theta", "K", "L"}
    assert letters(r"\frac{1}{N}\sum_{p=1}^{P} \nabla \ell_{p,a}") == {"N", "P", r"\ell"}
    assert letters(r"\mathcal S_{p,a}^{\mathsf T}") == {r"\mathcal S"}
    assert letters("w_{i,j}") == {"w"} and letters("w_{i,j}", indices=True) == {"w", "i", "j"}
    assert equations("$$\nx = 1\n$$ (eq-a-b)\ntext\n$$ y $$ (eq-c)") == {"eq-a-b": "\nx = 1\n", "eq-c": " y "}


@pytest.mark.parametrize(("chapter", "number"), [(c, i) for i, c in enumerate(chapters(), start=1)])
def test_every_letter_of_a_chapters_equations_is_in_its_table(chapter, number):
    text = (ROOT / f"{chapter}.md").read_text(encoding="utf-8")
    table = sections()
    assert f"{{ref}}`{re.search(r'^[(](ch-[a-z]+)[)]=$', text, re.M)[1]}`" in table[number]
    known = symbols(table[0]) | symbols(table[number]) | KNOWN
    found = {label: letters(tex) - known for label, tex in equations(text).items()}
    assert {label: unknown for label, unknown in found.items() if unknown} == {}


@pytest.mark.parametrize(("chapter", "number"), [(c, i) for i, c in enumerate(chapters(), start=1)])
def test_a_table_has_no_letter_that_its_chapter_never_writes(chapter, number):
    text = (ROOT / f"{chapter}.md").read_text(encoding="utf-8")
    written = {x for tex in re.findall(r"\$+([^$]+)\$+", text) for x in letters(tex, True)}
    plain = set(re.findall(r"(?<![A-Za-z\\])[A-Za-zα-ωΑ-Ω](?![A-Za-z])", text))  # K, π or h outside formulas
    greek = {rf"\{name}" for name, sign in zip(SPELT, SIGNS, strict=True) if sign in plain}
    rows = [line.split("|")[1] for line in sections()[number].splitlines() if line.startswith("|")]
    said = {x for cell in rows for tex in re.findall(r"\$([^$]+)\$", cell) for x in letters(tex)}
    assert said - written - plain - greek == set()


SPELT, SIGNS = ("alpha", "gamma", "delta", "theta", "mu", "pi", "rho", "sigma", "tau", "Delta"), "αγδθμπρστΔ"
