"""What a file of torch.save asks for is known before it is unpickled: nothing out of proportion to the file."""

import codecs
import io
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

from mpc_lite.errors import InputError
from mpc_lite.network.convert import read_official
from mpc_lite.network.saved_file import check_extent, check_saved

pytestmark = pytest.mark.trust


class Call:
    """Pickled, it is the call of a function; `state` and `entries` as pickles give them to what it returns."""

    def __init__(self, function, *arguments, state=None, entries=()):
        self.parts = function, arguments, state, None, iter(entries)

    def __reduce__(self):
        return self.parts


def saved(value, zipped=True) -> bytes:
    with io.BytesIO() as buffer:
        torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
        return buffer.getvalue()


def check(data: bytes) -> None:
    check_saved(io.BytesIO(data), "x.pth", len(data))


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_data_pass(zipped):
    kinds = (torch.half, torch.bool, torch.bfloat16) + ((torch.uint16,) if zipped else ())  # which the former lacks
    layer = nn.BatchNorm2d(3)
    optimizer = torch.optim.AdamW(layer.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])  # it keeps a Counter
    layer(torch.ones(2, 3, 1, 1)).sum().backward()
    optimizer.step()
    whole = torch.arange(12.0)
    marked = [
        nn.Parameter(torch.ones(2)),
        torch.ones(2),
        *([nn.Buffer(torch.ones(2))] if hasattr(nn, "Buffer") else []),
    ]
    for each in marked:
        each.no_weight_decay = True
    values = {
        "state_dict": layer.state_dict(),  # with an attribute, of versions
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "parameter": layer.weight,
        "with attributes": marked,
        "views": [whole, whole[3:5], whole.view(3, 4).T, whole[:1].expand(9), torch.zeros(0, 2), torch.tensor(1j)],
        "types": [torch.zeros(2, dtype=kind) for kind in kinds],
        "sparse": torch.eye(3).to_sparse(),
        "of torch": [torch.Size([1, 2]), torch.device("cuda:0"), torch.float32, torch.strided],
        "plain": [1, -(10**18), 10**80, 0.5, None, True, 1j, "text", b"bytes\xff", (), (1, (2,)), {1, "a"}, set()],
        "named by numbers": {3: 0, 0.5: 0, None: 0, True: 0},
        "of Python 2": Call(OrderedDict, [["weight", whole], ["bias", 0]]),
    }
    data = saved(values, zipped)
    file = io.BytesIO(data)
    check_saved(file, "x.pth", len(data))
    assert file.tell() == 0
    found = torch.load(file, weights_only=True)
    assert list(found) == list(values) and list(found["of Python 2"]) == ["weight", "bias"]
    assert torch.equal(found["views"][2], whole.view(3, 4).T) and found["plain"][8] == b"bytes\xff"
    check_extent({name: found[name] for name in ("state_dict", "optimizer", "schedule", "plain")})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (bytearray(b"abc"), "bytearray"),
        (Call(bytearray, 10), "bytearray"),
        (Call(codecs.encode, "abc", "punycode"), "_codecs.encode in punycode"),
        (Call(codecs.encode, "abc", "utf-32"), "_codecs.encode in utf-32"),
        (Call(Counter, "abc"), "collections.Counter"),
        (Call(OrderedDict, {"a": 1}), "collections.OrderedDict"),
        (Call(torch.Tensor, 10), "torch.Tensor"),
        (Call(torch.UntypedStorage, 10), "torch.storage.UntypedStorage"),
        (torch.zeros(3, device="meta"), "torch._utils._rebuild_meta_tensor_no_storage"),
    ],
)
def test_what_tensors_and_plain_data_do_not_need_is_refused_by_name(call, name, zipped, tmp_path, monkeypatch):
    """torch's list lets all of these through; some take any memory, others any time."""
    (tmp_path / "x.pth").write_bytes(saved({"encoder.x": torch.zeros(1), "epoch": call}, zipped))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=rf"x\.pth asks for {name} while it is read; expected tensors and plain data"):
        read_official(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:Sparse invariant")
def test_one_value_is_not_made_into_others_again_and_again():
    """A line of a pickle makes as many bytes, or has as many numbers compared, as something has that is there once."""
    text, members, filling = "a" * 9000, list(range(9000)), torch.zeros(9000)
    for function, *arguments in ((codecs.encode, text, "latin1"), (set, members)):
        check(saved([Call(function, *arguments), filling]))
        with pytest.raises(InputError, match=r"x\.pth has [0-9]+ bytes, and would make far more of them: the same is"):
            check(saved([Call(function, *arguments) for _ in range(90)]))
    one = torch.zeros(1)
    sparse = torch.sparse_coo_tensor(one[None].long().expand(1, 90_000), one.expand(90_000), (1,), is_coalesced=False)
    with pytest.raises(InputError, match="would make far more of them"):
        check(saved(sparse))


@pytest.mark.parametrize("name", [("a",), (1, 2), 2**61, -(2**61), 10**400])
def test_entries_whose_names_may_all_have_one_hash_are_refused(name):
    """A dictionary of such names takes the square of its length; those of texts are drawn anew in each process."""
    for value in ({"x": {name: 0}}, {"x": {"y": 0, name: 0}}, {"x": {name}}):
        with pytest.raises(InputError, match=r"x\.pth has entries whose names are no texts, or numbers of many digits"):
            check(saved(value))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b"K\x04N", b"M\xff\x7fN", "tensors of 32767 numbers in a file of"),  # the storage says that it is longer
        (b"K\x04\x85", b"K\x05\x85", "ends at number 4 of 4"),  # a tensor does, and torch would make the storage so
        (b"K\x00K\x04\x85", b"K\x01K\x04\x85", "ends at number 4 of 4"),
        (b"K\x01\x85", b"J\xff\xff\xff\xff\x85", "odd sides"),
    ],
)
def test_numbers_that_the_file_does_not_hold_are_not_made(before, after, words):
    data = saved({"a": torch.zeros(4)}, zipped=False)
    assert data.count(before) == 1
    check(data)
    with pytest.raises(ValueError, match=words):
        check(data.replace(before, after))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_longer_than_names_and_shapes_are_is_refused(zipped):
    with pytest.raises(
        InputError, match=r"x\.pth holds a pickle of more than 4194304 bytes; expected names and shapes"
    ):
        check(saved({"x": "a" * 2**22}, zipped))


def test_attributes_do_not_take_the_place_of_methods(tmp_path):
    network = {"encoder.x": torch.zeros(1)}
    state = Call(OrderedDict, state={"items": 5, "keys": 5}, entries=network.items())
    (tmp_path / "x.pth").write_bytes(saved(state))
    with pytest.raises(InputError, match=r"x\.pth .* is damaged or not a file of torch\.save"):
        read_official(tmp_path / "x.pth")


def test_lists_that_hold_one_another_again_and_again_are_noticed():
    row = [0] * 2000
    check_extent([row] * 20)
    row.append(row)
    for value in ([[0] * 2000] * 2000, {"a": row}):
        with pytest.raises(ValueError, match="more than 1048576 values"):
            check_extent(value)
