"""What a file of `torch.save` asks for, before it is unpickled: memory and time that are in proportion to its length.

`weights_only=True` keeps a pickle from running anything of its own. It does not keep a compressed record from becoming
a thousand times as long, or a tuple that holds another one twice, which does so again, from being a key: its hash looks
at each place of it, and thirty such tuples have a thousand million. And what it lets a pickle call may take any memory
(`bytearray(n)`, a storage of n numbers) or time (some codecs). So the pickle is followed here first.
"""

import math
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, BinaryIO

from torch import Tensor

from mpc_lite.errors import InputError, shown

# Bytes of a pickle, each of which may become a list, and the share of a longer file: some keep the losses of all steps
# there. That of the largest network and its optimiser has 2**20.
_LONGEST, _SHARE = 2**22, 16
_PLACES = 10_000  # of a tuple and all within it; those of torch.save hold shapes, and what a tensor is made of
_WHOLE = 2**20  # values in a checkpoint of ours, each counted as often as it is met; those of the largest network 2**15
_TIMES = 4  # a file's length is what is given to functions at most; torch.save gives them less than it
_PICKLES = 5  # at the start of a file in the former format
_KINDS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_VALUES = ("BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE")
_DIMENSIONS = 64  # of a tensor, as in torch
_SAME_HASH = 2**61 - 1  # a whole number from here on has the hash of a smaller one


def check_saved(file: BinaryIO, source: str, size: int) -> None:
    """InputError for records that are compressed or lie on one another, and for pickles that ask for anything but
    tensors and plain data, or for more of these than the file holds.

    size: of the file, in bytes. Any other error says that the file is damaged. The file's position is where it was.
    """
    start, pickles = file.tell(), _Pickles(source, size)
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
                        pickles.follow(pickle.read())
    else:
        file.seek(start)
        for _ in range(_PICKLES):
            pickles.follow(file)
    file.seek(start)


def check_extent(value: Any) -> None:
    """ValueError for a tensor in what was read that has more numbers than the file holds: one that is repeated takes
    no memory until it is copied. And for lists within lists that hold themselves, or one another again and again."""
    waiting, left = [value], _WHOLE
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            if each.untyped_storage().nbytes() < each.numel() * each.element_size():
                raise ValueError(f"a tensor of {each.numel()} numbers, of which the file does not hold as many")
        elif isinstance(each, dict | list | tuple):
            left -= len(each)
            if left < 0:
                raise ValueError(f"more than {_WHOLE} values")
            waiting += each.values() if isinstance(each, dict) else each


def asked_for(source: str, name: str) -> InputError:
    """The sentence on a file that names a function or class which is not called for it."""
    name = name.removeprefix("builtins.").removeprefix("__builtin__.")
    return InputError(
        f"{source} asks for {shown(name)} while it is read; expected tensors and plain data, so nothing was run or "
        "loaded. Do not open it elsewhere either, unless you know who made it and why"
    )


@dataclass(frozen=True)
class _Named:
    """In place of a function or class."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """In place of the numbers beside a pickle, of which tensors are parts."""

    numbers: int


@dataclass(frozen=True)
class _Made:
    """In place of a tensor or another object."""

    numbers: int = 1


class _Tuple(tuple):
    places = 1


class _Pickles:
    """The pickles of one file, followed opcode by opcode as torch does it, with something else in place of all that
    takes memory or time. Numbers, texts, lists and dictionaries are themselves."""

    def __init__(self, source: str, size: int):
        self.source, self.size, self.left = source, size, _TIMES * size
        self.longest = max(_LONGEST, size // _SHARE)
        self.storages: dict[Any, _Storage] = {}
        self.stored = 0

    def follow(self, pickle: bytes | BinaryIO) -> None:
        stack, outer, memo = [], [], {}
        for opcode, argument, position in pickletools.genops(pickle):
            if position >= self.longest:
                raise InputError(
                    f"{self.source} holds a pickle of more than {self.longest} bytes; expected names and shapes in "
                    "it, and the numbers beside it"
                )
            match opcode.name:
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case name if name in _VALUES:
                    stack.append(argument)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(opcode.name == "NEWTRUE")
                case "MARK":
                    outer.append(stack)
                    stack = []
                case "EMPTY_TUPLE":
                    stack.append(_Tuple())
                case "TUPLE":
                    members, stack = stack, outer.pop()
                    stack.append(self._tuple(members))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    first = -int(opcode.name[-1])
                    stack[first:] = [self._tuple(stack[first:])]
                case "EMPTY_LIST":
                    stack.append([])
                case "APPEND":
                    value = stack.pop()
                    stack[-1].append(value)
                case "APPENDS":
                    values, stack = stack, outer.pop()
                    stack[-1].extend(values)
                case "EMPTY_DICT":
                    stack.append({})
                case "SETITEM":
                    value, name = stack.pop(), stack.pop()
                    stack[-1][self._name(name)] = value
                case "SETITEMS":
                    values, stack = stack, outer.pop()
                    names = map(self._name, values[::2])
                    stack[-1].update(zip(names, values[1::2], strict=True))
                case "EMPTY_SET":
                    stack.append(_Made())
                case "GLOBAL":
                    stack.append(_Named(argument.replace(" ", ".")))
                case "REDUCE" | "NEWOBJ":
                    arguments = stack.pop()
                    stack.append(self._called(stack.pop(), arguments))
                case "BUILD":
                    state = stack.pop()
                    self._give_attributes(stack[-1], state)
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "PROTO" | "STOP":
                    pass
                case other:
                    raise ValueError(f"{other}, which torch.save does not write")

    def _tuple(self, members: list[Any]) -> _Tuple:
        made = _Tuple(members)
        made.places = 1 + sum(each.places if isinstance(each, _Tuple) else 1 for each in members)
        if made.places > _PLACES:
            raise InputError(
                f"{self.source} holds tuples within tuples, of {made.places} places in all; expected tensors and their "
                "names"
            )
        return made

    def _name(self, name: Any) -> Any:
        """The name, if it is of a kind of which nobody can choose many of one hash: with such a dictionary is slow."""
        if isinstance(name, str | float | None) or (isinstance(name, int) and abs(name) < _SAME_HASH):
            return name
        raise InputError(
            f"{self.source} has entries whose names are no texts, or numbers of many digits; expected tensors and "
            "their names"
        )

    def _give_attributes(self, owner: Any, state: Any) -> None:
        """To an ordered dictionary, as `state_dict` does; but none that would take the place of a method."""
        if not isinstance(owner, dict) or not isinstance(state, dict):
            raise ValueError("attributes of what is no dictionary")
        self._count(state)
        if taken := [name for name in state if hasattr(OrderedDict, name)]:
            raise ValueError(f"an attribute in place of the method {taken[0]}")

    def _storage(self, reference: Any) -> _Storage:
        match reference:
            case (str(), _Named(), key, str(), int() as numbers, *_) if numbers >= 0:
                if self._name(key) not in self.storages:
                    self.storages[key] = _Storage(numbers)
                    self.stored += numbers
                    if self.stored > self.size:
                        raise ValueError(f"tensors of {self.stored} numbers in a file of {self.size} bytes")
                return self.storages[key]
        raise ValueError("a reference to no storage")

    def _called(self, function: Any, arguments: Any) -> Any:
        """What a function or class gives for such arguments. InputError for all but those of tensors and plain data."""
        if not isinstance(function, _Named) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        self._count(arguments)
        match function.name.replace("__builtin__", "builtins"), arguments:
            case "collections.OrderedDict" | "yacs.config.CfgNode", ():
                return {}
            case "collections.OrderedDict", ([*pairs],):  # of Python 2
                return {self._name(name): value for name, value in pairs}
            case "collections.Counter", (dict() as counts,):  # of a schedule in steps
                return counts
            case "builtins.set", ([*members],):
                return _Made(len([self._name(each) for each in members]))
            case "_codecs.encode", (str() as text, str() as codec):  # bytes, as protocol 2 writes them
                if codec != "latin1":
                    raise asked_for(self.source, f"_codecs.encode in {codec}")
                return _Made(len(text))
            case "torch.Size", (tuple() as sides,):
                return sides
            case "builtins.complex" | "torch.device" | "torch.serialization._get_layout", _:
                return _Made()
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor_v3",
                (_Storage() as storage, int() as offset, [*sides], [*strides], *_),
            ):
                return self._tensor(storage, offset, sides, strides)
            case "torch._utils._rebuild_parameter", (_Made() as tensor, *_):
                return tensor
            case "torch._utils._rebuild_parameter_with_state", (_Made() as tensor, _, _, dict() as state):
                self._count(state)  # attributes of a Parameter, or of a tensor below
                return tensor
            case "torch._tensor._rebuild_from_type_v2", (_Named() as make, _Named() as kind, tuple() as parts, state):
                if kind.name not in _KINDS or not isinstance(state, dict):
                    raise asked_for(self.source, kind.name)
                self._count(state)
                return self._called(make, parts)
            case "torch._utils._rebuild_sparse_tensor", (_, [*parts]):
                return _Made(sum(part.numbers for part in parts if isinstance(part, _Made)))
        raise asked_for(self.source, function.name)

    def _tensor(self, storage: _Storage, offset: int, sides: list[int], strides: list[int]) -> _Made:
        """ValueError for one that lies outside its storage: torch would make that longer."""
        numbers = [offset, *sides, *strides]
        if len(sides) > _DIMENSIONS or len(sides) != len(strides) or min(numbers) < 0:
            raise ValueError("a tensor of odd sides")
        last = offset + sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
        if (total := math.prod(sides)) and last >= storage.numbers:
            raise ValueError(f"a tensor that ends at number {last} of {storage.numbers}")
        return _Made(total)

    def _count(self, arguments: Any) -> None:
        """InputError where functions are given more than the file holds: the same again and again."""
        waiting = [arguments]
        while waiting:
            each = waiting.pop()
            if isinstance(each, _Made):
                self.left -= each.numbers
            elif isinstance(each, str | tuple | list | dict):
                self.left -= len(each)
            if self.left < 0:
                raise InputError(
                    f"{self.source} has {self.size} bytes, and would make far more of them: the same is read again and "
                    "again; expected tensors and plain data, each once"
                )
            if isinstance(each, tuple):
                waiting += each
