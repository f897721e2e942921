"""Which device trains and scores."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mpc_lite.errors import InputError


def choose_accelerator(device: str | None, precision: str, **more) -> Accelerator:
    """device: None takes the best there is; ``cpu`` or ``cuda`` insist. InputError when there is no such device."""
    if device not in (None, "auto", "cpu", "cuda"):
        raise InputError(f"device '{device}' is unknown; choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': this torch sees no CUDA device; choose 'cpu' or leave the device out")
    # Processes started together without GPUs would otherwise not find each other, and each train by itself.
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    mixed = "bf16" if precision == "bf16" else "no"
    AcceleratorState._reset_state()  # the second stage of a process may want another precision
    return Accelerator(cpu=device == "cpu" or several, mixed_precision=mixed, **more)
