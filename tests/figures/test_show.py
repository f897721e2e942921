"""What `show`, `slider`, `flip` and `explore` put on a page, and that nothing in it asks another host for anything."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure

from mpc_lite.errors import InputError
from mpc_lite.figures import show as show_module
from mpc_lite.figures.interactive import explore, flip, picture, slider
from mpc_lite.figures.show import live, raster, show

ALT = "three bars, each higher than the last"


def drawn(value=1.0):
    figure = Figure(figsize=(2, 1))
    _ = figure.subplots().plot([0, value])
    return figure


def frames(n=3):
    return [go.Figure([go.Bar(x=[1, 2], y=[i, 1])], layout={"title": {"text": f"frame {i}"}}) for i in range(n)]


def test_plotly_is_division_and_data_and_nothing_else():
    page = show(go.Figure([go.Bar(y=[1, 2])]), "loss-bars", ALT)._repr_html_()
    assert page.count("<script") == 1 and "src=" not in page and "http" not in page
    assert 'id="plotly-loss-bars"' in page and f'aria-label="{ALT}"' in page
    data = json.loads(re.search(r"const f = (\{.*\}); Plotly", page)[1])
    assert data["data"][0]["y"] == [1, 2] and data["layout"]["paper_bgcolor"] == "white"
    assert repr(show(go.Figure(), "loss-bars", ALT)) == "Interactive figure 'loss-bars'"


def test_a_live_notebook_fetches_plotly_once(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    assert live()
    assert "https://cdn.plot.ly/plotly-basic-" in show(go.Figure(), "loss-bars", ALT)._repr_html_()


def test_nobody_is_there_when_a_notebook_is_only_executed(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not live()
    monkeypatch.setitem(show_module.sys.modules, "google.colab", object())
    assert live()


def test_script_in_the_data_cannot_end_the_script():
    page = show(go.Figure(layout={"title": {"text": "</script><b>"}}), "loss-bars", ALT)._repr_html_()
    assert page.count("</script>") == 1


def test_too_large_a_figure_is_refused():
    big = go.Figure([go.Scatter(y=list(np.random.default_rng(0).random(40_000)))])
    with pytest.raises(ValueError, match="round or thin"):
        show(big, "loss-big", ALT)._repr_html_()


def test_slider_shows_one_frame_and_moves_titles():
    figure = slider(frames(), ["a", "b", "c"], "step ", active=1)
    assert [t.visible for t in figure.data] == [False, True, False]
    steps = figure.layout.sliders[0].steps
    assert [s.label for s in steps] == ["a", "b", "c"]
    assert steps[2].args[0] == {"visible": [False, False, True]} and steps[2].args[1]["title"]["text"] == "frame 2"
    assert figure.layout.title.text == "frame 1"
    with pytest.raises(ValueError, match="3 frames"):
        slider(frames(), ["a"])


def test_picture_is_small_and_true():
    image = np.zeros((8, 8), np.uint8)
    image[2:4] = 255
    uri = picture(image, width=64)
    assert uri.startswith("data:image/png;base64,") and len(uri) < 1000


def test_photographs_become_webp():
    figure = Figure(figsize=(4, 4))
    _ = figure.subplots().imshow(np.random.default_rng(0).random((400, 400, 3)))
    assert raster(drawn())[0] == "png"
    assert raster(figure)[0] == "webp"


def test_flip_is_linked_in_the_browser_and_each_picture_has_words():
    box = flip([drawn(1), drawn(2), drawn(3)], ["90", "70", "50"], "JPEG quality", "traces-quality", ALT)
    (handle, said), stack = box.children[0].children, box.children[1]
    assert handle.max == 2 and stack.selected_index == said.selected_index == 0
    assert "traces-quality" in " ".join(handle._dom_classes)
    for quality, shown in zip((90, 70, 50), stack.children, strict=True):
        assert f'alt="{ALT} Shown: JPEG quality {quality}."' in shown.value
    with pytest.raises(InputError, match="1 pictures and 2 labels"):
        flip([drawn()], ["a", "b"], "q", "x", ALT)


def test_explore_stands_side_by_side_on_a_page_and_slides_in_a_kernel(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    calls = []

    def panel(axes, value):
        calls.append(value)
        _ = axes.plot([0, value])

    shown = explore(panel, {"temperature": [0.1, 0.5, 1.0]}, "loss-explore", ALT)
    assert calls == [0.1, 0.5, 1.0] and [a.get_title(loc="left") for a in shown.figure.axes][:3] == [
        "temperature 0.1",
        "temperature 0.5",
        "temperature 1.0",
    ]
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    widget = explore(panel, {"temperature": [0.1, 0.5, 1.0]}, "loss-explore", ALT)
    assert widget.children[0].options == (0.1, 0.5, 1.0)
