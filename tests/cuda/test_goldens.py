"""The golden numbers of the authors' code, computed on a GPU in three precisions.

Tolerances: on a CPU fp32 comes within 1e-6 of them. Operands cut to TF32 there (every product and convolution of the
released network) move its maps by 7e-4 and the loss's gradients by 6e-4, bf16 autocast by 1.2e-2 and 6.5e-3. The GPU
is allowed about five times as much, and in fp32, where its algorithms are others, fifty to a hundred times.
"""

import numpy as np
import pytest
import torch

from mpc_lite.contrast.loss import mpc_loss_per_image
from mpc_lite.network.model import MPC
from mpc_lite.training.finetune import focal_loss
from tests.cuda.conftest import GOLDEN, PRECISIONS, apart, computing_in
from tests.network.test_hrformer import fill

pytestmark = pytest.mark.cuda

NETWORK = {"fp32": 5e-5, "tf32": 3e-3, "bf16": 5e-2}
LOSS = {"fp32": 1e-5, "tf32": 1e-4, "bf16": 1e-3}  # of the values
GRADIENT = {"fp32": 5e-5, "tf32": 3e-3, "bf16": 3e-2}


@pytest.fixture(scope="module")
def released() -> MPC:
    """The released network with the weights under which the golden numbers were computed, on the CPU."""
    model = MPC.build("base").eval()
    fill(model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_released_network(device, precision, request):
    model = request.getfixturevalue("released").to(device, memory_format=torch.channels_last)
    golden = np.load(GOLDEN / "hrformer_base.npz")
    for prefix, seed, shape in (("", 0, (1, 3, 96, 96)), ("odd_", 1, (1, 3, 100, 76))):
        images = torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32)).to(device)
        with torch.no_grad(), computing_in(precision, device):
            maps = model.encode(images)
            found = {f"feature{i}": x[0, ::8] for i, x in enumerate(maps, start=1)} | {"logits": model.localize(maps)}
        far = {name: apart(value, torch.from_numpy(golden[prefix + name])) for name, value in found.items()}
        assert max(far.values()) < NETWORK[precision], far


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("path", ["fixed", "compact"])
@pytest.mark.parametrize("case", ["balanced", "small_forgery"])
def test_the_released_loss_and_its_gradients(device, case, path, precision):
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "mpc_loss.npz").items() if k.startswith(case)}

    def on_device(name):
        return golden[f"{case}_{name}"].permute(2, 0, 1)[None].contiguous().to(device).requires_grad_()

    passes = [[on_device(f"{one}{i}") for i in (1, 2, 3, 4)] for one in "xy"]
    with computing_in(precision, device):
        terms, counted = mpc_loss_per_image(*passes, golden[f"{case}_mask"][None].to(device), path=path)
        total = sum(terms.values())
        total.sum().backward()
    assert counted.tolist() == [True]
    far = {name: apart(value, golden[f"{case}_{name}"]) for name, value in {**terms, "total": total}.items()}
    assert max(far.values()) < LOSS[precision], far
    learnt = {f"x{i + 1}": maps for i, maps in enumerate(passes[0])} | {"y1": passes[1][0]}
    far = {n: apart(maps.grad[0].permute(1, 2, 0), golden[f"{case}_grad_{n}"]) for n, maps in learnt.items()}
    assert max(far.values()) < GRADIENT[precision], far


def test_the_released_focal_loss(device):
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "focal_loss.npz").items()}
    found = focal_loss(golden["logits"].to(device), golden["target"].to(device))
    assert found.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
