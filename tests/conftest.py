"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real photographs and forgeries; tests skip without MPC_LITE_DATA and fail with a wrong one."""
    folder = os.environ.get("MPC_LITE_DATA")
    if not folder:
        pytest.skip("MPC_LITE_DATA is not set: it names the folder with forged.csv and photos.csv (real photographs)")
    if not Path(folder).is_dir():
        pytest.fail(f"MPC_LITE_DATA is set to {folder}, which is not a folder; correct or unset it")
    return Path(folder)
