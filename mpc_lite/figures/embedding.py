"""The map of pixel embeddings before and after stage 1, switchable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mpc_lite.figures.style import BLUE, ORANGE

NAMES = {"before": "before stage 1", "after": "after stage 1"}
CLASSES = [("authentic", BLUE, "circle-open"), ("tampered", ORANGE, "x")]


def embedding_map(images: Sequence[Mapping[str, Any]], first: str = "before") -> go.Figure:
    """Pixels of each image laid out by UMAP, with buttons for before or after and for the image.

    Args:
        images: the `maps` of `book_result("geometry")`; made by book/results/geometry.py.
        first: the state shown first, `before` or `after`.
    Returns:
        two traces (authentic, tampered) for each image and state; one pair is visible.
    """
    figure = go.Figure()
    states = [(image, when) for image in images for when in NAMES]
    for image, when in states:
        places, labels = np.array(image[when]), np.array(image["labels"])
        for label, (name, colour, symbol) in enumerate(CLASSES):
            x, y = places[labels == label].T
            marker = {"color": colour, "symbol": symbol, "size": 5}
            visible = image is images[0] and when == first
            figure.add_scatter(x=x, y=y, mode="markers", name=name, marker=marker, visible=visible, hoverinfo="skip")
    buttons = []
    for image, when in states:
        visible = [pair == (image["kind"], when) for pair in [(i["kind"], w) for i, w in states] for _ in CLASSES]
        title = {"title.text": _title(image, when)}
        label = f"{image['kind']}, {NAMES[when].split()[0]}"
        buttons.append({"label": label, "method": "update", "args": [{"visible": visible}, title]})
    active = list(NAMES).index(first)
    axis = {"showticklabels": False, "showgrid": False, "zeroline": False, "showline": True, "mirror": True}
    figure.update_layout(
        title={
            "text": _title(images[0], first),
            "font": {"size": 13},
            "x": 0.02,
            "y": 0.86,
            "yanchor": "bottom",
        },
        xaxis={**axis, "title": {"text": "UMAP 1, no unit"}},
        yaxis={**axis, "title": {"text": "UMAP 2, no unit"}},
        title_yanchor="bottom",
        legend={"orientation": "h", "y": -0.2},
        margin={"l": 40, "r": 10, "t": 95, "b": 60},
        height=480,
        updatemenus=[{"buttons": buttons, "active": active, "x": 0, "xanchor": "left", "y": 1.28, "yanchor": "top"}],
    )
    return figure


def _title(image: Mapping[str, Any], when: str) -> str:
    now, before = (image["purity"][key] for key in (when, "before"))
    words = f"{image['kind']}, {NAMES[when]}:<br>{now:.0%} of far neighbours share the label"
    return words if when == "before" else f"{words} (before: {before:.0%})"
