"""Runs the tasks of a preparation: what is done is not done again, and a line says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flp_ray.data.tasks import RunTasks, TextTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How tasks are run, and who is told.

    Attributes:
        run_tasks: Runs those that are still to be done.
        say: Called with a line of text.
    """

    run_tasks: RunTasks
    say: Callable[[str], None]

    def run(self, tasks: Sequence[TextTask], what: str = "") -> list[dict[str, Any]]:
        """Runs tasks and returns what each returned, in their order.

        Args:
            tasks: Tasks that do not depend on each other.
            what: What is done with shards, for lines about how many are done; empty says nothing.
        """
        results = [task.result() for task in tasks]
        still = [index for index, result in enumerate(results) if result is None]
        step = max(1, len(tasks) // 100)
        before = len(tasks) - len(still)
        if still:
            for done, (index, result) in enumerate(self.run_tasks([tasks[index] for index in still]), before + 1):
                results[still[index]] = result
                if what and len(tasks) > 1 and (done % step == 0 or done == len(tasks)):
                    self.say(f"{what}: {done} of {len(tasks)} shards{_rate(results)}")
        missing = [task.name for task, result in zip(tasks, results, strict=True) if result is None]
        assert not missing, f"not run: {missing}"
        return [result for result in results if result is not None]


def tokens_per_core_second(results: Sequence[dict[str, Any] | None]) -> float | None:
    """Tokens a second that one core has made, over what tasks returned; None where nothing was measured."""
    known = [result for result in results if result]
    tokens = sum(r["blocks"]["sequences"] * r["blocks"]["sequence_length"] for r in known if "blocks" in r)
    seconds = sum(float(r.get("cpu_seconds", 0.0)) for r in known)
    return tokens / seconds if tokens and seconds else None


def _rate(results: Sequence[dict[str, Any] | None]) -> str:
    rate = tokens_per_core_second(results)
    return f", {rate:,.0f} tokens per second and core" if rate else ""
