"""Everything that is measured of a model at a checkpoint, as records."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flp_ray.core.records import Measurement, MeasurementKind
from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.text import PreparedText
from flp_ray.errors import DivergedError
from flp_ray.measure.checks import check_machine, check_tasks
from flp_ray.measure.config import MeasureConfig
from flp_ray.measure.domains import device_batch_tokens, domain_loss
from flp_ray.measure.model import InMemoryLM
from flp_ray.measure.tasks import LoadedTask, load_builtin_task, load_foreign_task, quiet, score
from flp_ray.measure.vllm_generation import VllmLM


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringWork:
    """What one measurement took.

    Attributes:
        scored_tokens: Tokens of all sequences and requests, padding not counted; a context counts once for
            each of its choices.
        computed_tokens: Tokens that went through the model, padding included, shared contexts once.
        seconds: Time it took.
        seconds_by_part: Time by `domains` and task.
    """

    scored_tokens: int
    computed_tokens: int
    seconds: float
    seconds_by_part: dict[str, float]


class Measurer:
    """Measures models of one study; built once a process, which loads the tasks and the tokenizer.

    The same model gives the same values, bit for bit, in any process with the same number of threads.

    Args:
        config: What to measure.
        text: The study's prepared text.
        folder: Where task files and the cache of `datasets` go; the processes of a study may share it.

    Attributes:
        work: What the last measurement took; None before the first.

    Raises:
        TaskError: A task is unknown, has no items, its data cannot be loaded here, its answers are programs and no
            sandbox can be made here, or vLLM is asked for and not installed.
    """

    def __init__(self, config: MeasureConfig, text: PreparedText, folder: Path) -> None:
        from transformers import AutoTokenizer

        check_machine(config)
        check_tasks(config.model_copy(update={"tasks": _builtins(config)}), text)
        self.work: MeasuringWork | None = None
        self._config, self._text = config, text
        self._tokenizer = AutoTokenizer.from_pretrained(text.tokenizer)
        self._models: dict[int, InMemoryLM] = {}
        with _own_random_state():
            self._tasks: dict[str, LoadedTask] = {
                name: load_builtin_task(name, task, text.items[name], folder)
                if task.builtin
                else load_foreign_task(name, task, folder)
                for name, task in config.tasks.items()
            }

    def measure(
        self, model: Any, spec: RunSpec, *, tokens: int, train_loss: float, final: bool
    ) -> tuple[Measurement, ...]:
        """Measures a model: training loss, domain losses, task performance and bits per byte.

        Args:
            model: A Transformers causal model; left in the mode it is in.
            spec: The run it belongs to.
            tokens: Tokens it has seen.
            train_loss: Mean training loss of the last interval, nats per token.
            final: Whether it is the run's last checkpoint; earlier ones may use fewer items and sequences.

        Returns:
            One record a value. A task without likelihoods of answers has no bits per byte.

        Raises:
            DivergedError: A value is not a finite number.
        """
        config = self._config
        batch_tokens = device_batch_tokens(model, config.batch_tokens)
        lm = self._language_model(spec, batch_tokens)
        before = lm.scored_tokens, lm.computed_tokens
        parts: dict[str, float] = {}
        rows: list[tuple[MeasurementKind, str, float, float | None, int | None]]
        rows = [("train_loss", "train", train_loss, None, None)]
        fed = 0
        start = time.perf_counter()
        with _asked(lm, model), _own_random_state():
            for name, blocks in self._text.domains.items():
                some = None if final else config.intermediate_sequences
                loss = domain_loss(model, blocks, batch_tokens=batch_tokens, sequences=some)
                rows.append(("domain_loss", name, loss.value, loss.stderr, loss.sequences))
                fed += loss.tokens
            parts["domains"] = time.perf_counter() - start
            for name, task in self._tasks.items():
                begun = time.perf_counter()
                lm.seed = int(stable_hash([spec.run_id, tokens, name])[:12], 16)
                found = score(task, lm, items=None if final else config.intermediate_items)
                rows.append(("performance", name, found.performance, found.stderr, found.items))
                if found.bpb is not None:
                    rows.append(("bpb", name, found.bpb, found.bpb_stderr, found.items))
                parts[name] = time.perf_counter() - begun
        self.work = MeasuringWork(
            scored_tokens=fed + lm.scored_tokens - before[0],
            computed_tokens=fed + lm.computed_tokens - before[1],
            seconds=time.perf_counter() - start,
            seconds_by_part=parts,
        )
        flops = spec.flops_at(tokens)
        for kind, name, value, _, _ in rows:
            if not math.isfinite(value):
                raise DivergedError(
                    f"Run {spec.run_id} (size {spec.size}) has diverged: {kind} of {name} is {value} after "
                    f"{tokens} tokens. Lower the size's learning_rate (now {spec.learning_rate:g})."
                )
        return tuple(
            Measurement(
                run_id=spec.run_id,
                tokens=tokens,
                flops=flops,
                kind=kind,
                name=name,
                value=value,
                stderr=stderr,
                items=items,
            )
            for kind, name, value, stderr, items in rows
        )

    def measure_folder(
        self, folder: Path, spec: RunSpec, *, tokens: int, train_loss: float, final: bool
    ) -> tuple[Measurement, ...]:
        """Measures a saved model as `measure` does the living one: on the GPU where there is one, else on the CPU.

        Args:
            folder: What `save_pretrained` wrote.
            spec: The run it belongs to.
            tokens: Tokens it has seen.
            train_loss: Mean training loss of the last interval, nats per token.
            final: Whether it is the run's last checkpoint.

        Raises:
            DivergedError: A value is not a finite number.
        """
        from transformers import AutoModelForCausalLM

        device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", attn_implementation="sdpa")
        return self.measure(model.to(device), spec, tokens=tokens, train_loss=train_loss, final=final)

    def task_versions(self) -> dict[str, str]:
        """What defines each task's score, by task: its version, shots and sampling, and lm-eval's version."""
        return {name: task.version for name, task in self._tasks.items()}

    def _language_model(self, spec: RunSpec, batch_tokens: int) -> InMemoryLM:
        """Packed requests depend on the model's length alone, so one model of lm-eval is kept a length."""
        length = spec.sequence_length
        if length not in self._models:
            kind = VllmLM if self._config.generation == "vllm" else InMemoryLM
            self._models[length] = kind(self._tokenizer, max_length=length, batch_tokens=batch_tokens)
        return self._models[length]


def _builtins(config: MeasureConfig) -> dict[str, Any]:
    return {name: task for name, task in config.tasks.items() if task.builtin}


@contextmanager
def _asked(lm: InMemoryLM, model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    lm.module = model
    try:
        yield
    finally:
        lm.release()
        lm.module = None  # the trial's next model must not find this one's weights held
        model.train(training)


@contextmanager
def _own_random_state() -> Iterator[None]:
    """A fixed random state inside, the caller's outside: sampling must not depend on what ran before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
