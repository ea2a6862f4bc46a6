"""Records -> fitted laws: FLP-M (Eq. 5 and small networks) with intervals, FLP and FP beside it.

Pure: takes `flp_ray.core.records.Records`, returns a frozen `FittedSurrogate`. Needs numpy and scipy alone,
which are loaded at first use. `flp_ray.fit.predictor` predicts from tables of finished runs, with every law.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flp_ray.fit.config import FitSettings, check_settings

if TYPE_CHECKING:
    from flp_ray.fit.fitting import fit_identity, fit_surrogate
    from flp_ray.fit.observations import sparse_domains
    from flp_ray.fit.surrogate import FittedSurrogate

__all__ = ["FitSettings", "FittedSurrogate", "check_settings", "fit_identity", "fit_surrogate", "sparse_domains"]


def __getattr__(name: str) -> Any:
    if name in ("fit_identity", "fit_surrogate"):
        from flp_ray.fit import fitting

        return getattr(fitting, name)
    if name == "sparse_domains":
        from flp_ray.fit.observations import sparse_domains

        return sparse_domains
    if name == "FittedSurrogate":
        from flp_ray.fit.surrogate import FittedSurrogate

        return FittedSurrogate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
