"""Device, precision and process: what auto takes, what is refused, and what a training process is set up with."""

import platform
import subprocess
import sys

import pytest
import torch

from optitune.errors import UsageError
from optitune.space.configuration import Precision
from optitune.training.device import devices, resolve_device, resolve_precision


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


def test_a_device_that_is_named_and_there_is_taken() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_with_a_way_out(name: str) -> None:
    with pytest.raises(UsageError, match=f"device = '{name}': .* here.*; use auto or cpu"):
        resolve_device(name)


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "empty", without)
    with pytest.raises(UsageError, match=r"device = 'cuda': .*; use auto or cpu"):
        resolve_device("cuda")


def test_workers_are_spread_over_all_gpus_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [str(device) for device in devices(torch.device("cuda"))] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(device) for device in devices(torch.device("cuda:1"))] == ["cuda:1"]
    assert [str(device) for device in devices(torch.device("cpu"))] == ["cpu"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_that_is_named_is_taken(precision: Precision) -> None:
    assert resolve_precision(precision, torch.device("cpu")) == precision
    assert resolve_precision(precision, torch.device("cuda")) == precision


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, "fp32"), ({"avx2": True, "avx512_bf16": False}, "fp32"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_precision_is_bfloat16_where_the_cpu_is_fast_at_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_on_a_gpu_is_what_it_supports(
    supported: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert resolve_precision("auto", torch.device("cuda")) == expected


def test_a_process_set_up_for_training_has_one_thread_and_keeps_freed_memory() -> None:
    # faults are counted, not timed: a second pass over freed and reused memory meets hardly any
    code = """
import resource, torch
from optitune.workers.process import configure_worker_process
configure_worker_process()
assert torch.get_num_threads() == 1
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16 * 2**20, dtype=torch.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[-10:]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if platform.libc_ver()[0] == "glibc":
        assert int(ended.stdout) < 100
