"""The log is JSON whatever the numbers, and whole whatever the disk does."""

import errno
import json
import os
from types import SimpleNamespace

import pytest
import torch

from mpc_lite.errors import InputError
from mpc_lite.training.log import Log

pytestmark = pytest.mark.trust


class Alone:
    """One process."""

    number, index = 1, 0

    def first(self, work):
        return work()

    def sum(self, values):
        return torch.as_tensor(values, dtype=torch.float64)


def log(out, first=0):
    return Log(out, "pretrain", 40, first, SimpleNamespace(log=lambda *_, **__: None), Alone())


def test_numbers_that_json_does_not_know_are_null(tmp_path):
    one = log(tmp_path)
    one.add({"total": torch.tensor(float("inf")), "within_image": torch.tensor(1.0)})
    one.step(1, 1.0, float("nan"))
    one.validation(1, {"score": float("nan"), "f1": 0.5})
    refuse = {"parse_constant": lambda name: pytest.fail(f"{name} is no JSON")}
    lines = [json.loads(line, **refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] is None and lines[0]["learning_rate"] is None and lines[0]["within_image"] == 1.0
    assert lines[1]["validation"] == {"score": None, "f1": 0.5}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_told_with_the_path(tmp_path):
    one = log(tmp_path)
    one.path = tmp_path / "full.jsonl"
    one.path.symlink_to("/dev/full")
    with pytest.raises(InputError, match=rf"cannot write {one.path}: {os.strerror(errno.ENOSPC)}; the lines before"):
        one.validation(1, {"score": 0.5})


def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    """A disk that is nearly full takes part of a write."""
    import io

    from mpc_lite.training import log as module

    one = log(tmp_path)
    one.validation(1, {"score": 0.5})
    before = one.path.read_bytes()

    class NearlyFull(io.FileIO):
        def write(self, data):
            return super().write(data[:7])

    monkeypatch.setattr(module, "open", lambda path, mode, buffering: NearlyFull(path, mode), raising=False)
    with pytest.raises(InputError, match="cannot write"):
        one.validation(2, {"score": 0.5})
    assert one.path.read_bytes() == before
