"""The list of a network's modules is never that of an earlier tree."""

import gc
import weakref

from torch import nn

from mpc_lite.network.hrformer import Block
from mpc_lite.network.model import MPC
from mpc_lite.network.tree import modules_of


def test_the_modules_of_a_network_are_those_it_has_now():
    """Exchanged, added and deleted ones are seen, wherever in the tree; and the list does not keep a network alive."""
    network = MPC.build("nano")
    assert modules_of(network) == list(network.modules()) == modules_of(network)
    block = next(m for m in network.modules() if isinstance(m, Block))
    block.attn = nn.Identity()
    assert modules_of(network) == list(network.modules())
    block.more = nn.Sequential(nn.ReLU())
    assert modules_of(network) == list(network.modules())
    del block.more[0]
    assert modules_of(network) == list(network.modules())
    there = weakref.ref(network)
    del network, block
    gc.collect()
    assert there() is None
