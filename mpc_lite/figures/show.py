"""A figure on a page, with its alt text, and the licence of the pictures in it."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures.style import DPI

# Sources whose pictures may be published: generated from the photographs in scikit-image and scikit-learn (public
# domain, CC0, CC BY 2.0; credited in NOTICE) and from dead leaves, which are nobody's. A source may carry "-KIND".
FREE_SOURCES = ("generated", "packaged", "dead_leaves", "clothing")


CONFIG = {"responsive": True, "displayModeBar": False}
LIMIT = 500_000  # bytes of one figure
KINDS = ("bar", "pie", "scatter")  # of trace that the book's copy of plotly.js can draw; another comes out as a line


class Shown:
    """A figure on a page: HTML with the picture inside and its alt text; the plain text form is short and stable."""

    def __init__(self, figure: Figure, name: str, alt: str, caption: str = ""):
        self.figure, self.name, self.alt, self.caption = figure, name, alt, caption

    def __repr__(self) -> str:
        return f"Figure '{self.name}'"

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure id="figure-{self.name}" style="margin:0">{self._image()}{caption}</figure>'

    def _image(self) -> str:
        kind, data = raster(self.figure)
        code = base64.b64encode(data).decode()
        style = "max-width:100%;height:auto;background:white"
        return f'<img src="data:image/{kind};base64,{code}" alt="{html.escape(self.alt)}" style="{style}">'


class Plotted:
    """A plotly figure that moves on a static page without a network, in Jupyter and in Colab; its plain text is short.

    What plotly itself writes is either a type of output that Jupyter Book does not know, or a page part that fetches
    plotly.js and a second MathJax from elsewhere. This writes the division and its data only: the book loads one copy
    of plotly.js a page. Where a live kernel runs, the first figure fetches plotly.js once.
    """

    def __init__(self, figure: Any, name: str, alt: str, caption: str = ""):
        self.figure, self.name, self.alt, self.caption = figure, name, alt, caption

    def __repr__(self) -> str:
        return f"Interactive figure '{self.name}'"

    def _repr_html_(self) -> str:
        import plotly.graph_objects as go  # needed for the book only

        figure = go.Figure(self.figure)
        if strange := sorted({trace.type for trace in figure.data} - set(KINDS)):
            raise ValueError(f"figure '{self.name}' has {strange}; the book's plotly.js draws only {', '.join(KINDS)}")
        figure.layout.template = None  # the style below, not 6 kB of defaults with every figure
        figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font={"size": 12, "color": "#222"})
        figure.update_xaxes(gridcolor="#ddd", linecolor="#444", automargin=True)
        figure.update_yaxes(gridcolor="#ddd", linecolor="#444", automargin=True)
        data = figure.to_json().replace("</", "<\\/")
        if len(data) > LIMIT:
            raise ValueError(
                f"figure '{self.name}' has {len(data)} bytes, the limit is {LIMIT}: round or thin its data"
            )
        here = f"plotly-{self.name}"
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        height = self.figure.layout.height or 420
        return (
            f'<figure id="figure-{self.name}" class="plotted" style="margin:0">'
            f'<div id="{here}" role="img" aria-label="{html.escape(self.alt)}" style="min-height:{height}px;'
            f'background:white;color:#222">{html.escape(self.alt)} <em>Run this cell to make it move.</em></div>'
            f"<script>(() => {{ const draw = () => {{ const at = document.getElementById({json.dumps(here)}); "
            f'if (at) {{ at.textContent = ""; const f = {data}; '
            f"Plotly.newPlot(at, f.data, f.layout, {json.dumps(CONFIG)}); }} }}; "
            f"if (window.Plotly) draw();{_fetch() if live() else ''} }})();</script>{caption}</figure>"
        )


@dataclass(frozen=True)
class Scripted:
    """A figure that a script of the package draws and moves: in the book, in Jupyter and in Colab, without a network.

    code: body of a function of `at`, the element to fill, and `data`. data: JSON. `show` puts it on a page.
    """

    code: str
    data: Mapping[str, Any]


class Played(Shown):
    """A `Scripted` figure on a page: a white card with its script; its plain text is short and stable."""

    def __repr__(self) -> str:
        return f"Interactive figure '{self.name}'"

    def _image(self) -> str:
        here, data = json.dumps(f"scripted-{self.name}"), json.dumps(self.figure.data)
        code = (
            f"const at = document.getElementById({here}); at.textContent = ''; const data = {data};\n{self.figure.code}"
        )
        alt = html.escape(self.alt)
        return (
            f'<div id={here} class="scripted" role="group" aria-label="{alt}" style="background:white;color:#222;'
            f'padding:.5rem;font-size:14px">{alt} <em>Run this cell to make it move.</em></div>'
            f"<script>(() => {{ {code.replace('</', '<' + chr(92) + '/')} }})();</script>"
        )


def _fetch() -> str:
    """Where nobody has loaded plotly.js: in a live notebook, from its publisher."""
    from plotly.offline import get_plotlyjs_version

    source = f"https://cdn.plot.ly/plotly-basic-{get_plotlyjs_version()}.min.js"
    return (
        ' else { const s = document.createElement("script"); s.onload = draw; '
        f"s.src = {json.dumps(source)}; document.head.appendChild(s); }}"
    )


def live() -> bool:
    """True in Colab, Jupyter and VS Code; False where a notebook is only executed (papermill, the book's build).

    Jupyter's server names the session to its kernels, VS Code leaves a variable in the notebook; the tools that execute
    notebooks do neither.
    """
    if "google.colab" in sys.modules or "JPY_SESSION_NAME" in os.environ:
        return True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and "__vsc_ipynb_file__" in shell.user_ns


def raster(figure: Figure, limit: int = 250_000, quality: int = 92) -> tuple[str, bytes]:
    """A figure as PNG, or as WebP of a quality where photographs make the PNG larger than `limit` bytes."""
    for kind, options in [("png", {"metadata": {"Software": None}}), ("webp", {"pil_kwargs": {"quality": quality}})]:
        data = io.BytesIO()
        figure.savefig(data, format=kind, dpi=DPI, facecolor="white", **options)
        if data.tell() <= limit:
            break
    return kind, data.getvalue()


def show(fig: Any, name: str, alt: str, caption: str = "") -> Any:
    """Put a figure on a page of the book or of a notebook.

    Args:
        fig: a matplotlib or a plotly figure, or a `Scripted` one; the last two stay interactive on a static page.
        name: unique on its page; letters, digits and hyphens.
        alt: one or two sentences that say what the data show, for readers who do not see the picture.
        caption: shown below the picture, the take-away first; pages of the book set theirs in the cell's metadata.
    Raises:
        InputError: a name that cannot be an identifier, or an alt text too short to say anything.
    """
    if not name or not all(c.isalnum() or c == "-" for c in name):
        raise InputError(f"figure name '{name}': use letters, digits and hyphens")
    if len(alt.split()) < 4:
        raise InputError(f"figure '{name}': the alt text {alt!r} says too little; tell what the data show")
    if isinstance(fig, Scripted):
        return Played(fig, name, alt, caption)
    if isinstance(fig, Figure):
        return Shown(fig, name, alt, caption)
    return Plotted(fig, name, alt, caption)


def check_licence(sources: Sequence[str], out: str | Path | None = None) -> None:
    """Refuse pictures that may not be published, unless they stay in a run folder.

    Args:
        sources: `source` of each picture, as in its manifest (`generated-splice`, `casia`, …).
        out: where the figure will lie; a path below a folder `runs`, which git ignores, may hold any picture.
    Raises:
        InputError: a source whose licence is not known to allow publication.
    """
    if out is not None and "runs" in Path(out).resolve().parts:
        return
    for source in sources:
        if not any(source == free or source.startswith(f"{free}-") for free in FREE_SOURCES):
            raise InputError(
                f"pictures of '{source}' may not be published (allowed: {', '.join(FREE_SOURCES)}); "
                "show numbers and curves instead, or keep the figure below runs/"
            )
