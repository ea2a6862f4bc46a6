"""HumanEval: programs generated from a signature and a docstring, judged by running their tests in a sandbox.

lm-eval's own task of that name asks the hub for a metric as it is imported and runs programs without a sandbox.
This one has its prompt, its stops and its data set, and joins lm-eval's evaluation as any other task.

A program's verdict is the same each time, since hashes of strings are fixed, but for what it makes of the clock or of
random numbers, and but for its limit of processor time, which a slower machine reaches earlier.

Reference: Chen et al. 2021, Evaluating Large Language Models Trained on Code, section 2.1 (pass@k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from flp_ray.measure.config import TaskConfig
from flp_ray.measure.sandbox import run_programs

VERSION = 2
"""Raised whenever the same programs could be judged otherwise."""

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
NEW_TOKENS = 512
TEMPERATURE = 0.8
TOP_P = 0.95


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k programs passes: 1 - C(n - c, k) / C(n, k), as a product.

    Args:
        samples: Programs that were run, n, at least k.
        passed: How many of them passed, c.
        k: Programs that one may try.
    """
    if samples - passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


def program_of(document: dict[str, Any], completion: str) -> str:
    """What is run: the prompt, what was generated, the tests, and the call of the tests."""
    return f"{document['prompt']}{completion}\n{document['test']}\ncheck({document['entry_point']})"


def humaneval(config: TaskConfig, data: dict[str, Any]) -> Any:
    """The task for lm-eval.

    Args:
        config: Its settings.
        data: `dataset_path` and `dataset_kwargs`: where the data set is.
    """
    from lm_eval.api.task import ConfigurableTask

    samples = config.samples or config.pass_k
    ks = sorted({k for k in (1, 10, 100) if k <= samples} | {config.pass_k})
    return ConfigurableTask(
        config={
            "task": str(config.lm_eval),
            **data,
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "prompt",
            "doc_to_target": "canonical_solution",
            "process_results": _judge(ks),
            "metric_list": [{"metric": f"pass@{k}", "aggregation": "mean", "higher_is_better": True} for k in ks],
            "repeats": samples,
            "filter_list": [{"name": "samples", "filter": [{"function": "take_first_k", "k": samples}]}],
            "generation_kwargs": {
                "until": list(STOPS),
                "max_gen_toks": NEW_TOKENS,
                "do_sample": True,
                "temperature": config.temperature or TEMPERATURE,
                "top_p": TOP_P,
            },
            "metadata": {"version": VERSION},
        }
    )


def _judge(ks: list[int]) -> Callable[[dict[str, Any], list[list[str]]], dict[str, float]]:
    """Scores one problem; as many sandboxes at once as torch has threads, which is the process's share of cores."""

    def judge(document: dict[str, Any], responses: list[list[str]]) -> dict[str, float]:
        programs = [program_of(document, completion) for completion in responses[0]]
        verdicts = run_programs(programs, at_once=torch.get_num_threads())
        passed = sum(verdict.outcome == "passed" for verdict in verdicts)
        return {f"pass@{k}": pass_at_k(len(verdicts), passed, k) for k in ks}

    return judge
