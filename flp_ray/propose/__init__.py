"""A fitted surrogate -> proposals: the mixtures that are worth training, sought by Optuna on the surrogate.

Optuna is loaded at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flp_ray.propose.space import search_lattice

if TYPE_CHECKING:
    from flp_ray.propose.search import propose, skipped_objectives

__all__ = ["propose", "search_lattice", "skipped_objectives"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from flp_ray.propose import search

        return getattr(search, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
