"""How much of the book was really run, compared, drawn and said: the last lines of continuous integration.

python book/tools/site/counts.py       # after the build and the tests of its pages
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    pages = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    chapters = [page for page in pages if re.search(r"/part\d", page)]
    executed = checked = 0
    for chapter in chapters:
        cells = json.loads((ROOT / f"{chapter}.ipynb").read_text())["cells"]
        code = [c for c in cells if c["cell_type"] == "code"]
        executed += sum(c["execution_count"] is not None for c in code)
        tags = [c["metadata"].get("tags", []) for c in code if c["outputs"]]
        checked += sum("nbval-check-output" in t for t in tags)
    figures = alts = 0
    for page in pages:
        article = BeautifulSoup((ROOT / f"_build/html/{page}.html").read_text(), "html.parser").select_one("article")
        words = [x.get("alt") or "" for x in article.find_all("img")]
        words += [x.get("aria-label") or "" for x in article.select("figure.plotted > div")]
        figures += len(words)
        alts += sum(len(w.split()) >= 4 and not w.startswith("_images") for w in words)
    status = BeautifulSoup((ROOT / "_build/html/book/status.html").read_text(), "html.parser")
    rows = [[cell.text for cell in row.find_all("td")] for row in status.select("article tr")]
    seconds = {r[0].rpartition("/")[2]: float(r[3]) for r in rows if len(r) == 5 and re.search(r"/part\d", r[0])}
    slowest = max(seconds, key=seconds.get)
    moved = json.loads((ROOT / "_build/browser.json").read_text())
    print(f"pages {len(pages)}, chapters {len(chapters)}")
    print(f"code cells executed {executed}, of them compared with their stored output {checked}")
    print(f"interactive figures drawn and moved in the browser {sum(moved.values())}")
    print(f"pictures on the pages {figures}, with an alt text that says something {alts}")
    print(f"seconds of all chapters {sum(seconds.values()):.0f}, of the slowest ({slowest}) {seconds[slowest]:.0f}")
    good = executed and checked and sum(moved.values()) and figures and figures == alts and set(moved) == set(chapters)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
