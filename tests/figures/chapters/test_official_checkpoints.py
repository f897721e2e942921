"""Chapter 15's figures say what their data say, and the lists of names they use are those of the networks."""

import math

import numpy as np
import pytest
import torch

from mpc_lite.errors import InputError
from mpc_lite.figures.chapters import official_checkpoints as figures
from mpc_lite.figures.show import Plotted, raster
from mpc_lite.network.convert import UNUSED_HEADS
from mpc_lite.network.model import MPC


@pytest.fixture(scope="module")
def base():
    with torch.device("meta"):
        return MPC.build("base")


@pytest.mark.parametrize(
    ("name", "part", "lane"),
    [
        ("conv1.weight", "stem", "no branch"),
        ("encoder.layer1.0.downsample.0.weight", "stem", "no branch"),
        ("transition1.0.0.weight", "transitions", "stride 4"),
        ("encoder.transition3.3.0.0.weight", "transitions", "stride 32"),
        ("stage3.2.branches.1.0.attn.attn.q_proj.weight", "stage 3", "stride 8"),
        ("stage4.1.fuse_layers.0.3.0.weight", "stage 4", "exchange"),
        ("encoder.convs.2.bn.bias", "projections", "stride 16"),
        ("decoder.classifier.11.weight", "head", "no branch"),
        ("classifier.weight", "ImageNet head", "no branch"),
        ("incre_modules.0.0.conv1.weight", "ImageNet head", "no branch"),
    ],
)
def test_every_name_has_its_place(name, part, lane):
    assert figures.place(name) == (part, lane)


def test_the_census_counts_every_parameter_once(base):
    numbers = figures.census(base.named_parameters())
    assert list(numbers) == [part for part in figures.PARTS if part != "ImageNet head"]
    assert sum(sum(lanes.values()) for lanes in numbers.values()) == 45_035_227
    assert sum(numbers["head"].values()) == 692_993
    assert numbers["projections"]["stride 32"] == 624 * 256 + 2 * 256


def test_accounts_balance_for_both_sides():
    file = ["conv1.weight", "convs.0.conv.weight", "classifier.bias"]
    network = ["conv1.weight", "bn1.weight", "bn1.bias"]
    counted = figures.accounts(file, network)
    assert counted["stem"] == [1, 0, 2] and counted["projections"] == [0, 1, 0]
    assert counted["ImageNet head"] == [0, 1, 0] and counted["stage 4"] == [0, 0, 0]
    both, left, missing = (sum(counts) for counts in zip(*counted.values(), strict=True))
    assert (len(file), len(network)) == (both + left, both + missing)


def test_the_classification_head_completes_hrformers_published_size(base):
    head = figures.classification_head()
    assert len(head) == 147 and all(name.startswith(UNUSED_HEADS) for name in head)
    learnt = sum(math.prod(s) for n, s in head.items() if not n.endswith(("mean", "var", "tracked")))
    trunk = sum(p.numel() for n, p in base.encoder.named_parameters() if not n.startswith("convs."))
    assert round((trunk + learnt) / 1e6, 1) == 50.3  # what HRFormer's authors print
    assert head["downsamp_modules.2.3.running_mean"] == (1024,) and head["classifier.weight"] == (1000, 2048)


def test_released_labels_have_activations_and_no_place_holders(base):
    labels = figures.released_labels(base.encoder)
    assert len(labels) == len(set(labels)) == 1342
    assert "stage4.1.branches.3.1.mlp.act3" in labels and "residual" not in labels
    assert {name.rpartition(".")[0] for name in base.encoder.state_dict()} <= set(labels) | {""}


def test_lengths_mark_the_nearest_candidate_and_write_the_bytes():
    rows = {"one": 510, "two": 29_182, "three": -2_861_000}
    figure = figures.lengths({"a.pth": rows, "b.pth": {"one": -5, "two": 4, "three": 9}})
    axes = figure.axes
    assert raster(figure)[0] == "png"  # the logarithmic axis is computed only now
    assert [a.get_title(loc="left") for a in axes] == ["a.pth", "b.pth"]
    assert [t.get_text().strip() for t in axes[0].texts] == ["+510", "+29 182", "−2 861 000"]
    ends = [line for line in axes[0].lines if line.get_marker() in ("o", "s")]
    assert [line.get_xdata()[0] for line in ends] == list(rows.values())
    assert [line.get_marker() for line in ends] == ["o", "s", "s"]
    assert [t.get_ha() for t in axes[0].texts] == ["right", "right", "left"]


def test_where_stacks_the_lanes_of_each_part(base):
    numbers = figures.census(base.named_parameters())
    axes = figures.where(numbers).axes[0]
    ends = dict.fromkeys(numbers, 0.0)
    for container in axes.containers:
        for part, bar in zip(numbers, container, strict=True):
            assert bar.get_x() == pytest.approx(ends[part])
            ends[part] += bar.get_width()
    assert ends["stage 4"] == pytest.approx(27.007032) and sum(ends.values()) == pytest.approx(45.035227)
    assert [t.get_text().strip() for t in axes.texts][:2] == ["0.18", "2.73"]


def test_trainings_smooth_the_mean_over_seeds_and_show_every_score():
    losses = {"loaded": np.tile(np.arange(20.0), (2, 1)), "not": np.ones((2, 20))}
    above, below = figures.trainings(losses, {"loaded": [0.3, 0.4], "not": [0.1, 0.2]}).axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), np.arange(19) + 0.5)
    np.testing.assert_array_equal(above.lines[0].get_xdata(), np.arange(2, 21))
    assert [list(line.get_xdata()) for line in below.lines] == [[0.3, 0.4], [0.1, 0.2]]
    assert [t.get_text() for t in below.get_yticklabels()] == ["loaded", "not"]


def test_maps_show_the_given_pictures_and_refuse_those_without_a_licence():
    images, truths = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 8, 8))
    column = np.random.default_rng(0).random((2, 8, 8))
    figure = figures.maps(images, truths, {"loaded": column}, ["generated"] * 2)
    assert [a.get_title() for a in figure.axes[:3]] == ["image", "truth", "loaded"]
    np.testing.assert_array_equal(figure.axes[5].images[0].get_array(), column[1])
    with pytest.raises(InputError, match="may not be published"):
        figures.maps(images, truths, {"loaded": column}, ["casia"] * 2)


def test_matching_has_a_step_for_each_pair_with_its_sums(base):
    bare = list(base.encoder.state_dict())
    whole = list(base.state_dict())
    pairs = {"as saved": (bare, whole), "prefix": ([f"encoder.{name}" for name in bare], whole)}
    figure = figures.matching(pairs)
    assert [trace.visible for trace in figure.data] == [True] * 3 + [False] * 3
    sums = [sum(trace.x) for trace in figure.data]
    assert sums == [0, 2236, 2264, 2236, 0, 28]
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["1", "2"]
    said = [step.args[1]["title"]["text"] for step in steps]
    assert said[0] == "as saved<br>file 2236 = 0 + 2236<br>network 2264 = 0 + 2264"
    assert said[1] == "prefix<br>file 2236 = 2236 + 0<br>network 2264 = 2236 + 28"
    # Both bars of a part must fit beside each other where nothing matches.
    longest = max(sum(trace.x[k] for trace in figure.data[:3]) for k in range(len(figures.PARTS)))
    assert longest <= figure.layout.xaxis.range[1]
    assert len(Plotted(figure, "checkpoints-matching", "a slider over two pairs")._repr_html_()) < 20_000
