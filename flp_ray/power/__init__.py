"""How well a design would find the best mixture: planted worlds, drawn, measured, fitted and judged.

Nothing of the study is trained or read but its design. The worlds' laws are FLP-M's and their noise is assumed
(`RUN_NOISE`), so the answer is what the design can do at best; a study whose laws bend otherwise does worse.
"""

from flp_ray.power.judgement import Judgement, judge
from flp_ray.power.measure import MEMBERS, TOLERANCE, DesignPower, conclusion, measure_power
from flp_ray.power.planted import RUN_NOISE, planned_runs, study_world
from flp_ray.power.show import power_json, print_power, progress

__all__ = [
    "MEMBERS",
    "RUN_NOISE",
    "TOLERANCE",
    "DesignPower",
    "Judgement",
    "conclusion",
    "judge",
    "measure_power",
    "planned_runs",
    "power_json",
    "print_power",
    "progress",
    "study_world",
]
