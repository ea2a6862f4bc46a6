"""A fitted surrogate as a JSON value, exact to the last bit (Python's floats read back as written)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.surrogate import FitLine
from flp_ray.fit.gaussian_process import GaussianProcess
from flp_ray.fit.interval import Noise
from flp_ray.fit.mixture_law import LawDesign, MixtureLaw
from flp_ray.fit.network import Networks
from flp_ray.fit.performance_law import PerformanceLaw
from flp_ray.fit.surrogate import FittedSurrogate

Array = NDArray[Any]


def surrogate_to_dict(surrogate: FittedSurrogate) -> dict[str, Any]:
    """All of the surrogate as a JSON value."""
    law = surrogate.performance_law
    return {
        "fit_id": surrogate.fit_id,
        "sources": list(surrogate.sources),
        "laws": [_law_to_dict(w) for w in surrogate.laws],
        "design": {
            "overlap": surrogate.design.overlap,
            "centre": _to_list(surrogate.design.centre),
            "scale": _to_list(surrogate.design.scale),
        },
        "coefficients": _to_list(surrogate.coefficients),
        "performance_law": {
            "tasks": list(law.tasks),
            "observations": law.observations,
            **{n: _to_list(getattr(law, n)) for n in _PERFORMANCE_ARRAYS},
            "networks": {n: _to_list(getattr(law.networks, n)) for n in _NETWORK_ARRAYS},
        },
        "loss_noise": [asdict(n) for n in surrogate.loss_noise],
        "score_noise": [asdict(n) for n in surrogate.score_noise],
        "objective_noise": asdict(surrogate.objective_noise),
        "weights": _to_list(surrogate.weights),
        "not_emerged": surrogate.not_emerged,
        "sensitivity": list(surrogate.sensitivity),
        "baselines": [asdict(line) for line in surrogate.baselines],
    }


def surrogate_from_dict(value: dict[str, Any]) -> FittedSurrogate:
    """Reads what `surrogate_to_dict` wrote."""
    stored = value["performance_law"]
    return FittedSurrogate(
        fit_id=value["fit_id"],
        sources=tuple(value["sources"]),
        laws=tuple(_law_from_dict(w) for w in value["laws"]),
        design=LawDesign(
            overlap=value["design"]["overlap"],
            centre=_from_list(value["design"]["centre"]),
            scale=_from_list(value["design"]["scale"]),
        ),
        coefficients=_from_list(value["coefficients"]),
        performance_law=PerformanceLaw(
            tasks=tuple(stored["tasks"]),
            observations=stored["observations"],
            **{n: _from_list(stored[n]) for n in _PERFORMANCE_ARRAYS},
            networks=Networks(**{n: _from_list(stored["networks"][n]) for n in _NETWORK_ARRAYS}),
        ),
        loss_noise=tuple(Noise(**n) for n in value["loss_noise"]),
        score_noise=tuple(Noise(**n) for n in value["score_noise"]),
        objective_noise=Noise(**value["objective_noise"]),
        weights=_from_list(value["weights"]),
        not_emerged=value["not_emerged"],
        sensitivity=tuple(value["sensitivity"]),
        baselines=tuple(FitLine(**line) for line in value["baselines"]),
    )


def gaussian_process_to_dict(process: GaussianProcess) -> dict[str, Any]:
    """All of the process but its factor, which follows from the rest, as a JSON value."""
    arrays = {n: _to_list(getattr(process, n)) for n in _PROCESS_ARRAYS}
    return {"signal": process.signal, "noise": process.noise, "mean": process.mean, **arrays}


def gaussian_process_from_dict(value: dict[str, Any]) -> GaussianProcess:
    """Reads what `gaussian_process_to_dict` wrote."""
    arrays = {n: _from_list(value[n]) for n in _PROCESS_ARRAYS}
    weights = arrays.pop("weights")
    process = GaussianProcess.of(signal=value["signal"], noise=value["noise"], **arrays)
    return replace(process, mean=value["mean"], weights=weights)


_PERFORMANCE_ARRAYS = ("input_mean", "input_spread", "score_mean", "score_spread", "line", "error", "fit_error")
_PROCESS_ARRAYS = ("inputs", "targets", "length_scales", "noise_factors", "weights")
_NETWORK_ARRAYS = ("hidden", "output_weight", "output_bias")


def _law_to_dict(law: MixtureLaw) -> dict[str, Any]:
    fields = asdict(law)
    ranges = {s: list(r) for s, r in law.ratio_ranges.items()}
    return fields | {"flops_range": list(law.flops_range), "ratio_ranges": ranges}


def _law_from_dict(value: dict[str, Any]) -> MixtureLaw:
    ranges = {s: (low, high) for s, (low, high) in value["ratio_ranges"].items()}
    return MixtureLaw(**value | {"flops_range": tuple(value["flops_range"]), "ratio_ranges": ranges})


def _to_list(array: Array) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": array.ravel().tolist()}


def _from_list(value: dict[str, Any]) -> Array:
    return np.array(value["values"], dtype=value["dtype"]).reshape(value["shape"])
