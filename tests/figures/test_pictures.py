"""Figures are checked by the data they draw; pictures by whose they are."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mpc_lite.errors import InputError
from mpc_lite.figures.pictures import gallery, training_curves
from mpc_lite.figures.show import check_licence, show
from mpc_lite.inference.overlay import painted

LOG = [
    *({"stage": "pretrain", "step": s, "steps": 40, "loss": 40.0 / s, "learning_rate": 1e-3} for s in range(1, 41)),
    {"stage": "pretrain", "step": 20, "steps": 40, "validation": {"f1": 0.2, "iou": 0.1, "score": 0.15}},
    {"stage": "pretrain", "step": 40, "steps": 40, "validation": {"f1": 0.4, "iou": 0.3, "score": 0.35}},
    *({"stage": "finetune", "step": s, "steps": 3, "loss": 1.0 - s / 10} for s in (1, 2, 3)),
]


def test_training_curves_draw_the_log():
    axes = training_curves(LOG).axes
    assert [a.get_title("left") for a in axes] == [
        "stage 1, contrastive loss",
        "stage 1, validation (clusters, stride 4)",
        "stage 2, focal loss",
    ]
    raw, smooth = axes[0].lines
    assert list(raw.get_xdata()) == list(range(1, 41))
    np.testing.assert_allclose(raw.get_ydata(), [40.0 / s for s in range(1, 41)])
    window = [np.mean([40.0 / k for k in range(max(1, s - 1), min(40, s + 1) + 1)]) for s in range(1, 41)]
    np.testing.assert_allclose(smooth.get_ydata(), window)
    assert {line.get_label(): list(line.get_ydata()) for line in axes[1].lines} == {"F1": [0.2, 0.4], "IoU": [0.1, 0.3]}
    assert all(a.get_xlabel() == "step" for a in axes)


def test_each_stage_says_what_its_validation_measures():
    log = [{"stage": "finetune", "step": 1, "steps": 1, "validation": {"f1": 0.2, "authentic_marked": 0.1}}]
    (axes,) = training_curves(log).axes
    assert axes.get_title("left") == "stage 2, validation (crops, > 0.5)"
    assert [line.get_label() for line in axes.lines] == ["F1", "marked in authentic images"]
    assert training_curves([{**log[0], "stage": "own"}]).axes[0].get_title("left") == "own, validation"


def test_curves_are_told_apart_without_colour():
    lines = training_curves(LOG).axes[1].lines
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(lines)


def test_of_a_lost_log_a_sentence_is_drawn_and_the_report_goes_on():
    figure = training_curves([])
    assert [text.get_text() for text in figure.texts] == ["the training log is empty: its curves are lost"]
    assert not figure.axes


@pytest.mark.slow
def test_show_puts_picture_alt_and_caption_on_the_page():
    shown = show(training_curves(LOG), "training", 'F1 rises from 0.2 to 0.4 "at the end" & stays', "It rises.")
    page = shown._repr_html_()
    assert page == shown._repr_html_()  # the same bytes every time
    assert 'alt="F1 rises from 0.2 to 0.4 &quot;at the end&quot; &amp; stays"' in page
    assert "<figcaption>It rises.</figcaption>" in page
    data = re.search(r'src="data:image/png;base64,([^"]+)"', page).group(1)
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.width == 4 * 200 and len(page) < 400_000
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)  # its own ground: readable in dark mode
    assert repr(shown) == "Figure 'training'"


@pytest.mark.parametrize(
    "name, alt", [("a b", "curves that fall and rise"), ("", "curves that fall"), ("ok", ""), ("ok", "a figure")]
)
def test_show_refuses_names_and_alts_that_say_nothing(name, alt):
    with pytest.raises(InputError):
        show(training_curves(LOG), name, alt)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(2)]
    truths = [np.zeros((20, 30), np.uint8) for _ in range(2)]
    truths[0][5:10, 5:10] = 1
    truths[0][0] = 255
    maps = [rng.random((20, 30), dtype=np.float32) for _ in range(2)]
    return images, truths, maps


def test_gallery_draws_what_it_is_given(pictures):
    images, truths, maps = pictures
    figure = gallery(images, truths, maps, sources=["generated-splice"] * 2)
    assert len(figure.axes) == 8
    assert [a.get_title() for a in figure.axes[:4]] == ["image", "truth", "score map", "overlay"]
    image, truth, score, over = (np.asarray(a.images[0].get_array()) for a in figure.axes[:4])
    np.testing.assert_array_equal(image, images[0])
    assert set(np.unique(truth[0])) == {0.5} and truth[5:10, 5:10].min() == 1 and truth[12:].max() == 0
    np.testing.assert_array_equal(score, maps[0])
    np.testing.assert_array_equal(over, painted(images[0], maps[0]))
    for axes in figure.axes:
        assert axes.images[0].get_clim() == (0, 1)  # a weak map must look weak
    assert len(gallery(images, truths, sources=["dead_leaves"] * 2).axes) == 4


def test_gallery_needs_as_many_of_each(pictures):
    images, truths, maps = pictures
    with pytest.raises(InputError, match="2 images, 2 truths, 1 sources and 2 score maps"):
        gallery(images, truths, maps, sources=["generated"])
    with pytest.raises(InputError, match="at least one"):
        gallery([], [], sources=[])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["casia", "columbia-splice", "", "generatedfoo", "notgenerated-splice", "Generated"])
def test_pictures_of_other_sources_are_refused_outside_runs(pictures, source, tmp_path):
    images, truths, maps = pictures
    for out in (None, tmp_path / "book", tmp_path / "runsheet"):
        with pytest.raises(InputError, match="may not be published"):
            gallery(images, truths, maps, sources=["generated-splice", source], out=out)
    gallery(images, truths, maps, sources=["generated-splice", source], out=tmp_path / "runs" / "a")


def test_free_sources_may_be_drawn():
    check_licence(["generated-splice", "generated-copy_move", "generated", "packaged", "dead_leaves", "clothing"])
    with pytest.raises(InputError):
        check_licence(["generated", "imd2020"])
