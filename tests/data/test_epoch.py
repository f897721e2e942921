"""The rows of an epoch: packed, drawn, repeated, in a new order each time."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpc_lite.data.epoch import Rows, check_sources, column, drawn, epoch_order, repeated, taken
from mpc_lite.data.manifest import Sample
from mpc_lite.errors import InputError


def rows(**counts):
    """So many rows of each source."""
    return [
        Sample(Path(f"{source}/{i}.png"), Path(f"{source}/{i}_m.png"), 1, source, None, i + 2, f"{source}.csv")
        for source, count in counts.items()
        for i in range(count)
    ]


def test_rows_come_out_of_their_arrays_as_they_went_in():
    samples = [
        *rows(a=3),
        Sample(Path("naïve Ü\n,1.png"), None, 0, "tampCOCO-sp", "train", 7, "m.csv", {"kind": "splice"}),
        Sample(Path("latin\udce9.png"), Path("m"), 1, "x", "", 8, ""),  # a file name that is not UTF-8
    ]
    packed = Rows(samples)
    assert len(packed) == 5
    expected = [replace(s, split=s.split or None, extra={}) for s in samples]
    assert list(packed) == expected and packed[-1] == expected[-1] and packed[1:3] == expected[1:3]
    assert packed[3].where == "row 7 of m.csv"
    with pytest.raises(IndexError):
        packed[5]
    assert list(Rows([])) == []


def test_some_of_the_rows_share_the_arrays_of_all():
    samples = rows(a=3, b=2)
    packed = Rows(samples)
    some = taken(packed, [4, 0, 3])
    assert list(some) == taken(samples, [4, 0, 3]) and list(taken(some, [2])) == [samples[3]]
    assert column(some, "source") == column(list(some), "source") == ["b", "a", "b"]
    assert column(packed, "split") == [None] * 5 and len(packed) == 5
    assert drawn(packed, 3, seed=1)[:] == drawn(samples, 3, seed=1)


@pytest.mark.slow
def test_a_row_takes_no_more_than_300_bytes_while_it_is_packed_and_after():
    """The rows come one by one; as objects each would take two thousand."""
    each, count = rows(a=1)[0], 20_000
    tracemalloc.start()
    packed = Rows(replace(each, image=Path(f"images/some-folder/{i:07d}.png"), row=i) for i in range(count))
    kept, peak = tracemalloc.get_traced_memory()
    traces = tracemalloc.take_snapshot().traces
    tracemalloc.stop()
    # Python's table of the names that paths share, whose growth may fall into this test as into any other.
    table = sum(t.size for t in traces if t.size > 2**20 and Path(t.traceback[0].filename).name == "pathlib.py")
    assert len(packed) == count and kept - table < 300 * count and peak - table < 300 * count


def test_drawn_rows_are_different_ones_and_the_seed_s():
    samples = rows(a=50, b=50)
    first = drawn(samples, 30, seed=1)
    assert len({s.image for s in first}) == 30 and 5 < sum(s.source == "a" for s in first) < 25
    assert first == drawn(samples, 30, seed=1) != drawn(samples, 30, seed=2)
    assert [samples.index(s) for s in first] == sorted(samples.index(s) for s in first)
    assert drawn(samples, None, seed=1) == drawn(samples, 100, seed=1) == samples
    with pytest.raises(InputError, match="asks for 101 training rows, the manifests have 100"):
        drawn(samples, 101, seed=1)


def test_repeats_count_how_often_a_row_occurs():
    samples = rows(a=3, b=2)
    assert repeated(samples, {"b": 4}).tolist() == [0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    assert repeated(samples, {}).tolist() == [0, 1, 2, 3, 4]
    check_sources(samples, {"a": 2})
    with pytest.raises(InputError, match=r"names A, c, which no training row .* sources found: a, b$"):
        check_sources(samples, {"A": 2, "b": 3, "c": 2})


def test_an_epoch_has_one_order_that_is_made_once():
    epoch_order.cache_clear()
    orders = [epoch_order(3, position // 100, 100) for position in range(300)]
    assert epoch_order.cache_info().misses == 3
    assert all(sorted(orders[i]) == list(range(100)) for i in (0, 100, 200))
    assert orders[0].tolist() != orders[100].tolist() != epoch_order(4, 1, 100).tolist()
    with pytest.raises(ValueError, match="read-only"):
        orders[0][0] = 1  # a change would stay in the cache


def test_catnet_s_list_makes_an_epoch_of_843_991_entries_each_visited_once():
    """The released code's list with its true numbers of rows: CASIA2 forty times, IMD2020 twenty times."""
    counts = {"tampCOCO-sp": 199_999, "tampCOCO-cm": 199_429, "tampCOCO-bcm": 199_443, "CASIAv2": 5123, "IMD": 2010}
    each = [Sample(Path("a.png"), Path("m.png"), 1, source) for source in counts]  # sources are all that counts here
    samples = [sample for sample, count in zip(each, counts.values(), strict=True) for _ in range(count)]
    entries = repeated(samples, {"CASIAv2": 40, "IMD": 20})
    assert len(samples) == 606_004 and len(entries) == 843_991 and entries.nbytes < 4e6
    visited = entries[epoch_order(0, 1, len(entries))]
    times = np.bincount(visited, minlength=len(samples))
    by_source = dict(zip(counts, np.split(times, np.cumsum(list(counts.values()))[:-1]), strict=True))
    assert all((by_source[source] == {"CASIAv2": 40, "IMD": 20}.get(source, 1)).all() for source in counts)
