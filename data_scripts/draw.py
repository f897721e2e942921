"""Draws that anybody can repeat: which items a seed picks depends on their names alone, not on order or machine."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def shuffled(items: Iterable[Item], seed: int, name: Callable[[Item], str]) -> list[Item]:
    """Items in the order of sha256("SEED:NAME"): its first n are a draw of n, and adding items moves none of them."""
    return sorted(items, key=lambda item: hashlib.sha256(os.fsencode(f"{seed}:{name(item)}")).digest())


def tail(path: Path, parts: int) -> str:
    """The last parts of a path, lower case: what a file is called in every copy of its set."""
    return "/".join(path.parts[-parts:]).casefold()
