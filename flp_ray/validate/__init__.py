"""Validation as an experiment: what a proposal is held against, and how it did. Pure.

design_experiment   settles the best known mixture before a validation run starts
compare             hit or miss, and a test of the difference, once runs have finished
"""

from flp_ray.validate.comparison import compare, not_compared
from flp_ray.validate.experiment import design_experiment

__all__ = ["compare", "design_experiment", "not_compared"]
