"""Choice of device and precision for a training."""

import torch

from optitune.errors import UsageError
from optitune.space.configuration import Precision


def resolve_device(wanted: str) -> torch.device:
    """The device to train on; `auto` means a CUDA GPU where there is one, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        # all torch builds know the device meta, whose tensors have no numbers
        torch.empty(0, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError):
        raise UsageError(f"device = '{wanted}': torch finds no such device here; use auto or cpu") from None
    return device


def devices(chosen: torch.device) -> list[torch.device]:
    """The devices that workers are spread over: all GPUs for `cuda` without a number, else the chosen one."""
    if chosen.type != "cuda" or chosen.index is not None:
        return [chosen]
    return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]


def resolve_precision(wanted: str, device: torch.device) -> Precision:
    """The precision to train in; `auto` means bfloat16 where the hardware multiplies it faster than float32."""
    if wanted != "auto":
        return "fp32" if wanted == "fp32" else "bf16"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities = torch.cpu.get_capabilities()
    fast = device.type == "cpu" and any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return "bf16" if fast else "fp32"
