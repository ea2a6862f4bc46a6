"""Training: one RunSpec and its text to checkpoints, by DeepSpeed.

`train` runs one training from its start or from the latest saved state, and calls back at every checkpoint
that is to be measured. `build_model` makes the model of a RunSpec alone. Both load torch; they are looked up
on first use, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flp_ray.train.loop import train
    from flp_ray.train.model import build_model
    from flp_ray.train.state import clear_states

from flp_ray.train.progress import Progress, TrainingCheckpoint, TrainingSummary

__all__ = ["Progress", "TrainingCheckpoint", "TrainingSummary", "build_model", "clear_states", "train"]


def __getattr__(name: str) -> Any:
    if name == "build_model":
        from flp_ray.train.model import build_model

        return build_model
    if name == "clear_states":
        from flp_ray.train.state import clear_states

        return clear_states
    if name == "train":
        from flp_ray.train.loop import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
