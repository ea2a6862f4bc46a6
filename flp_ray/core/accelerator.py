"""Accelerators by name: memory and peak rates, for plans and for the model FLOPs utilisation of runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One kind of GPU.

    Attributes:
        name: As a study file names it.
        memory_bytes: Memory of one device.
        peak_flops_per_s: Dense bfloat16 FLOP/s of its matrix units with fp32 accumulation, without sparsity.
        devices_per_node: Devices of a common node.
    """

    name: str
    memory_bytes: float
    peak_flops_per_s: float
    devices_per_node: int = 8


ACCELERATORS: dict[str, Accelerator] = {
    a.name: a
    for a in (
        Accelerator(name="A100-40GB", memory_bytes=40e9, peak_flops_per_s=312e12),
        Accelerator(name="A100-80GB", memory_bytes=80e9, peak_flops_per_s=312e12),
        Accelerator(name="H100", memory_bytes=80e9, peak_flops_per_s=989e12),
        Accelerator(name="H100-PCIe", memory_bytes=80e9, peak_flops_per_s=756e12),
        Accelerator(name="H100-NVL", memory_bytes=94e9, peak_flops_per_s=835e12),
        Accelerator(name="H200", memory_bytes=141e9, peak_flops_per_s=989e12),
        Accelerator(name="B200", memory_bytes=180e9, peak_flops_per_s=2250e12),
        Accelerator(name="L40S", memory_bytes=48e9, peak_flops_per_s=362e12),
        Accelerator(name="MI300X", memory_bytes=192e9, peak_flops_per_s=1307e12),
    )
}
"""From the vendors' data sheets; `H100` and `H200` are the SXM forms."""

_MARKS = ("H100 PCIe", "H100 NVL", "H100", "GH200", "H200 NVL", "H200", "GB200", "B200", "L40S", "MI300X", "A100")
"""What names hold, those first that hold another. H200 NVL and GB200 have peaks of their own, which are not known."""


def accelerator_of(device_name: str, memory_bytes: float) -> Accelerator | None:
    """The accelerator that a driver's device name means, e.g. `NVIDIA H100 80GB HBM3`.

    Args:
        device_name: As the driver gives it.
        memory_bytes: Memory of the device, which tells the two forms of the A100 apart.

    Returns:
        The accelerator; None where the name is not known, or is that of a slice of one (MIG).
    """
    mark = next((mark for mark in _MARKS if mark.lower() in device_name.lower()), None)
    if mark is None or "MIG" in device_name:
        return None
    if mark == "A100":
        mark = "A100-80GB" if memory_bytes > 60e9 else "A100-40GB"
    return ACCELERATORS.get({"GH200": "H100"}.get(mark, mark.replace(" ", "-")))
