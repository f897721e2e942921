"""What reaches the terminal: any letter, whatever its encoding lacks, and no end of work where it takes nothing."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import warnings
from pathlib import Path

from mpc_lite.errors import printable, printable_lines, to_nowhere

lost: list[OSError] = []  # why standard output did not take what it should show
_format_warning = warnings.formatwarning


def any_letter_prints() -> None:
    r"""From here on, letters that the terminal's encoding lacks are written as \u65e5, and end no command.

    Of the three standard streams none is left closed: a file that is opened would take its number, and lose what it
    holds where libraries are kept silent. Warnings, in whose texts are names of files, are `printable` too, and our own
    are notes, without a line of code.
    """

    def line_of(message: Warning | str, category: type[Warning], file: str, *number: int, **line: str | None) -> str:
        if category is UserWarning and Path(file).is_relative_to(Path(__file__).parents[1]):
            return f"note: {printable(message)}\n"
        return _format_warning(printable(message), category, file, *number, **line)

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    warnings.formatwarning = line_of
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def tell(text: object, error: bool = False) -> None:
    """Print a text whose names are other people's: no control, escape or bidi character reaches the terminal."""
    put(printable_lines(text), error)


def put(text: str, error: bool = False) -> None:
    """Print a text as it is, at once. An output that is closed or full ends no work: what it should show is lost, and
    `at_end` says so at the end, unless who read it has gone (`| head -1`, a window that was closed)."""
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # closed before the start; print would take the other one
        return
    try:
        print(text, file=stream, flush=True)
    except OSError as refused:
        gone = refused.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)  # its terminal
        if not error and refused.errno != errno.EPIPE and not gone:
            lost.append(refused)
        to_nowhere(stream)


def at_end(code: int, mistake: int) -> int:
    """The exit code at a command's end: `code`, or, said aloud, `mistake` where standard output lost a part of what it
    should show and nothing else is wrong."""
    if not lost:
        return code
    reason = lost[0].strerror
    lost.clear()
    tell(f"error: standard output took no more ({reason}); what was written to files is whole", error=True)
    return code or mistake


def speaks() -> bool:
    """Of processes started together (`accelerate launch`, `torchrun`) only the first one prints: all know the same. One
    alone always does, whatever number another program left in its environment."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
