"""A folder of photographs on one page, the highest score first: `mpc-lite predict --report`."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from mpc_lite.errors import printable
from mpc_lite.files import write_atomic
from mpc_lite.images import encode_jpeg
from mpc_lite.inference.localizer import Localizer
from mpc_lite.inference.overlay import THRESHOLD, legend, painted
from mpc_lite.inference.page import html_page
from mpc_lite.provenance import versions

TITLE = "the highest score first"  # the end of it
SIDE = 320  # pixels of a thumbnail's longer side
Entry = tuple[dict, tuple[bytes, bytes] | None]  # a line of predictions.jsonl; thumbnails of the photo and its overlay
_CSS = """
ol { list-style: none; margin: 0; padding: 0; }
li { border-top: 1px solid var(--line); padding: 1rem 0; }
li h2 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem; margin: .5rem 0; }
.pair img, .legend { display: block; max-width: 100%; border-radius: 4px; }
"""


def thumbnails(image: np.ndarray, score_map: np.ndarray, threshold: float = THRESHOLD) -> tuple[bytes, bytes]:
    """JPEG files of the photo (H,W,3) uint8 RGB, and of the photo under its map (H,W), each at most 320 pixels long."""
    height, width = score_map.shape
    share = min(1, SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    scores = cv2.resize(score_map, size, interpolation=cv2.INTER_AREA)
    return encode_jpeg(small, 80, 0), encode_jpeg(painted(small, scores, threshold), 85, 0)


def write_photo_report(
    path: Path,
    entries: Sequence[Entry],
    localizer: Localizer,
    threshold: float = THRESHOLD,
    left_out: Sequence[Path] = (),
) -> None:
    """Write the page: photographs by falling score, with links to the files beside it; those that failed at the end,
    and what was `left_out` because it carries the mark of what predict or evaluate writes.

    Raises InputError when the file cannot be written.
    """
    scored = sorted((e for e in entries if e[1] is not None), key=lambda e: (-e[0]["score"], e[0]["image"]))
    failed = [line for line, small in entries if small is None]
    title = f"{len(scored)} photograph{'' if len(scored) == 1 else 's'}, {TITLE}"
    body = [
        f"<h1>{title}</h1>",
        "<p>A bright region says: look here. It is no verdict. Networks mark parts of untouched photographs too, and "
        "miss forgeries; the score is no probability. Compare a mark with what you know of the picture, look at the "
        "original at full size, and ask for the file as the camera wrote it.</p>",
        f'<p><img class="legend" src="{_inline(encode_jpeg(legend(SIDE, threshold=threshold), 90, 0))}" '
        f'alt="Legend: from dark (score 0) to light yellow (score 1); the contour runs at {threshold:g}"></p>',
        '<p class="soft">The photograph is grey below the colours of its score map. Contour: black inside, white '
        "outside. Score: the highest mean of the map over 8×8 pixels.</p>",
        "<ol>",
        *(_card(line, *small) for line, small in scored),
        "</ol>",
    ]
    if failed:
        reasons = "".join(
            f"<dt>{html.escape(printable(x['image']))}</dt><dd>{html.escape(printable(x['error']))}</dd>"
            for x in failed
        )
        body.append(f"<h2>Not scored: {len(failed)}</h2><dl>{reasons}</dl>")
    if left_out:
        names = "".join(f"<dd>{html.escape(printable(file.as_posix()))}</dd>" for file in left_out)
        text = "they carry the mark of what predict or evaluate writes, which anybody can put there"
        body.append(f"<h2>Left out: {len(left_out)}</h2><dl><dt>Not looked at: {text}</dt>{names}</dl>")
    facts = {
        "Network and way of feeding it": f"{localizer.mode} at {localizer.size}, fingerprint {localizer.fingerprint}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    details = "".join(f"<dt>{name}</dt><dd>{html.escape(fact)}</dd>" for name, fact in facts.items())
    write_atomic(path, html_page(title, [*body, f"<h2>How this was made</h2><dl>{details}</dl>"], _CSS))


def _card(line: dict, photo: bytes, over: bytes) -> str:
    name = html.escape(printable(line["image"]))
    facts = f"score {line['score']:.3f}, {line['tampered_fraction']:.1%} marked"
    verdict = f"<p><strong>{html.escape(line['verdict'])}</strong></p>" if line["verdict"] else ""
    files = ", ".join(
        f'<a href="{html.escape(quote(os.fsencode(file)))}">{kind}</a>' for kind, file in line["files"].items()
    )
    return (
        f'<li><h2>{name}</h2>{verdict}<div class="pair"><img src="{_inline(photo)}" alt="The photograph {name}">'
        f'<img src="{_inline(over)}" alt="The same under its score map: {facts}"></div>'
        f"<p>{facts[0].upper()}{facts[1:]}; {line['width']}×{line['height']} pixels; files: {files}</p></li>"
    )


def _inline(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
