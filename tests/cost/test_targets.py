"""The goals of chapter 16, read from small results in the form of the real ones."""

import copy

import pytest

from mpc_lite.cost.targets import Goal, read_goals, words
from mpc_lite.errors import InputError

RATIO = {"median": 3.0, "low": 2.0, "high": 4.0}


def steps(**seconds):
    return [{"way": way.replace("_", " "), "all_seconds": values} for way, values in seconds.items()]


def small_results():
    """Small results in the form that the scripts of tests/benchmarks write, as far as it is read."""
    dense = {"peak": 800, "kept": {"beyond_inputs": 300}}
    fused = {"times_faster_than_dense": RATIO, "times_three_products": {"median": 1.1, "low": 1.0, "high": 1.2}}
    fused |= {"peak": 100, "kept": {"beyond_inputs": 10}}
    ways = {"dense": {"peak": 900}, "ours": {"peak": 300, "times_faster_than_dense": RATIO}}
    rows = []
    for size, factor in (("nano", 1), ("base", 2)):  # the order does not matter
        found = steps(released_code=[12.0, 18.0], frozen=[4.0, 6.0])
        found += [{"way": "cached, disk", "all_seconds": [1.0 / factor, 2.0 / factor]}]
        rows.append({"size": size, "steps": found})
    sizes = {"6": (1.0, 200), "12": (1.1, 210), "24": (0.9, 190)}
    return {
        "speed-loss": {
            "one_term": {"ways": {"dense": dense, "fused": fused}},
            "whole_loss": {"ways": {**ways, "ours, all pixels": {"peak": 600}}},
            "growth": {"fused": {"time_exponent": 2.0, "memory_exponent": 0.7}},
        },
        "speed-backbone": {
            "forward": {"ours, folded": {"times_faster": RATIO}},
            "stage-1 step": {"ours": {"times_faster": RATIO}},
        },
        "speed-stage2": {"rows": rows},
        "speed-localizer": {
            "sizes": {name: {"seconds_per_megapixel": s, "beyond_map": m} for name, (s, m) in sizes.items()}
        },
        "speed-data": {"rows": [{"ratio": 0.2}, {"ratio": 0.8}]},
    }


@pytest.fixture
def results():
    return small_results()


def test_goals_by_hand(results):
    found = {goal.key: goal for goal in read_goals(results)}
    values = {
        **{"term_time": 3.0, "term_peak": 8, "term_kept": 30, "term_products": 1.1},
        **{"growth_time": 2.0, "growth_memory": 0.7, "whole_time": 3.0, "whole_peak": 3, "whole_all": 1.5},
        **{"forward_time": 3.0, "step_time": 3.0, "frozen_base": 3.0, "cached_base": 5 / 0.75},
        **{"cached_released_base": 20.0, "frozen_nano": 3.0, "cached_nano": 5 / 1.5, "cached_released_nano": 10.0},
        **{"tiles_time": 1.1 / 0.9, "tiles_memory": 210 / 190, "data_time": 0.8},
    }
    assert {key: goal.value for key, goal in found.items()} == pytest.approx(values)
    missed = {"term_time", "whole_time", "whole_peak", "cached_base", "cached_nano", "tiles_time"}
    assert {key for key, goal in found.items() if not goal.reached} == missed
    assert (found["term_time"].low, found["term_time"].high) == (2.0, 4.0)
    assert (found["cached_base"].low, found["cached_base"].high) == (6.0, 8.0)  # of single rounds: 4 / ½, 6 / 1
    assert found["term_peak"].low == found["term_peak"].high == 8
    assert len(found) == len(read_goals(results))


def test_a_margin_is_above_one_where_the_goal_is_reached():
    most = Goal("a", "a", 0.5, 1, False, 0.4, 0.6)
    least = Goal("a", "a", 3.0, 2, True, 2.0, 4.0)
    assert most.margin == 2 and least.margin == 1.5 and most.reached and least.reached
    exact = most._replace(value=1.0)
    assert exact.reached and not exact._replace(value=1.01).reached
    assert words(most) == "0.50 (≤ 1)" and words(least._replace(value=12.34)) == "12.3 (≥ 2)"


def test_results_that_do_not_fit_say_which_script_to_run(results):
    with pytest.raises(InputError, match=r"'speed-data' is missing.*data_pipeline\.py"):
        read_goals({k: v for k, v in results.items() if k != "speed-data"})
    for name, break_it in {
        "speed-loss": lambda r: r["one_term"]["ways"].pop("fused"),
        "speed-stage2": lambda r: r["rows"].pop(),
        "speed-localizer": lambda r: r["sizes"].pop("24"),
        "speed-backbone": lambda r: r["forward"].update({"ours, folded": None}),
        "speed-data": lambda r: r["rows"].clear(),
    }.items():
        broken = copy.deepcopy(results)
        break_it(broken[name])
        with pytest.raises(InputError, match=f"'{name}'.*run the script again"):
            read_goals(broken)
