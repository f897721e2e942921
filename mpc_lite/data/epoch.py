"""Which rows an epoch consists of, and in which order: drawing, repetition, permutation, for lists of a million rows.

Everything here is a function of the recipe and its seed alone, so any number of processes and workers agree on it
without talking to one another.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path

import numpy as np

from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError

_DRAW = (0, 3)  # beside the seed: keeps these random numbers apart from those of the epochs and of augmentation


class Rows(Sequence):
    """Rows of manifests in a few arrays; `rows[i]` makes the `Sample` anew, without its `extra` columns.

    A loader's workers share arrays with their parent. A list of objects they would copy bit by bit: looking at a Python
    object counts a reference, and that writes to the page it lies on. And it would be ten times as large.
    """

    def __init__(self, samples: Iterable[Sample]):
        """samples: taken one by one, so that they need not be in memory together."""
        texts, ends = bytearray(), array("q", [0])
        codes, names = {name: array("i") for name in _COLUMNS}, {name: {} for name in _COLUMNS}
        for sample in samples:
            texts += _packed(sample)
            ends.append(len(texts))
            for name in _COLUMNS:
                of = names[name]
                codes[name].append(of.setdefault(getattr(sample, name), len(of)))
        self._texts, self._ends = np.frombuffer(texts, np.uint8), np.frombuffer(ends, np.int64)
        self._codes = {name: np.frombuffer(codes[name], np.int32) for name in _COLUMNS}
        self._names = {name: list(names[name]) for name in _COLUMNS}
        self._chosen = np.arange(len(ends) - 1, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        place = self._chosen[index]
        return _unpacked(self._texts[self._ends[place] : self._ends[place + 1]].tobytes())

    def column(self, name: str) -> list[str | None]:
        """The source or the split of each row, without making rows of them."""
        return [self._names[name][code] for code in self._codes[name][self._chosen].tolist()]

    def images(self) -> Iterator[str]:
        """The path of each row's image, in one spelling, without making rows of them."""
        for place in self._chosen:
            text = self._texts[self._ends[place] : self._ends[place + 1]].tobytes()
            yield os.path.normpath(text.partition(b"\0")[0].decode("utf-8", "surrogateescape"))

    def taken(self, indices: Sequence[int]) -> Rows:
        """The rows of those indices, in this order; the arrays stay the same."""
        some = copy(self)
        some._chosen = self._chosen[np.asarray(indices, np.int64)]
        return some


_COLUMNS = ("source", "split")  # what choosing rows asks of all of them


def column(samples: Sequence[Sample], name: str) -> list[str | None]:
    """The source or the split of each sample."""
    return samples.column(name) if isinstance(samples, Rows) else [getattr(sample, name) for sample in samples]


def taken(samples: Sequence[Sample], indices: Sequence[int]) -> Sequence[Sample]:
    """The samples of those indices, in this order: a list of a list, Rows of Rows."""
    return samples.taken(indices) if isinstance(samples, Rows) else [samples[i] for i in indices]


def _packed(s: Sample) -> bytes:
    fields = (s.image, s.mask or "", s.label, s.source, s.split or "", s.row, s.manifest)
    return "\0".join(map(str, fields)).encode("utf-8", "surrogateescape")  # file names may be of any encoding


def _unpacked(text: bytes) -> Sample:
    image, mask, label, source, split, row, manifest = text.decode("utf-8", "surrogateescape").split("\0")
    return Sample(Path(image), Path(mask) if mask else None, int(label), source, split or None, int(row), manifest)


def drawn(samples: Sequence[Sample], count: int | None, seed: int) -> Sequence[Sample]:
    """`count` of the rows at random, without replacement, in their old order; None keeps them all.

    Raises:
        InputError: more are asked for than there are.
    """
    if count is None:
        return samples
    if count > len(samples):
        raise InputError(
            f"data.draw asks for {count} training rows, the manifests have {len(samples)}; "
            "lower it or give more manifests"
        )
    chosen = np.random.default_rng([seed, *_DRAW]).choice(len(samples), count, replace=False)
    return taken(samples, np.sort(chosen))


def check_sources(samples: Sequence[Sample], repeats: Mapping[str, int]) -> None:
    """InputError for a source in `repeats` that no row has."""
    sources = set(column(samples, "source"))
    if unknown := sorted(repeats.keys() - sources):
        raise InputError(
            f"data.repeats names {', '.join(unknown)}, which no training row has as its source; "
            f"sources found: {', '.join(sorted(sources)) or 'none'}"
        )


def repeated(samples: Sequence[Sample], repeats: Mapping[str, int]) -> np.ndarray:
    """The entries of an epoch, each the index (int32) of its row: the rows of a source as often as `repeats` says."""
    times = np.fromiter((repeats.get(x, 1) for x in column(samples, "source")), np.int64, len(samples))
    return np.repeat(np.arange(len(samples), dtype=np.int32), times)


@lru_cache(maxsize=2)  # a batch may straddle two epochs; an order of 844 thousand entries takes tens of milliseconds
def epoch_order(seed: int, epoch: int, entries: int) -> np.ndarray:
    """The order in which an epoch visits its entries: a fresh permutation (entries,) in each epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(entries)
    order.setflags(write=False)
    return order
