"""Figures of chapter 15, "Official checkpoints", and the lists of names that they are drawn from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from torch import nn

from mpc_lite.figures.interactive import slider
from mpc_lite.figures.show import check_licence
from mpc_lite.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLES, WIDTH
from mpc_lite.network.convert import UNUSED_HEADS
from mpc_lite.network.hrformer import SIZES

PARTS = ("stem", "transitions", "stage 2", "stage 3", "stage 4", "projections", "head", "ImageNet head")
LANES = ("stride 4", "stride 8", "stride 16", "stride 32", "exchange", "no branch")
_COLOURS = (BLUE, GREEN, PURPLE, ORANGE, GREY, "#c8c8c8")
_HATCHES = ("", "//", "..", "xx", "", "\\\\")
VERDICTS = {"both": (BLUE, ""), "file only": (ORANGE, "/"), "network only": (GREY, ".")}


def place(name: str) -> tuple[str, str]:
    """Where a tensor sits: (one of PARTS, one of LANES). `encoder.` before the name makes no difference."""
    if name.startswith("decoder."):
        return "head", "no branch"
    name = name.removeprefix("encoder.")
    if name.startswith(UNUSED_HEADS):
        return "ImageNet head", "no branch"
    if match := re.match(r"convs\.(\d)", name):
        return "projections", LANES[int(match[1])]
    if match := re.match(r"transition\d\.(\d)", name):
        return "transitions", LANES[int(match[1])]
    if match := re.match(r"stage(\d)\.\d+\.(?:branches\.(\d)|fuse_layers)", name):
        return f"stage {match[1]}", LANES[int(match[2])] if match[2] else "exchange"
    return "stem", "no branch"


def census(parameters: Iterable[tuple[str, Any]]) -> dict[str, Counter[str]]:
    """Numbers in each part of a network, by lane; parts without any are left out. `parameters`: (name, tensor)."""
    counts: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    for name, tensor in parameters:
        part, lane = place(name)
        counts[part][lane] += tensor.numel()
    return {part: lanes for part, lanes in counts.items() if lanes}


def accounts(file: Iterable[str], network: Iterable[str]) -> dict[str, list[int]]:
    """Tensors of every part of PARTS: [in both, only in the file, only in the network]."""
    file, network = set(file), set(network)
    groups = (file & network, file - network, network - file)
    counts = [Counter(place(name)[0] for name in names) for names in groups]
    return {part: [count[part] for count in counts] for part in PARTS}


# ------------------------------------------------------------------- names that HRFormer's public source gives (MIT)


def classification_head() -> dict[str, tuple[int, ...]]:
    """Names and shapes that HRFormer-B's classification network has beyond the encoder: 147 tensors."""
    widths, shapes = (32, 64, 128, 256), {}

    def norm(name: str, channels: int) -> None:
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{key}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    for branch, (inputs, width) in enumerate(zip(SIZES["base"].channels, widths, strict=True)):
        at = f"incre_modules.{branch}.0."
        layers = [("1", (width, inputs, 1, 1)), ("2", (width, 1, 3, 3)), ("3", (4 * width, width, 1, 1))]
        for number, shape in layers:
            shapes[f"{at}conv{number}.weight"] = shape
            norm(f"{at}bn{number}", shape[0])
        shapes[f"{at}downsample.0.weight"] = (4 * width, inputs, 1, 1)
        norm(f"{at}downsample.1", 4 * width)
    for step in range(3):
        inputs, outputs = 4 * widths[step], 4 * widths[step + 1]
        for layer, shape in ((0, (inputs, 1, 3, 3)), (2, (outputs, inputs, 1, 1))):
            shapes[f"downsamp_modules.{step}.{layer}.weight"] = shape
            shapes[f"downsamp_modules.{step}.{layer}.bias"] = shape[:1]
            norm(f"downsamp_modules.{step}.{layer + 1}", shape[0])
    shapes |= {"final_layer.0.weight": (2048, 1024, 1, 1), "final_layer.0.bias": (2048,)}
    norm("final_layer.1", 2048)
    return shapes | {"classifier.weight": (1000, 2048), "classifier.bias": (1000,)}


def released_labels(encoder: nn.Module) -> list[str]:
    """Modules of the released encoder, with tensors or without: ours, but for the activations and the place holders.

    There every activation is a module with a name; the `Identity` modules that stand for "nothing" here do not exist.
    """
    modules = dict(encoder.named_modules())
    names = [name for name, module in modules.items() if not isinstance(module, nn.Identity)]
    activations = ["relu", *(f"layer1.{k}.relu" for k in range(len(encoder.layer1)))]
    activations += [f"convs.{k}.act" for k in range(len(encoder.convs))]
    activations += [f"{name}.relu" for name in names if re.fullmatch(r"stage\d\.\d+", name)]
    activations += [f"{name}.act{k}" for name in names if name.endswith(".mlp") for k in (1, 2, 3)]
    return names + activations


# ------------------------------------------------------------------------------------------------------------ figures


def lengths(differences: Mapping[str, Mapping[str, int]]) -> Figure:
    """How far candidates are from the length of a file: file -> candidate -> bytes too many; one panel a file."""
    figure = Figure(figsize=(WIDTH, 1.75 * len(differences) + 0.5), layout="constrained")
    panels = figure.subplots(len(differences), sharex=True, squeeze=False)[:, 0]
    for axes, (file, rows) in zip(panels, differences.items(), strict=True):
        best = min(rows, key=lambda name: abs(rows[name]))
        for y, (name, value) in enumerate(rows.items()):
            colour, marker = (ORANGE, "o") if name == best else (GREY, "s")
            axes.plot([0, value], [y, y], color=colour, lw=1.5)
            axes.plot(value, y, color=colour, marker=marker, ms=6)
            # The figure stands on the empty side of zero, so that it never covers a line.
            label = f" {value:+,} ".replace(",", " ").replace("-", "−")
            axes.text(0, y, label, ha="right" if value >= 0 else "left", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=9)
        axes.set(ylim=(len(rows) - 0.4, -0.7))
        axes.set_title(file, fontsize=10, loc="left")
        axes.axvline(0, color="#444", lw=0.8)
        axes.set_xscale("symlog", linthresh=100)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set(xlim=(-2e7, 2e7), xlabel="bytes too many, logarithmic")
    panels[-1].set_xticks([-1e6, -1e3, 0, 1e3, 1e6], ["−10⁶", "−10³", "0", "10³", "10⁶"])
    return figure


def where(numbers: Mapping[str, Mapping[str, int]]) -> Figure:
    """Parameters of each part as bars, stacked by branch; `numbers` from `census`."""
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.subplots()
    left = dict.fromkeys(numbers, 0.0)
    for lane, colour, hatch in zip(LANES, _COLOURS, _HATCHES, strict=True):
        widths = [numbers[part].get(lane, 0) / 1e6 for part in numbers]
        starts = list(left.values())
        axes.barh(list(numbers), widths, left=starts, color=colour, hatch=hatch, edgecolor="white", lw=0.4, label=lane)
        left = {part: start + width for part, start, width in zip(numbers, starts, widths, strict=True)}
    for part, total in left.items():
        axes.text(total, part, f" {total:.2f}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="parameters, millions", xlim=(0, 1.14 * max(left.values())))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def trainings(losses: Mapping[str, np.ndarray], scores: Mapping[str, Sequence[float]]) -> Figure:
    """What the log shows and what it does not: training loss above, held-out F1 below.

    Args:
        losses: start -> (seeds, steps), drawn as the mean over seeds and a tenth of the steps. scores: start -> F1s.
    """
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    above, below = figure.subplots(2, height_ratios=(3, 2))
    for row, ((colour, marker, dash), (name, values)) in enumerate(zip(STYLES, losses.items(), strict=False)):
        mean, width = values.mean(0), max(values.shape[1] // 10, 1)
        smooth = np.convolve(mean, np.full(width, 1 / width), "valid")
        steps = np.arange(width, len(mean) + 1)
        every = max(len(steps) // 6, 1)
        above.plot(steps, smooth, color=colour, ls=dash, marker=marker, markevery=every, ms=4, label=name)
        below.plot(scores[name], [row] * len(scores[name]), color=colour, marker=marker, ls="none", ms=7)
    above.set(ylim=(0, None), xlabel="step of head training", ylabel="training loss")
    above.legend(fontsize=9, frameon=False)
    below.set(xlim=(0, 1.25 * max(max(values) for values in scores.values())), xlabel="held-out F1", ylim=(-0.6, 1.6))
    below.set_yticks(range(len(scores)), list(scores), fontsize=9)
    below.invert_yaxis()
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def maps(images: np.ndarray, truths: np.ndarray, columns: Mapping[str, np.ndarray], sources: Sequence[str]) -> Figure:
    """A row for each photograph: image, truth, and one score map for each way of loading.

    Args:
        images: (n,H,W,3) uint8. truths: (n,H,W). columns: title -> (n,H,W) in [0,1]. sources: see `check_licence`.
    """
    check_licence(sources)
    all_columns = {"image": images, "truth": truths, **columns}
    side = 1.25 * WIDTH / len(all_columns)
    figure = Figure(figsize=(1.25 * WIDTH, side * len(images) + 0.25), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for row, panels in enumerate(figure.subplots(len(images), len(all_columns), squeeze=False)):
        for axes, (title, pictures) in zip(panels, all_columns.items(), strict=True):
            axes.imshow(pictures[row], cmap="magma" if title in columns else "gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(title, fontsize=9)
    return figure


def matching(pairs: Mapping[str, tuple[Iterable[str], Iterable[str]]]) -> go.Figure:
    """A slider over (names in a file, names in a network): which tensors meet, part by part.

    Args:
        pairs: what is loaded into what -> the two sets of names.
    """
    frames = []
    for title, (file, network) in pairs.items():
        file, network = set(file), set(network)
        counted = accounts(file, network)
        frame = go.Figure()
        for k, (verdict, (colour, pattern)) in enumerate(VERDICTS.items()):
            frame.add_trace(
                go.Bar(
                    y=list(counted),
                    x=[counts[k] for counts in counted.values()],
                    name=verdict,
                    orientation="h",
                    marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": "white", "fillmode": "overlay"}},
                    hovertemplate="%{y}: %{x} tensors, " + verdict + "<extra></extra>",
                )
            )
        both = len(file & network)
        sums = [f"{what} {len(x)} = {both} + {len(x) - both}" for what, x in (("file", file), ("network", network))]
        frame.update_layout(
            title={"text": "<br>".join([title, *sums]), "font": {"size": 14}, "x": 0.5, "y": 0.97, "yanchor": "top"},
            barmode="stack",
            height=570,
            margin={"l": 10, "r": 10, "t": 180, "b": 10},  # on a phone the legend takes a line for each verdict
            legend={
                "orientation": "h",
                "y": 1,
                "yanchor": "bottom",
                "x": 0.4,
                "xanchor": "center",
                "traceorder": "normal",
            },
            dragmode=False,
        )
        frame.update_xaxes(range=[0, 2300], nticks=5, fixedrange=True)
        frame.update_yaxes(autorange="reversed", fixedrange=True)
        frames.append(frame)
    return slider(frames, [str(k) for k in range(1, len(pairs) + 1)], prefix="tensors by part, step ")
