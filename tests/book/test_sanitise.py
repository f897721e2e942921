"""The patterns that nbval applies before it compares: they hide what differs by nature, and nothing else."""

import re
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

CONFIG = Path(__file__).parents[2] / "book" / "tools" / "twins" / "nbval_sanitise.cfg"
HIDDEN = {
    "<A at 0x7f1b2c3d4e5f>": "<A at ADDRESS>",
    "id 123e4567-e89b-12d3-a456-426614174000": "id UUID",
    "'0123456789abcdef0123456789abcdef'": "'UUID'",
    '<img src="data:image/png;base64,iVBORw0KGgo/+A==">': '<img src="PICTURE">',
    "torch 2.14.1+cpu, numpy 2.4.6, jupyter-book 1.0.4.post1": "torch VERSION, numpy VERSION, jupyter-book VERSION",
    "at 2026-01-02T03:04:05.678Z": "at TIME",
    "in '/home/me/book/x.py', line 3": "in 'PATH', line 3",
    "0.12345678901": "0.1234",
    "[-0.00072612345, 12.3456789, 6543.21987]": "[-0.0007261, 12.34, 6543.]",
    "2.7145678e-07": "2.714e-07",
}
# The same numbers of a chapter, told by two processors.
TWICE = [
    ("33.21348428726196", "33.2133948802948"),
    ("86.50088906288147", "86.5008533000946"),
    ("0.6483254488980037", "0.648327539544497"),
    ("0.05716744776549006", "0.05716640379783224"),
]
KEPT = [
    "F1 0.633 [0.60, 0.67]",
    "-6.6781, 0.000726, 1e-10",
    "(64, 64, 64)",
    "0xff",
    "a/home/b",
    "3/4",
    "300.241",
    "11.0113",
]
KEPT += ["https://x.org/home/y", "2 of 2109 steps", "5000 ×  5000: 12.8 GFLOP"]


def sanitise(text):
    for pattern, replacement in get_sanitize_patterns(CONFIG.read_text()):
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize("text", HIDDEN)
def test_hidden(text):
    assert sanitise(text) == HIDDEN[text]


@pytest.mark.parametrize("text", KEPT)
def test_kept(text):
    assert sanitise(text) == text


@pytest.mark.parametrize(("here", "there"), TWICE)
def test_processors_agree(here, there):
    assert sanitise(here) == sanitise(there) != here


def test_the_fourth_digit_counts():
    assert sanitise("0.4766451575") != sanitise("0.4767451575") and sanitise("269.0594520") != sanitise("269.1594520")


def test_every_section_is_read():
    text = CONFIG.read_text()
    assert len(get_sanitize_patterns(text)) == len(re.findall(r"^\[", text, re.MULTILINE)) == 8
