"""JPEG in batch on the device against the files that Pillow writes."""

import numpy as np
import pytest
import torch

from mpc_lite.data.augment.on_device import jpeg
from tests.cuda.conftest import computing_in
from tests.data.test_on_device import apart, by_pillow, packaged, planes

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("size", [128, 250])
def test_a_saved_image_is_pillows(device, size, precision):
    """As near as on the CPU, see the tests of the data. TF32, which cuts what is multiplied, moves more coefficients
    across the middle between two multiples: cut so on a CPU, images of quality 30 came out up to 0.61 apart."""
    images = packaged(size)
    found = {}
    for quality in (30, 50, 70, 90, 95):
        with computing_in(precision, device):
            saved = jpeg(planes(images).to(device), torch.full((len(images),), quality, device=device))
        assert saved.device.type == device.type and saved.dtype == torch.uint8
        found[quality] = apart(saved.permute(0, 2, 3, 1).cpu().numpy(), by_pillow(images, quality))
    worst, mean = (1.0, 0.3) if precision == "tf32" else (0.5, 0.2)
    assert np.max(list(found.values())) < worst and np.mean(list(found.values())) < mean, found
