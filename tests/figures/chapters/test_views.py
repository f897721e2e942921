"""Chapter 4's figures, checked by the data they draw."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mpc_lite.contrast.views import draw_terms, label_pyramid
from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import views as fv
from mpc_lite.figures.style import BLUE, GREEN, ORANGE, PURPLE

SIZES = (8, 4, 2, 1)


def labels():
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[:, 2:7, 4:] = 1
    mask[:, 0, 0] = 255
    return label_pyramid(mask, [torch.zeros(1, 1, s, s) for s in SIZES])


def drawn(formulation):
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[:, 4:, 4:] = 1
    pyramid = label_pyramid(mask, [torch.zeros(1, 1, 2 * s, 2 * s) for s in SIZES])
    return fv.meetings(draw_terms(*fv.coded_maps(pyramid), pyramid, formulation))


def test_meetings_name_the_pools_that_draw_terms_drew():
    coarse = "X2∪X3∪X4"
    assert drawn("official") == {
        "within_image": [("A(X1)", "A(X1)", "T(X1)")],
        "cross_scale": [("A(X1)", "A(X1)", f"T({coarse})"), (f"A({coarse})", f"A({coarse})", "T(X1)")],
        "cross_modality": [("A(X1)", "A(X1)", "T(Y1)"), ("A(Y1)", "A(Y1)", "T(X1)")],
    }
    assert drawn("paper")["cross_scale"] == [
        ("A(X1)", f"A({coarse})", f"T({coarse})"),
        ("T(X1)", f"T({coarse})", f"A({coarse})"),
    ]
    empty = draw_terms(*fv.coded_maps(labels()), [torch.zeros_like(g) for g in labels()])
    with pytest.raises(InputError, match="at least one"):
        fv.meetings(empty)


def test_every_meeting_is_an_arrow_of_its_colour():
    figure = fv.who_meets_whom({"printed": drawn("paper"), "released": drawn("official")})
    assert len(figure.axes) == 6
    right = figure.axes[3]  # released code, cross-scale
    arrows = {t.get_gid(): to_hex(t.arrow_patch.get_edgecolor()).upper() for t in right.texts if t.get_gid()}
    assert arrows == {
        "A(X1) pull A(X1)": GREEN,
        "A(X1) push T(X2∪X3∪X4)": PURPLE,
        "A(X2∪X3∪X4) pull A(X2∪X3∪X4)": GREEN,
        "A(X2∪X3∪X4) push T(X1)": PURPLE,
    }
    nodes = {to_hex(c.get_facecolor()[0]).upper() for c in right.collections}
    ringed = [c for c in right.collections if c.get_linewidths()[0] > 0]
    assert nodes == {BLUE, ORANGE} and len(ringed) == 2
    dashes = {t.get_gid(): t.arrow_patch.get_linestyle() for t in right.texts if t.get_gid()}
    assert dashes["A(X1) pull A(X1)"] != dashes["A(X1) push T(X2∪X3∪X4)"]


def test_pyramid_shows_the_labels_and_asks_for_the_licence():
    shown = [g[0].numpy() for g in labels()]
    figure = fv.pyramid(np.zeros((32, 32, 3), np.uint8), shown, source="generated-splice")
    assert [a.get_title() for a in figure.axes] == ["image", "stride 4", "stride 8", "stride 16", "stride 32"]
    picture = np.asarray(figure.axes[2].images[0].get_array())
    assert picture.shape == (4, 4, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) == 3
    with pytest.raises(InputError, match="may not be published"):
        fv.pyramid(np.zeros((32, 32, 3), np.uint8), shown, source="casia")


def test_asked_marks_the_cells_that_coarse_maps_read():
    axes = Figure().subplots()
    fv.asked(axes, [g[0].numpy() for g in labels()])
    assert axes.get_xlabel() == "cells: 20 / 6 / 1 / 0"
    offsets = axes.collections[1].get_offsets()
    assert {tuple(map(int, p)) for p in offsets} == {(0, 0), (4, 0), (0, 4), (4, 4)}
    black = np.asarray(axes.collections[1].get_edgecolors())[:, :3].sum(1) == 0
    assert [tuple(map(int, p)) for p in np.asarray(offsets)[black]] == [(4, 4)]


def test_vanishing_draws_the_shares():
    shares = {4: [0.0, 0.0], 8: [0.1, 0.0], 16: [0.6, 0.0], 32: [0.9, 0.3]}
    axes = fv.vanishing([0.01, 0.04], shares, 200).axes[0]
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        f"stride {s}": v for s, v in shares.items()
    }
    assert list(axes.lines[0].get_xdata()) == [1, 4] and "n = 200" in axes.get_title("left")


def maps(seed, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 5, s, s, generator=generator).relu() for s in SIZES]


def test_pool_cosines_match_a_loop_over_pairs():
    mask = torch.cat([labels()[0], torch.zeros(1, 8, 8, dtype=torch.uint8)])
    a, b = maps(0), maps(1)
    got = fv.pool_cosines(a, b, mask)
    pyramid, unit = label_pyramid(mask, a), torch.nn.functional.normalize
    pools = []
    for source, classes in (([a[0]], pyramid[:1]), (a[1:], pyramid[1:]), ([b[0]], pyramid[:1])):
        rows = torch.cat([unit(m[0].double(), dim=0).flatten(1).T for m in source])
        flat = torch.cat([g[0].flatten() for g in classes])
        pools += [rows[flat == 0], rows[flat == 1]]
    for i, left in enumerate(pools):
        for j, right in enumerate(pools):
            products = left @ right.T
            if i == j:
                products = products[~torch.eye(len(left), dtype=torch.bool)]
            assert got[0, i, j] == pytest.approx(products.mean().item(), abs=1e-6)
    assert np.isnan(got[1, 0, 1]) and np.isfinite(got[1, 0, 0])  # the second image has no tampered pixel


def test_same_pixels_and_companions():
    a, b = maps(0), maps(1)
    assert fv.same_pixel_cosines(a, b).shape == (2, 4)
    scaled = [3 * m + 1e-3 for m in a]
    np.testing.assert_allclose(fv.same_pixel_cosines(scaled, [2 * m for m in scaled]), 1, atol=1e-5)
    cosines = np.arange(36.0).reshape(1, 6, 6)
    rows = fv.companions(cosines, np.array([[7.0, 8, 9, 10]]))
    assert [float(v[0]) for v in rows.values()] == [0, 1, 7, 2, 3]


def test_resemblance_draws_means_and_spread():
    rows = {"same": np.linspace(0, 1, 11), "other": np.array([0.2, np.nan])}
    figure = fv.resemblance({"one": rows, "two": {k: v / 2 for k, v in rows.items()}})
    (axes,) = figure.axes
    np.testing.assert_allclose([line.get_xdata() for line in axes.lines], [[0.5, 0.2], [0.25, 0.1]])
    ends = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]
    np.testing.assert_allclose(ends[0], [0.1, 0.9])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["same", "other"]


def test_matrices_passes_and_race_draw_their_numbers():
    table = np.linspace(0, 1, 36).reshape(6, 6)
    axes = fv.matrices({"before": table, "after": 1 - table}).axes[1]
    np.testing.assert_allclose(axes.images[0].get_array(), 1 - table)
    assert [t.get_text() for t in axes.texts][:2] == ["1.00", "0.97"] and axes.get_title("left") == "after"
    cosines = np.random.default_rng(0).random((7, 4))
    axes = fv.passes({"before": cosines, "after": cosines / 2}).axes[0]
    np.testing.assert_allclose(axes.collections[1].get_offsets()[:, 1].reshape(7, 4), cosines / 2)
    terms = [{k: float(i) for k in fv.VIEWS} for i in (3, 2, 1)]
    upper, lower = fv.race({"official": terms, "paper": terms[::-1]}).axes
    assert list(lower.lines[0].get_ydata()) == [1, 2, 3] and list(upper.lines[0].get_xdata()) == [1, 2, 3]
    assert [line.get_label() for line in upper.lines[:3]] == list(fv.VIEWS.values())
