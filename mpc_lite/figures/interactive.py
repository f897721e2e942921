"""Figures and widgets that a reader moves: linked in the page itself, or served by a live kernel."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.figures.show import live, raster, show
from mpc_lite.figures.style import WIDTH


def flip(figures: Sequence[Figure], labels: Sequence[str], prefix: str, name: str, alt: str, active: int = 0) -> Any:
    """A slider over prepared pictures, linked in the browser: it works on the static page and needs no kernel.

    Args:
        figures: matplotlib figures of the same size, at most a dozen. labels: what the slider says, one a picture.
        prefix: what is varied, as `JPEG quality`. name, alt: as for `figures.show`.
    Returns:
        an ipywidgets box: `show` it by leaving it as the last expression of the cell.
    """
    import ipywidgets as widgets

    if len(figures) != len(labels) or len(figures) > 12:
        raise InputError(f"flip '{name}': {len(figures)} pictures and {len(labels)} labels; expected equal, at most 12")
    pictures = []
    for figure, label in zip(figures, labels, strict=True):
        kind, data = raster(figure, limit=60_000, quality=85)  # a dozen pictures lie in one page
        code = base64.b64encode(data).decode()
        words = html.escape(f"{alt} Shown: {prefix} {label}.")
        pictures.append(
            widgets.HTML(
                f'<img src="data:image/{kind};base64,{code}" alt="{words}" style="max-width:100%;height:auto">'
            )
        )
    stack = widgets.Stack(pictures, selected_index=active)
    captions = widgets.Stack([widgets.HTML(f"{html.escape(prefix)} <b>{html.escape(x)}</b>") for x in labels])
    captions.selected_index = active
    handle = widgets.IntSlider(
        active, 0, len(figures) - 1, readout=False, layout={"width": "60%", "min_width": "160px"}
    )
    handle.add_class(f"slider-{name}")
    widgets.jslink((handle, "value"), (stack, "selected_index"))
    widgets.jslink((handle, "value"), (captions, "selected_index"))
    return widgets.VBox([widgets.HBox([handle, captions]), stack])


def explore(panel: Callable[..., None], values: dict[str, Sequence[Any]], name: str, alt: str) -> Any:
    """Draw `panel(axes, value)` for a value that the reader chooses.

    With a live kernel a slider calls `panel` anew; on a page, where no kernel answers, all values stand side by side.

    Args:
        panel: draws on matplotlib Axes for one value. values: one name and its values, at most eight.
        name, alt: as for `figures.show`.
    """
    ((key, options),) = values.items()
    if live():
        import ipywidgets as widgets

        def draw(value: Any) -> Any:
            figure = Figure(figsize=(WIDTH, 0.75 * WIDTH), layout="constrained")
            panel(figure.subplots(), value)
            return show(figure, name, alt)

        return widgets.interactive(draw, value=widgets.SelectionSlider(options=list(options), description=key))
    columns = 2
    rows = -(-len(options) // columns)
    figure = Figure(figsize=(WIDTH, 0.5 * WIDTH * rows), layout="constrained")
    for axes, value in zip(figure.subplots(rows, columns, squeeze=False).flat, options, strict=False):
        panel(axes, value)
        axes.set_title(f"{key} {value}", fontsize=10, loc="left")
    for axes in figure.axes[len(options) :]:
        axes.set_axis_off()
    return show(figure, name, alt)


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
        visible = [j // n == i for j in range(n * len(frames))]
        layout = frame.layout.to_plotly_json()
        moves: dict[str, Any] = {key: layout[key] for key in ("images", "annotations", "title") if key in layout}
        steps.append({"label": label, "method": "update", "args": [{"visible": visible}, moves]})
    first = frames[active].layout
    figure.update_layout(
        images=first.images,
        annotations=first.annotations,
        title=first.title,
        sliders=[{"active": active, "steps": steps, "currentvalue": {"prefix": prefix}, "pad": {"t": 60, "b": 10}}],
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


def behind(source: str, width: float, height: float, axes: str = "") -> dict[str, Any]:
    """A layout image that fills the area of `width` × `height` from the origin of axes x, y (or x2, y2 by "2")."""
    place = {"xref": f"x{axes}", "yref": f"y{axes}", "x": 0, "y": 0, "sizex": width, "sizey": height}
    return {"source": source, **place, "sizing": "stretch", "layer": "below"}
