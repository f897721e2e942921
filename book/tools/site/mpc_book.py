"""What the book asks of Sphinx beyond `_config.yml`: buttons that need the repository's address, the way to each
chapter's notebook, code that fits the page, docstrings as text, and chapters numbered as their files are."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector

sys.path.insert(0, str(Path(__file__).parents[1] / "twins"))
from code_lines import hanging
from first_uses import with_first_uses
from labels import CHAPTER, project, repository
from notebook_links import copy_notebooks, has_notebook, with_links
from sources import copy_results, with_sources


def add_buttons(app: Sphinx, config: Config) -> None:
    """The theme's options: the logo, one search box, and buttons that need the repository's address where it is known.

    The sidebar has a search box; the theme would put a second one above the page. Colab opens the notebook beside the
    chapter.
    """
    logos = {f"image_{theme}": f"book/assets/front/logo-{theme}.svg" for theme in ("light", "dark")}
    config.html_theme_options |= {"navbar_persistent": [], "logo": {**logos, "text": config.html_title}}
    facts = project()
    if address := repository(facts):
        config.html_theme_options |= {
            "repository_url": address,
            "repository_branch": f"v{facts['version']}",
            "use_repository_button": True,
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        }


def finish_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Code that fits the page, files and words with several meanings linked, a way to the notebook below the title."""
    if "body" in context:
        context["body"] = hanging(context["body"])
        context["body"] = with_sources(context["body"], page, Path(app.srcdir), project())
        if CHAPTER.match(page.rpartition("/")[2]):
            context["body"] = with_first_uses(context["body"], page)
        if has_notebook(page, Path(app.srcdir)):
            context["body"] = with_links(context["body"], page, project())


def add_notebooks(app: Sphinx, error: Exception | None) -> None:
    """The notebooks and the results beside the pages, as the pages' links say."""
    if error is None and app.builder.format == "html":
        copy_results(Path(app.srcdir), Path(app.outdir))
        copy_notebooks(sorted(app.env.found_docs), Path(app.srcdir), Path(app.outdir))


def as_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with formulas and aligned columns: paragraphs become prose, what is laid out stays."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")) if block.strip()]
    written, kept = [], []
    for i, block in enumerate(blocks):
        if i and _laid_out(block):
            kept += [*(f"   {line}" for line in block), ""]
            continue
        written += [".. code-block:: text", "", *kept] if kept else []
        kept = []
        for line in block:
            parts = re.split(r"(``[^`]+``|`[^`]+`)", line.strip())
            marked = [p if p.startswith("``") else f"`{p}`" if p.startswith("`") else _escape(p) for p in parts]
            written.append("".join(marked))
        written.append("")
    lines[:] = [*written, *([".. code-block:: text", "", *kept] if kept else [])]


def _laid_out(block: list[str]) -> bool:
    """Whether a paragraph of a docstring means its columns: a section with indented lines, a table, a formula."""
    return any(re.match(r"\s|[-*|]|\d+\.|\w+: ", line) or re.search(r"\S {2,}\S|::|:$|[=<>{}]", line) for line in block)


def skip_settings(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what pydantic's classes carry all alike: their settings say nothing about a recipe."""
    return True if name == "model_config" else None


def _escape(text: str) -> str:
    return re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", text)


def number_by_file(env: BuildEnvironment) -> None:
    """Give each chapter, and everything in it, the number that its file begins with: parts still to be written leave
    gaps, and a later chapter keeps its number when they are filled. Sphinx itself counts on without gaps."""
    for page, anchors in env.toc_secnumbers.items():
        match = CHAPTER.match(page.rpartition("/")[2])
        if not match:
            continue
        chapter = int(match[1])
        for anchor, number in anchors.items():
            anchors[anchor] = (chapter, *number[1:]) if number else number
        for node in (env.titles[page], *env.tocs[page].findall(nodes.reference)):
            if number := node.get("secnumber"):  # headings below the numbered depth have none
                node["secnumber"] = (chapter, *number[1:])


def _number_after(collector: type[TocTreeCollector]) -> None:
    """Let `number_by_file` follow Sphinx's own counting, before figures are counted: no event stands there."""
    count = collector.assign_section_numbers

    def assign_section_numbers(self: TocTreeCollector, env: BuildEnvironment) -> list[str]:
        changed = count(self, env)
        number_by_file(env)
        return changed

    collector.assign_section_numbers = assign_section_numbers


def setup(app: Sphinx) -> dict[str, Any]:
    # Before autodoc does, which imports as for type checkers: pydantic then misses names that its models need.
    import_module("mpc_lite.neighbours.pppc.stage")
    # After Jupyter Book has set the theme's options, before the theme reads them.
    app.connect("config-inited", add_buttons, priority=400)
    app.connect("autodoc-process-docstring", as_text)
    app.connect("autodoc-skip-member", skip_settings)
    app.connect("html-page-context", finish_page)
    app.connect("build-finished", add_notebooks)
    # The collector in charge: the one of the table of contents' extension where it brings its own.
    _number_after(next(iter(TocTreeCollector.__subclasses__()), TocTreeCollector))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
