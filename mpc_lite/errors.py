"""Mistakes that a user can mend, told in one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""


def nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def some(names: Iterable[object], most: int = 10) -> str:
    """Names for a message: `a, b, c and 240 more`, none of them longer than a line."""
    texts = [text if len(text) <= 100 else text[:99] + "…" for text in map(str, names)]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
