"""JSON that others wrote: a value that everybody may walk through, or ValueError."""

import json

import pytest

from mpc_lite.json_text import read_json

pytestmark = pytest.mark.trust


@pytest.mark.parametrize("begin, end", [("[", "]"), ('{"a": ', "}"), ('{"b": [1, {}], "a": ', ', "c": 2}')])
def test_what_is_nested_too_deep_to_be_walked_through_is_refused(begin, end):
    for times in (0, 1, 10, 99):
        text = begin * times + "0" + end * times
        assert read_json(text) == read_json(text.encode()) == json.loads(text)
    for times in (101, 400, 100_000):  # the last one is deeper than json itself goes
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            read_json(begin * times + "0" + end * times)


def test_what_is_no_json_is_a_value_error_and_options_are_those_of_json():
    for text in ("", "[", "[1, 2", b"\xff", '{"a": 1'):
        with pytest.raises(ValueError):
            read_json(text)
    assert read_json("[1, 2.5]", parse_int=str, parse_float=str) == ["1", "2.5"]
