"""Progress from a log: what is shown, once, and only what is new."""

import io
import json
import time

import pytest
from rich.console import Console

from mpc_lite.training.progress import Tail, clock, following, read_log


def line(step, **more):
    return json.dumps({"stage": "pretrain", "step": step, "steps": 4, **more}) + "\n"


def watch(log, write, terminal=False):
    text, end = io.StringIO(), time.monotonic() + 60
    with following(log, Console(file=text, force_terminal=terminal, width=100)) as say:
        say("begin")
        shown = len(text.getvalue())
        write()
        while len(text.getvalue()) == shown and time.monotonic() < end:  # shown while the block runs, not at its end
            time.sleep(0.05)
        assert len(text.getvalue()) > shown
    return text.getvalue()


def test_plain_lines_show_first_last_and_every_validation(tmp_path):
    log = tmp_path / "log.jsonl"

    def write():
        with open(log, "a") as file:
            for step in (1, 2, 3, 4):
                file.write(line(step, loss=step / 2, seconds_left=65.4))
            file.write(line(4, validation={"f1": 0.25, "note": "text"}))

    shown = watch(log, write).splitlines()
    assert shown == [
        "begin",
        "pretrain 1/4  loss 0.5000  1:05 left",
        "pretrain 4/4  loss 2.0000  1:05 left",
        "pretrain 4/4: validation F1 (clusters, stride 4) 0.25",
    ]


def test_a_validation_line_names_what_it_measures(tmp_path):
    log, scores = tmp_path / "log.jsonl", {"f1": 0.5, "iou": 0.25, "score": 0.375, "authentic_marked": 0.1}
    entry = {"stage": "finetune", "step": 4, "steps": 4, "validation": scores}
    shown = watch(log, lambda: log.write_text(json.dumps(entry) + "\n")).splitlines()[1:]
    said = "F1 (crops, > 0.5) 0.5, IoU 0.25, mean of both 0.375, marked in authentic images 0.1"
    assert shown == [f"finetune 4/4: validation {said}"]


def test_lines_of_before_are_not_shown_again(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(line(1, loss=1.0) + line(2, loss=2.0) + line(3, loss=3.0))

    def goes_on():
        with open(log, "a") as file:
            file.write(line(4, loss=7.0))

    assert watch(log, goes_on).splitlines() == ["begin", "pretrain 4/4  loss 7.0000  –:–– left"]


def test_steps_that_are_done_again_are_shown_again_and_none_before_them(tmp_path):
    """The training loop drops from the log the steps that it will do again, then goes on."""
    log = tmp_path / "log.jsonl"
    log.write_text(line(1, loss=1.0) + line(2, loss=2.0) + line(3, loss=3.0))
    tail = Tail(log, log.stat().st_size)
    assert list(tail.new()) == []
    log.write_text(line(1, loss=1.0))
    assert list(tail.new()) == []
    with open(log, "a") as file:
        file.write(line(2, loss=7.0))
    assert [(entry["step"], entry["loss"]) for entry in tail.new()] == [(2, 7.0)]


def test_half_written_and_foreign_lines_do_no_harm(tmp_path):
    log = tmp_path / "log.jsonl"

    def write():
        log.write_text("garbage\n[1]\n{}\n" + line(4, loss=1.0) + line(1)[:20])

    assert watch(log, write).splitlines() == ["begin", "pretrain 4/4  loss 1.0000  –:–– left"]
    assert [entry["step"] for entry in read_log(log)] == [4]
    assert read_log(tmp_path / "none") == []


@pytest.mark.trust
def test_a_foreign_logs_letters_do_not_act_on_the_terminal(tmp_path):
    log = tmp_path / "log.jsonl"
    stage = json.dumps({"stage": "\x1b[2J[b]\u202e", "step": 4, "steps": 4, "loss": 1.0}) + "\n"
    shown = watch(log, lambda: log.write_text(stage))
    assert "\x1b" not in shown and r"\x1b[2J[b]\u202e 4/4  loss 1.0000" in shown


def test_a_terminal_gets_a_bar(tmp_path):
    log = tmp_path / "log.jsonl"
    shown = watch(log, lambda: log.write_text(line(3, loss=0.5, seconds_left=2.0)), terminal=True)
    assert "3/4" in shown and "loss 0.5000" in shown and "0:02 left" in shown


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01"), (None, "–:––")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
