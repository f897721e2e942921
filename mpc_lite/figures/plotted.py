"""Plotly figures that move on a static page without a network, in Jupyter and in Colab.

What plotly itself writes is either a type of output that Jupyter Book does not know, or a page part that fetches
plotly.js and a second MathJax from elsewhere. `Plotted` writes the division and its data only: the book loads one copy
of plotly.js a page. Where a live kernel runs, the first figure fetches plotly.js once.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.offline import get_plotlyjs_version

from mpc_lite.figures.live import live

CONFIG = {"responsive": True, "displayModeBar": False}
LIMIT = 500_000  # bytes of one figure


class Plotted:
    """An interactive figure on a page; the plain text form is short and stable."""

    def __init__(self, figure: go.Figure, name: str, alt: str, caption: str = ""):
        self.figure, self.name, self.alt, self.caption = figure, name, alt, caption

    def __repr__(self) -> str:
        return f"Interactive figure '{self.name}'"

    def _repr_html_(self) -> str:
        figure = go.Figure(self.figure)
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


def _fetch() -> str:
    """Where nobody has loaded plotly.js: in a live notebook, from its publisher."""
    source = f"https://cdn.plot.ly/plotly-basic-{get_plotlyjs_version()}.min.js"
    return (
        ' else { const s = document.createElement("script"); s.onload = draw; '
        f"s.src = {json.dumps(source)}; document.head.appendChild(s); }}"
    )


def slider(frames: Sequence[go.Figure], labels: Sequence[str], prefix: str = "", active: int = 0) -> go.Figure:
    """One figure with a slider that switches between prepared figures.

    Args:
        frames: figures with the same number of traces of the same types; layout images, annotations and titles may
            differ, axes and size are taken from the first.
        labels: of the slider's steps, one a frame. prefix: shown before the label, as `temperature `.
        active: the frame shown first.
    """
    counts = {len(frame.data) for frame in frames}
    if len(frames) != len(labels) or len(counts) != 1:
        raise ValueError(f"{len(frames)} frames with {sorted(counts)} traces and {len(labels)} labels: expected equal")
    n = counts.pop()
    figure = go.Figure(layout=frames[0].layout)
    for i, frame in enumerate(frames):
        for trace in frame.data:
            figure.add_trace(trace)
            figure.data[-1].visible = i == active
    steps = []
    for i, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        shown = [j // n == i for j in range(n * len(frames))]
        layout = frame.layout.to_plotly_json()
        moves: dict[str, Any] = {key: layout[key] for key in ("images", "annotations", "title") if key in layout}
        steps.append({"label": label, "method": "update", "args": [{"visible": shown}, moves]})
    first = frames[active].layout
    figure.update_layout(
        images=first.images,
        annotations=first.annotations,
        title=first.title,
        sliders=[{"active": active, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 40}}],
    )
    return figure


def picture(image: np.ndarray, width: int | None = None, colours: int | None = 64) -> str:
    """An image as a data URI for a layout image: (H,W) or (H,W,3) uint8; enlarged to `width` by repeating pixels.

    With `colours` the picture is stored with a palette of that many colours, which keeps a slider's frames small.
    """
    file = Image.fromarray(image)
    if width is not None:
        file = file.resize((width, round(width * image.shape[0] / image.shape[1])), Image.Resampling.NEAREST)
    if colours is not None:
        file = file.convert("RGB").quantize(colours)
    data = io.BytesIO()
    file.save(data, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
