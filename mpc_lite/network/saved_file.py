"""What a file of `torch.save` asks for, before it is unpickled: memory and time that are in proportion to its length.

`weights_only=True` keeps a pickle from running anything. It does not keep a compressed record from becoming a thousand
times as long, or a tuple that holds another one twice, which does so again, from being a key: its hash looks at each
place of it, and thirty such tuples have a thousand million.
"""

import pickletools
import zipfile
from typing import Any, BinaryIO

from torch import Tensor

from mpc_lite.errors import InputError

_PLACES = 10_000  # of a tuple and all within it; those of torch.save hold shapes, and what a tensor is made of
_PICKLES = 5  # at the start of a file in the former format
_MARK = object()


def check_saved(file: BinaryIO, source: str, size: int) -> None:
    """InputError for records that are compressed or lie on one another, and for tuples within tuples without end.

    size: of the file, in bytes. Any other error says that the file is damaged. The file's position is where it was.
    """
    start = file.tell()
    if file.read(4) == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if any(r.compress_type != zipfile.ZIP_STORED or r.file_size != r.compress_size for r in records):
                raise InputError(
                    f"{source} holds compressed records, and torch.save compresses nothing; download it anew, or load "
                    "and save it with PyTorch where you trust it"
                )
            if (total := sum(record.file_size for record in records)) > size:
                raise InputError(f"{source} has {size} bytes, and its records {total}; download it anew")
            for record in records:
                if record.filename.endswith(".pkl"):
                    with archive.open(record) as pickle:
                        _check_tuples(pickle.read(), source)
    else:
        file.seek(start)
        for _ in range(_PICKLES):
            _check_tuples(file, source)
    file.seek(start)


def check_extent(value: Any) -> None:
    """ValueError for a tensor in what was read that has more numbers than the file holds: one that is repeated takes
    no memory until it is copied."""
    if isinstance(value, Tensor):
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(f"a tensor of {value.numel()} numbers, of which the file does not hold as many")
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            check_extent(each)


def _check_tuples(pickle: bytes | BinaryIO, source: str) -> None:
    """Follow a pickle's stack without making anything: of each value, how many places it has. Only tuples have more
    than one; the other things that have a hash keep it, or are that place."""
    stack: list[Any] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(pickle):
        name, before = opcode.name, opcode.stack_before
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MARK":
            stack.append(_MARK)
        else:
            taken = []
            if pickletools.markobject in before:
                while (value := stack.pop()) is not _MARK:
                    taken.append(value)
                before = before[: before.index(pickletools.markobject)]
            taken += [stack.pop() for _ in before]
            places = 1 + sum(taken) if name.startswith("TUPLE") else 1
            if places > _PLACES:
                raise InputError(
                    f"{source} holds tuples within tuples, of {places} places in all; expected tensors and their names"
                )
            stack += [places] * len(opcode.stack_after)
