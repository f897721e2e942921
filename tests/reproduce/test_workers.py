"""Where cells run: the share of each worker of our own, and workers elsewhere that cannot do the work."""

import os

import dask.system
import pytest

from mpc_lite.errors import InputError
from mpc_lite.reproduce import workers
from mpc_lite.reproduce.workers import check_workers, connected, environments


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(dask.system, "CPU_COUNT", 8)
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_workers_on_a_cpu_share_its_cores(monkeypatch):
    assert environments(3, []) == [{"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}] * 3
    assert environments(1, [])[0]["OMP_NUM_THREADS"] == "8"
    assert len(environments(20, [])) == 8 and environments(20, [])[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environments(3, [])[0]["OMP_NUM_THREADS"] == "5"


def test_each_gpu_has_one_worker_that_sees_no_other(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in environments(5, workers.gpus())] == ["0", "1"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in environments(1, workers.gpus())] == ["0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f2")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in environments(5, workers.gpus())] == ["3", "GPU-8f2"]
    assert environments(5, workers.gpus())[0]["OMP_NUM_THREADS"] == "4"


@pytest.mark.trust
def test_workers_elsewhere_get_threads_from_the_sweep_not_from_dask(monkeypatch):
    neighbours, here = {"127.0.0.1": 3, "10.0.0.7": 1}, "tcp://127.0.0.1:4000"

    def threads(asked=None, given="1", address=here):
        monkeypatch.setattr(workers, "GIVEN", given)
        monkeypatch.setenv("MKL_NUM_THREADS", "1")  # dask's
        workers.share_threads(asked, neighbours, address)
        counted = {os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        return counted.pop() if len(counted) == 1 else counted

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "1")
    assert threads() == threads(given=None) == "2" and threads(address="tcp://10.0.0.7:9") == "8"
    assert threads(given="4,2") == threads(asked="4,2") == "4"  # OpenMP's for nested levels, of which others make 1
    assert threads(given="5") == "5" and threads(asked="1") == threads("1", "5") == "1"


class FakeClient:
    """Answers of a scheduler whose workers have `version` of the package, or lack the folder."""

    def __init__(self, version, there=True):
        self.version, self.there = version, there

    def get_versions(self, packages):
        here, there = ({"packages": {packages[0]: version}} for version in ("0.1.0", self.version))
        return {"client": here, "workers": {"tcp://a:1": here, "tcp://b:2": there}}

    def run(self, function, folder):
        return {"tcp://a:1": True, "tcp://b:2": self.there}


def test_a_worker_that_cannot_do_the_work_is_named():
    check_workers(FakeClient("0.1.0"), "/shared")
    with pytest.raises(InputError, match=r"worker tcp://b:2 has no mpc-lite, here it is 0\.1\.0: install"):
        check_workers(FakeClient(None), "/shared")
    with pytest.raises(InputError, match=r"worker tcp://b:2 has mpc-lite 0\.0\.9"):
        check_workers(FakeClient("0.0.9"), "/shared")
    with pytest.raises(InputError, match=r"worker tcp://b:2: its machine has no folder /shared"):
        check_workers(FakeClient("0.1.0", there=False), "/shared")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "node1"])
def test_a_scheduler_that_does_not_answer_is_a_mistake_of_the_call(address, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT", 1)
    with (
        pytest.raises(InputError, match=r"--scheduler .*expected the address of a running scheduler"),
        connected(1, True, address, print),
    ):
        pass
