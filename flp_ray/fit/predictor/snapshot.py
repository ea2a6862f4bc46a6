"""A predictor as a JSON value, exact to the last bit: arrays are kept as their bytes."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from flp_ray.core.records import Task
from flp_ray.errors import RecordsError
from flp_ray.fit.gaussian_process import GaussianProcess
from flp_ray.fit.network import Networks
from flp_ray.fit.predictor.auto import CombinedMethod
from flp_ray.fit.predictor.calibration import Calibration
from flp_ray.fit.predictor.floor_law import FloorLaw
from flp_ray.fit.predictor.lines import DirectLaw, LinearLink
from flp_ray.fit.predictor.methods import FittedMethod
from flp_ray.fit.predictor.network_link import NetworkLink
from flp_ray.fit.predictor.power_forms import MixtureTrend, PowerForm, WeightedPower
from flp_ray.fit.predictor.predictor import CalibratedMethod, Predictor
from flp_ray.fit.predictor.series import SeriesLaw
from flp_ray.fit.predictor.sigmoid import SigmoidLink
from flp_ray.fit.predictor.snapshot_form import FORM
from flp_ray.fit.predictor.surface import SurfaceLaw

_TYPES: dict[str, type] = {
    t.__name__: t
    for t in (
        CalibratedMethod, Calibration, CombinedMethod, DirectLaw, FittedMethod, FloorLaw, LinearLink, MixtureTrend,
        NetworkLink, Networks, PowerForm, Predictor, SeriesLaw, SigmoidLink, SurfaceLaw, Task, WeightedPower,
    )
}  # fmt: skip

_PROCESS = ("inputs", "targets", "length_scales", "signal", "noise", "noise_factors")
"""What a Gaussian process is made from; its factor, n^2 numbers, is computed again on reading."""


def predictor_to_json(predictor: Predictor) -> dict[str, Any]:
    """All of the predictor as a JSON value."""
    return {"form": FORM, "predictor": _encode(predictor)}


def predictor_from_json(value: Any, source: str) -> Predictor:
    """Reads what `predictor_to_json` wrote.

    Args:
        value: The JSON value.
        source: Where it comes from, for messages.

    Raises:
        RecordsError: It is no saved fit, or one of another version.
    """
    if not isinstance(value, dict) or "form" not in value:
        raise RecordsError(f"{source} is no saved fit. Make one with: flp-ray fit RECORDS --out FIT.json")
    if value["form"] != FORM:
        raise RecordsError(
            f"{source} was saved in the form {value['form']!r}; this version reads {FORM!r}. Fit the records again."
        )
    decoded = _decode(value["predictor"])
    assert isinstance(decoded, Predictor)
    return decoded


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        packed = np.ascontiguousarray(value)
        return {"array": str(packed.dtype), "shape": list(value.shape), "bytes": b64encode(packed.tobytes()).decode()}
    if isinstance(value, GaussianProcess):
        return {"type": "GaussianProcess", "fields": {n: _encode(getattr(value, n)) for n in _PROCESS}}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "type": type(value).__name__,
            "fields": {f.name: _encode(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, dict):
        return {"items": [[_encode(k), _encode(v)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.frombuffer(b64decode(value["bytes"]), dtype=value["array"]).reshape(value["shape"]).copy()
    if "items" in value:
        return {_decode(k): _decode(v) for k, v in value["items"]}
    if "tuple" in value:
        return tuple(_decode(v) for v in value["tuple"])
    decoded = {name: _decode(v) for name, v in value["fields"].items()}
    if value["type"] == "GaussianProcess":
        return GaussianProcess.of(**decoded)
    return _TYPES[value["type"]](**decoded)
