"""Tests of the book import its tools as they import one another."""

import sys
from pathlib import Path

for room in ("site", "twins"):
    sys.path.insert(0, str(Path(__file__).parents[2] / "book" / "tools" / room))
