"""What an accelerator can compute at most."""

from __future__ import annotations

import re
from typing import Literal

import torch

_PEAKS: tuple[tuple[str, float, float | None], ...] = (
    (r"GB200", 2500e12, None),  # NVIDIA GB200 data sheet
    (r"B200", 2250e12, None),  # NVIDIA HGX B200 data sheet
    (r"H200 NVL", 835.5e12, 60e12),  # NVIDIA H200 data sheet
    (r"(H200|GH200)", 989.4e12, 67e12),
    (r"H100 NVL", 835.5e12, 60e12),  # NVIDIA H100 data sheet, as are the next two
    (r"H100 PCIe", 756.5e12, 51e12),
    (r"H100", 989.4e12, 67e12),
    (r"A100", 312e12, 19.5e12),  # NVIDIA A100 data sheet
    (r"L40S", 362.05e12, 91.6e12),  # NVIDIA L40S data sheet
    (r"\bL4\b", 121e12, 30.3e12),  # NVIDIA L4 data sheet
    (r"\bA10\b", 125e12, 31.2e12),  # NVIDIA A10 data sheet
    (r"MI325X", 1307.4e12, 163.4e12),  # AMD Instinct MI325X data sheet
    (r"MI300X", 1307.4e12, 163.4e12),  # AMD Instinct MI300X data sheet
)
"""A pattern of the name that the driver gives, then dense FLOP/s in bf16 and in fp32 (without TF32).

The data sheets of NVIDIA state bf16 with sparsity for Hopper, Blackwell and Ada: half of that is here.
"""


def accelerator_peak_flops(device: torch.device | str, precision: Literal["fp32", "bf16"]) -> float | None:
    """Dense peak FLOP/s of an accelerator; None where it is not known, and for a CPU.

    Args:
        device: The device, or the name that its driver gives, e.g. `NVIDIA H100 80GB HBM3`.
        precision: What matrices are multiplied in.
    """
    if isinstance(device, torch.device):
        if device.type != "cuda":
            return None
        device = torch.cuda.get_device_name(device)
    if "MIG" in device:  # a slice of one
        return None
    for pattern, bf16, fp32 in _PEAKS:
        if re.search(pattern, device):
            return bf16 if precision == "bf16" else fp32
    return None
