"""Hyperparameters: trials at small sizes -> the optimum of each -> a power law -> values for any size.

    design_trials(run, config, seed=0)       which trials a size gets, the same whenever they are asked for
    fit_tuning(trials, reports, config)      optima with standard errors, and the laws through them
    law.at(params, train_tokens)             a value with its 80 percent interval

Trials are trained by `flp_ray.distributed.tuning`, which stops the bad ones early.
"""

from __future__ import annotations

from flp_ray.tune.config import RangeConfig, TuningConfig
from flp_ray.tune.design import design_trials, rung_tokens
from flp_ray.tune.result import TunedLaws, fit_tuning, settings_id

__all__ = ["RangeConfig", "TunedLaws", "TuningConfig", "design_trials", "fit_tuning", "rung_tokens", "settings_id"]
