"""From a study's settings to the runs it will train, and what they cost. Pure; starts nothing."""

from flp_ray.plan.cost import Cost, check_budget, cost
from flp_ray.plan.grid import grid_mixtures
from flp_ray.plan.ladder import DEMO_LADDER, PAPER_LADDER, Rung, ladder
from flp_ray.plan.runs import RunFactory

__all__ = [
    "DEMO_LADDER",
    "PAPER_LADDER",
    "Cost",
    "RunFactory",
    "Rung",
    "check_budget",
    "cost",
    "grid_mixtures",
    "ladder",
]
