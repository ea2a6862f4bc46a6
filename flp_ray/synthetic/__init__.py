"""Planted worlds: the law and the best mixture are known, so that every stage after training can be judged.

A world holds the truth of FLP-M: domain losses by Eq. 5 for any number of sources, and a score that stays at
chance until a task's loss falls below its onset and then rises along a line. From it come records with the
noise of runs (which may grow towards the edges of the simplex), of sizes, of checkpoints and of a finite number
of items. Hostile worlds hold nothing to be found, or what Eq. 5 cannot say. A `LadderWorld` is one text whose losses
level off in size and tokens.
"""

from flp_ray.synthetic.design import Design, PlantedSize, paper_design, paper_size, two_source_mixtures
from flp_ray.synthetic.drawn import drawn_many_source_world, lopsided_two_source_world
from flp_ray.synthetic.ladder import LADDER_SIZES, LadderWorld, join
from flp_ray.synthetic.world import PlantedDomain, PlantedTask, World
from flp_ray.synthetic.worlds import (
    clear_objectives,
    drawn_two_source_world,
    losses_with_a_floor,
    many_source_world,
    nothing_emerges,
    optimum_moves,
    scale_at,
    swallowed_by_noise,
    two_source_world,
)

__all__ = [
    "LADDER_SIZES",
    "Design",
    "LadderWorld",
    "PlantedDomain",
    "PlantedSize",
    "PlantedTask",
    "World",
    "clear_objectives",
    "drawn_many_source_world",
    "drawn_two_source_world",
    "join",
    "lopsided_two_source_world",
    "losses_with_a_floor",
    "many_source_world",
    "nothing_emerges",
    "optimum_moves",
    "paper_design",
    "paper_size",
    "scale_at",
    "swallowed_by_noise",
    "two_source_mixtures",
    "two_source_world",
]
