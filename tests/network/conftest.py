"""The big network, built once a run."""

import pytest

from mpc_lite.network.model import MPC


@pytest.fixture(scope="session")
def base() -> MPC:
    """The released network with the weights under which the golden numbers were computed; tests only read it."""
    from tests.network.test_hrformer import fill

    model = MPC.build("base").eval()
    fill(model)
    return model
