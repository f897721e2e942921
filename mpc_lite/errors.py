"""Mistakes that a user can mend, told in one message."""

from __future__ import annotations

import difflib


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""


def nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
