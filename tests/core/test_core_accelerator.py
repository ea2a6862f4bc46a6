import pytest

from flp_ray.core.accelerator import ACCELERATORS, accelerator_of


@pytest.mark.parametrize(
    ("name", "memory_bytes", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", 85e9, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", 42e9, "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", 85e9, "H100"),
        ("NVIDIA H100 PCIe", 85e9, "H100-PCIe"),
        ("NVIDIA H100 NVL", 100e9, "H100-NVL"),
        ("NVIDIA GH200 480GB", 100e9, "H100"),
        ("NVIDIA H200", 150e9, "H200"),
        ("NVIDIA H200 NVL", 150e9, None),
        ("NVIDIA B200", 190e9, "B200"),
        ("NVIDIA GB200", 190e9, None),
        ("NVIDIA L40S", 48e9, "L40S"),
        ("AMD Instinct MI300X", 200e9, "MI300X"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10e9, None),
        ("NVIDIA GeForce GTX 1080", 8e9, None),
    ],
)
def test_accelerators_are_found_by_the_name_that_the_driver_gives(name, memory_bytes, expected):
    found = accelerator_of(name, memory_bytes)
    assert (None if found is None else found.name) == expected


def test_names_are_those_of_their_entries():
    assert all(name == accelerator.name for name, accelerator in ACCELERATORS.items())
