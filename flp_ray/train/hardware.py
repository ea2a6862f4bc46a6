"""What an accelerator can compute at most."""

from __future__ import annotations

from typing import Literal

import torch

from flp_ray.core.accelerator import accelerator_of


def accelerator_peak_flops(device: torch.device, precision: Literal["fp32", "bf16"]) -> float | None:
    """Dense peak FLOP/s of an accelerator in bf16; None where it is not known, for fp32, for a CPU and a slice (MIG).

    Args:
        device: The device.
        precision: What matrices are multiplied in.
    """
    if device.type != "cuda" or precision != "bf16":
        return None
    memory_bytes = torch.cuda.get_device_properties(device).total_memory
    found = accelerator_of(torch.cuda.get_device_name(device), memory_bytes)
    return None if found is None else found.peak_flops_per_s
