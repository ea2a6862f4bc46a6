"""Search for the training mixture of a large language model from small runs.

    plan      a study file -> run specs and their cost           flp_ray.plan
    data      text sources -> token blocks, mixed exactly        flp_ray.data
    train     a run spec -> checkpoints                          flp_ray.train
    measure   a checkpoint -> domain losses, task scores         flp_ray.measure
    store     records <-> Delta tables                           flp_ray.store
    fit       records -> FLP-M: FLOPs per source -> losses -> scores   flp_ray.fit
    propose   fitted laws -> mixtures worth training             flp_ray.propose
    validate  predictions beside what training gave              flp_ray.validate
    report    everything -> one HTML page                        flp_ray.report
    finished  tables of finished runs -> predictions, backtests  flp_ray.finished
    power     a study's design -> how well it would find the best mixture  flp_ray.power

`flp_ray.pipeline` runs the study from top to bottom on a Ray cluster (`flp_ray.distributed`). Importing this package
loads none of torch, Ray and DeepSpeed.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "FitSettings": "flp_ray.fit",
    "Measurement": "flp_ray.core.records",
    "Mixture": "flp_ray.core.mixture",
    "Records": "flp_ray.core.records",
    "Run": "flp_ray.core.records",
    "StudyConfig": "flp_ray.config",
    "Task": "flp_ray.core.records",
    "fit_surrogate": "flp_ray.fit",
    "load_config": "flp_ray.config",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for, so that importing the package costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'flp_ray' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
