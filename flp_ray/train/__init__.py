"""Training: one RunSpec and its text to checkpoints, by DeepSpeed.

`train` runs one training from its start or from the latest saved state, and calls back at every checkpoint
that is to be measured; `export_model` saves what it is called back with. `build_model` makes the model of a RunSpec
alone. They load torch; they are looked up on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flp_ray.train.hardware import accelerator_peak_flops
    from flp_ray.train.loop import train
    from flp_ray.train.model import build_model, export_model

from flp_ray.train.clearing import clear_finished, clear_states
from flp_ray.train.progress import Progress, TrainingCheckpoint, TrainingSummary

__all__ = [
    "Progress",
    "TrainingCheckpoint",
    "TrainingSummary",
    "accelerator_peak_flops",
    "build_model",
    "clear_finished",
    "clear_states",
    "export_model",
    "train",
]

_PLACES = {
    "accelerator_peak_flops": "hardware",
    "build_model": "model",
    "export_model": "model",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"flp_ray.train.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
