"""A run for people: report.html, one file with its pictures inside, for which nothing is fetched."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from mpc_lite.data.manifest import manifest_rows, read_manifest, read_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.baselines import LABELS
from mpc_lite.figures.pictures import gallery, training_curves
from mpc_lite.figures.robustness import NAMES, robustness_curves
from mpc_lite.figures.show import Shown, check_licence, show
from mpc_lite.files import write_atomic
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.page import html_page
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS
from mpc_lite.reproduce.run import Run
from mpc_lite.reproduce.scored_sets import is_generated
from mpc_lite.reproduce.tables import (
    beside_paper,
    cells,
    columns,
    comparison,
    grid_rows,
    image_level_line,
    kind,
    number,
    paper_rows,
    protocol_line,
    set_rows,
    wide,
)
from mpc_lite.training.progress import read_log, validation_name

# --------------------------------------------------------------------------------------------------------- figures


def training_figure(run: Run) -> Shown:
    """Losses and validation scores of the run's log, with a caption that says how far they moved."""
    log = read_log(run.log)
    trends, score_texts = [], []
    stages = {"pretrain": "contrastive loss", "finetune": "focal loss", "adapt": "focal loss of the third stage"}
    stages |= {name: f"loss of {name}" for name in NEIGHBOURS}
    for stage, what in stages.items():
        losses = [e["loss"] for e in log if e["stage"] == stage and "loss" in e]
        if len(losses) > 1:
            tenth = max(1, len(losses) // 10)
            first, last = np.mean(losses[:tenth]), np.mean(losses[-tenth:])
            moved = "fell" if last < first else "did not fall: it went"
            trends.append(f"the {what} {moved} from {first:.3f} to {last:.3f}")
        scores = [e["validation"]["f1"] for e in log if e["stage"] == stage and "f1" in e.get("validation", {})]
        if scores:
            score_texts.append(
                f"{stage}: validation {validation_name(stage, 'f1')} {', '.join(f'{s:.2f}' for s in scores[-5:])}"
            )
    sentence = "; ".join(trends) or "the run is too short to show a trend"
    caption = sentence[0].upper() + sentence[1:] + ". "
    caption += (
        f"Loss at each logged step and smoothed; validation scores on held-out images; one run, seed {run.recipe.seed}."
    )
    alt = f"Line charts of the training, one below the other. {'; '.join([*trends, *score_texts])}."
    return show(training_curves(log), "training", alt, caption)


def gallery_figure(run: Run, manifest: str | Path, localizer: Localizer | None = None, n: int = 6) -> Shown:
    """The first `n` images of a manifest, not chosen: image and truth; with a localizer, score map and overlay too."""
    samples = read_manifest(manifest)[:n]
    images = [read_image(s.image) for s in samples]
    truths = [read_mask(s, image.shape[:2]) for s, image in zip(samples, images, strict=True)]
    maps = None if localizer is None else [localizer(image).score_map for image in images]
    figure = gallery(images, truths, maps, sources=[s.source for s in samples], out=run.out)
    kinds = ", ".join(kind(s.source).replace(" ", "-") for s in samples)
    tampered = [i for i, s in enumerate(samples) if s.label == 1]
    alt = f"{len(samples)} rows of pictures ({kinds}): photograph, true region"
    if maps is None:
        share = np.mean([truths[i].mean() for i in tampered]) if tampered else 0.0
        caption = f"On average {share:.0%} of a tampered image is changed. "
        return show(figure, "forgeries", alt + ".", caption + f"The first {len(samples)} test images, not chosen.")
    inside = np.mean([maps[i][truths[i] == 1].mean() for i in tampered]) if tampered else float("nan")
    outside = np.mean([maps[i][truths[i] == 0].mean() for i in range(len(maps))])
    means = f"mean score {inside:.2f} inside the changed regions, {outside:.2f} outside"
    caption = f"{means[0].upper()}{means[1:]}. The first {len(samples)} test images, not chosen; bright = tampered."
    return show(figure, "examples", f"{alt}, score map, overlay. {means[0].upper()}{means[1:]}.", caption)


def free_gallery(run: Run, manifest: str | Path, localizer: Localizer | None = None) -> list[Shown]:
    """`gallery_figure` in a list, which is empty where one picture of the manifest may not be published: of research
    sets a run shows numbers and curves only, so that its notebook and report can be given to anybody."""
    try:
        check_licence([sample.source for sample, _ in manifest_rows(Path(manifest)) if sample is not None])
    except InputError:
        return []
    return [gallery_figure(run, manifest, localizer)]


def robustness_figure(results: dict) -> Shown:
    """F1 after each degradation of the run's grids, with a caption that names the strongest loss."""
    grids = results.get("robustness", {})
    figure = robustness_curves(grids)
    degraded = [(grid, cell) for grid, tried in grids.items() for cell in tried[1:]]
    grid, worst = min(degraded, key=lambda pair: pair[1]["f1_change"])
    fall = "F1 falls nowhere"
    if worst["f1_change"] < 0:
        step = f"{NAMES.get(worst['degradation'], worst['degradation'])}: {worst['value']} (grid {grid})"
        fall = f"F1 falls most after {step}, from {number(grids[grid][0]['f1'])} to {number(worst['f1'])}"
    images = ", ".join(f"{tried[0]['n']} in grid {grid}" for grid, tried in grids.items())
    bars = f"Bars: 95 % interval over the tampered images ({images}); one network, seed {results['seed']}."
    alt = f"Line charts of F1 against the strength of each degradation. {fall}."
    return show(figure, "robustness", alt, f"{fall}. {bars}")


# ------------------------------------------------------------------------------------------------------ report.html


def write_report(run: Run, results: dict, shipped: dict | None = None, figures: Sequence[Shown] = ()) -> Path:
    """Write OUT/report.html: the table with baselines and shipped weights, robustness, the paper's numbers beside the
    run's, the figures, and how the run was made."""
    ours, average = results["average"], comparison(results, shipped)
    recipe = yaml.safe_dump(results["recipe"], sort_keys=False, allow_unicode=True)
    best = max((row for row in average if row["method"] in LABELS.values()), key=lambda row: row["f1"])
    title = f"{run.name}, profile {run.recipe.profile}, seed {run.recipe.seed}"
    lead = (
        f"Foreground F1 {number(ours['f1'])} on {results['image_level']['n_tampered']} tampered test images; "
        f"the best baseline, {best['method']}, reaches {number(best['f1'])}."
        if results["protocol"] == "mpc"
        else f"F1 {number(ours['f1'])} under the protocol {results['protocol']}."
    )
    facts = {
        "Command": f"<code>{html.escape(run.command)}</code>",
        "Seed": str(results["seed"]),
        "Device": html.escape(results["device"]),
        "Time": f"{results['seconds']:.0f} seconds",
        "Versions": html.escape(", ".join(f"{k} {v}" for k, v in results["versions"].items())),
        "Commit": results["commit"] or "not run from a clone",
        "Test set": f"{html.escape(str(results['manifest']['name']))}, sha256 {results['manifest']['sha256']}",
    }
    scores = _plain_table(set_rows(results), "Results") if wide(results) else _method_table(results, average)
    body = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(run.recipe.description)}</p>",
        *(f"<p>{html.escape(text)}</p>" for text in _scale(run)),
        f"<p><strong>{html.escape(lead)}</strong></p>",
        f'<h2>Results</h2><p class="soft">{html.escape(protocol_line(results))}</p>{scores}',
        f"<p>{html.escape(image_level_line(results))}</p>",
        *(f"<h2>Robustness: grid {grid}</h2>{_plain_table(rows, grid)}" for grid, rows in grid_rows(results).items()),
        *_beside_paper(results),
        *(f"<h2>{html.escape(f.name.capitalize())}</h2>{f._repr_html_()}" for f in figures),
        "<h2>How this was made</h2><dl>" + "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items()) + "</dl>",
        f"<details><summary>The recipe, resolved</summary><pre>{html.escape(recipe)}</pre></details>",
    ]
    write_atomic(run.out / "report.html", html_page(title, body))
    return run.out / "report.html"


def _scale(run: Run) -> list[str]:
    """What must be said of a small run before its description is believed."""
    recipe = run.recipe
    if not recipe.tables or recipe.profile == "paper":
        return []
    images = ", on forgeries made on the spot" if is_generated(run) else ""
    small = f"Profile {recipe.profile}: the steps of that experiment at a small scale{images}."
    return [f"{small} No number here is one of the paper's."]


def _method_table(results: dict, rows: list[dict]) -> str:
    lines = []
    for row in rows:
        way, *values = [None] if row["note"] else cells(row)
        numbers = way and f'<td class="words">{html.escape(way)}</td>' + "".join(f"<td>{text}</td>" for text in values)
        numbers = numbers or f'<td class="note" colspan="{len(columns(results)) - 1}">{html.escape(row["note"])}</td>'
        ours = ' class="ours"' if row["method"] == "this run" else ""
        lines.append(f'<tr{ours}><th scope="row">{html.escape(row["method"])}</th>{numbers}</tr>')
    return _table(columns(results), lines, "Results")


def _plain_table(rows: list[list[str]], title: str) -> str:
    """Rows of text, header first; the first cell of each names the row."""
    header, *rest = rows
    lines = []
    for name, *values in rest:
        numbers = "".join(f"<td>{html.escape(text)}</td>" for text in values)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{numbers}</tr>')
    return _table(header, lines, title)


def _table(header: list[str], lines: list[str], title: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _beside_paper(results: dict) -> list[str]:
    tables = beside_paper(results)
    if not tables:
        return []
    legend = (
        "Scores in percent, as arXiv 2406.13565 v1 prints them. ≈ was read from a figure, to about one point; "
        "recomputed is the average that follows from the printed row."
    )
    parts = [
        f"<h3>{html.escape(b.title)}</h3><p>{html.escape(b.note)}</p>{_plain_table(paper_rows(b), b.title)}"
        for b in tables
    ]
    return [f"<h2>Beside the paper</h2><p>{legend}</p>", *parts]
