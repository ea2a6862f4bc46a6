"""From a study's settings to the runs it will train, and what they cost. Pure; starts nothing."""

from flp_ray.plan.cost import Cost, check_budget, cost
from flp_ray.plan.grid import grid_mixtures
from flp_ray.plan.ladder import DEMO_LADDER, PAPER_LADDER, Rung, ladder
from flp_ray.plan.memory import MemoryUse, Wish, choose_execution, memory_use
from flp_ray.plan.runs import RunFactory

__all__ = [
    "DEMO_LADDER",
    "PAPER_LADDER",
    "Cost",
    "MemoryUse",
    "RunFactory",
    "Rung",
    "Wish",
    "check_budget",
    "choose_execution",
    "cost",
    "grid_mixtures",
    "ladder",
    "memory_use",
]
