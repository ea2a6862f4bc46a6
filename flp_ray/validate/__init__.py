"""Proposals beside what training at them gave, and the best of the grid. Pure."""

from flp_ray.validate.comparison import compare, not_compared

__all__ = ["compare", "not_compared"]
