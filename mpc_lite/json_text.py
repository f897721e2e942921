"""JSON that others may have written, as values of modest depth."""

from __future__ import annotations

import json
from typing import Any

_DEEPEST = 100  # lists and tables inside one another; ours have ten


def read_json(text: str | bytes, **options: Any) -> Any:
    """The value of a text, by `json.loads` with its options.

    ValueError for any other text, and for lists and tables nested too deep: whatever compares them, shows them or
    writes them again goes into each from the one around it, until Python ends that with an error of its own.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [inner for each in level for inner in each]
        if not level:
            return value
    raise ValueError(f"nested more than {_DEEPEST} deep")
