"""Names of strangers on a terminal and in messages."""

import ast
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from rich.console import Console

from mpc_lite import errors
from mpc_lite.cli import main
from mpc_lite.decoders import open_image
from mpc_lite.errors import nearest, printable, printable_lines, shortened, shown
from mpc_lite.images import read_image
from mpc_lite.recipes.load import load_recipe
from mpc_lite.reproduce.results import terminal_table

pytestmark = pytest.mark.trust
PACKAGE = Path(errors.__file__).parent


def test_every_kind_of_mistake_is_known_by_its_name_to_who_has_the_module():
    """A notebook keeps of an error its class's name alone, and who executed it has not imported all that it did."""
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    bases = {n.name: {ast.unparse(b).split(".")[-1] for b in n.bases} for n in nodes if isinstance(n, ast.ClassDef)}
    kinds = {"InputError"}
    while more := {name for name, above in bases.items() if above & kinds} - kinds:
        kinds |= more
    assert len(kinds) > 3
    code = "from mpc_lite.errors import mistakes; print(*mistakes())"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(alone.stdout.split()) == kinds, "a kind of mistake stands in another module than mpc_lite.errors"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.png", "a b.png"),
        ("Größe ± 図 صورة 😀.png", "Größe ± 図 صورة 😀.png"),
        ("\x1b[2Ja", r"\x1b[2Ja"),
        ("a\rb\nc\td\x7f\x9b", r"a\rb\nc\td\x7f\x9b"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\ufeffimage\u200b", r"\ufeffimage\u200b"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("a\u2028b", r"a\u2028b"),
        ("a\u2063b\u180e\u3164\ufff9", r"a\u2063b\u180e\u3164\ufff9"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("नमस्\u200dते 👩\u200d👧.png", "नमस्\u200dते 👩\u200d👧.png"),  # joins what is seen
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_only_what_acts_on_a_terminal_is_escaped(name, expected):
    assert printable(name) == expected and printable(expected) == expected


@given(st.text())
def test_nothing_acts_on_a_terminal_after_it(text):
    assert not {
        c for c in printable(text) if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202a\u202b\u202d\u202e\u2028"
    }
    printable(text).encode()
    assert printable_lines(text).count("\n") == text.count("\n")


def test_long_values_are_cut_with_their_length_told():
    assert shortened("a" * 60) == "a" * 60 and shortened("a" * 61) == "a" * 60 + "… (61 characters)"
    assert shortened(10**5000) == "a number of thousands of digits"
    assert shown("\x1b" * 100, 8) == "\\x1b\\x1b… (400 characters)"
    assert nearest("a" * 10**6, ["seed"]) == "" and nearest("seeed", ["seed"])


def test_a_letter_that_the_terminal_lacks_ends_no_command(tmp_path, monkeypatch):
    path, written = tmp_path / "m.csv", io.BytesIO()
    path.write_text("image,mask,label,source\nb日.png,,0,set\nç.png,,0,set\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert main(["check", str(path)]) == 1
    sys.stdout.flush()
    lines = written.getvalue().decode("latin-1").splitlines()
    assert len(lines) == 2 and r"image b\u65e5.png does not exist" in lines[0] and "image ç.png" in lines[1]


def test_a_warning_of_a_command_shows_a_strangers_name_as_other_lines_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    main(["check", str(tmp_path / "none.csv")])
    text = warnings.formatwarning(UserWarning("a\x1b[2J\nerror.png"), UserWarning, "scenes.py", 118, line="")
    assert text == "scenes.py:118: UserWarning: a\\x1b[2J\\nerror.png\n"
    ours = str(Path(errors.__file__).parent / "forgeries" / "scenes.py")
    text = warnings.formatwarning(UserWarning("a\x1b[2J\nerror.png"), UserWarning, ours, 118, line="warnings.warn(")
    assert text == "note: a\\x1b[2J\\nerror.png\n"


SOURCES = ("[/bold]", "[red]set[/red]", "[link=x]", "\x1b[2Jset", "set\u202e", "line\u2028all is well", "[" * 500)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_in_a_manifest_is_shown_as_it_is_and_loses_no_run(source, tmp_path, capsys):
    mask = np.zeros((40, 50), np.uint8)
    mask[:20] = 255
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    (tmp_path / "m.csv").write_text(f'image,mask,label,source\na.png,m.png,1,"{source}"\n', encoding="utf-8")
    call = ["evaluate", "--weights", "lite", "--manifest", str(tmp_path / "m.csv"), "--json", str(tmp_path / "s.json")]
    assert main([*call, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said and shown(source) in said
    scores = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    results = {**scores, "name": "run[/x]", "profile": "lite", "seed": 0, "recipe": load_recipe("quickstart").as_dict()}
    (tmp_path / "results.json").write_text(json.dumps(results))
    console = Console(width=200, record=True, force_terminal=False)
    console.print(terminal_table(tmp_path))
    text = console.export_text()
    assert shown(source).replace("\n", "")[:20] in text and "run[/x]" in text


def test_threads_that_decode_by_turns_leave_warnings_and_logs_as_they_were():
    """The second to come saved what the first had switched off, and put that back at its end, for good."""
    import cv2

    logs = getattr(cv2.utils, "logging", cv2)
    before, level = list(warnings.filters), logs.getLogLevel()
    first, second = errors.quiet(), errors.quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert warnings.filters[0][:3] == ("ignore", None, Warning) and logs.getLogLevel() == 0
    second.__exit__(None, None, None)
    assert warnings.filters == before and logs.getLogLevel() == level
    with pytest.raises(ValueError), errors.quiet():
        raise ValueError
    assert warnings.filters == before and logs.getLogLevel() == level
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif", "bmp", "jp2", "tif", "webp", "ppm"])
def test_a_cut_picture_is_none_whatever_the_program_lets_pillow_read(kind, tmp_path, monkeypatch):
    """Training scripts of the field often set this at their top, for the whole process."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / f"a.{kind}")
    whole = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert read_image(tmp_path / f"a.{kind}").shape == (90, 120, 3)
    with pytest.raises(errors.InputError, match=f"cut.{kind}: cannot be read as an image"):
        read_image(tmp_path / f"cut.{kind}")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("own", [None, 1000])
def test_the_limit_of_pixels_is_ours_while_we_read_and_the_program_s_afterwards(own, tmp_path, monkeypatch):
    Image.new("1", (16000, 12500)).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "ab") as file:
        file.truncate(5 << 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own)
    with open_image(tmp_path / "a.png") as image:
        assert image.size == (16000, 12500)
    assert own == Image.MAX_IMAGE_PIXELS
