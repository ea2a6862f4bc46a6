"""A planted study for the report's tests: a surrogate in closed form and records drawn around it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment, Prediction, Proposal
from flp_ray.core.records import Measurement, Records, Run, Task
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.core.surrogate import FitLine, SurrogatePrediction
from flp_ray.report import ReportContent, RunRow, TextSummary
from flp_ray.validate import compare

Z80 = 1.2816
LEAK = 0.03
# Domain: loss at 1e13 FLOPs on an even mixture, exponent of FLOPs, exponent of each source's leaky share.
DOMAINS = {
    "code": (3.3, -0.09, {"code": -0.14, "general": 0.0}),
    "general": (3.5, -0.07, {"code": 0.0, "general": -0.32}),
    "math": (3.9, -0.08, {"code": -0.03, "general": -0.04}),
    "reference": (4.0, -0.07, {"code": -0.02, "general": -0.02}),
    "science": (3.85, -0.075, {"code": -0.005, "general": -0.06}),
}
# Task: chance, loss weights, centre and slope of the sigmoid from the weighted loss to the score.
TASKS = {
    "code-syntax": (0.5, {"code": 1.0}, 3.7, 4.0, 0.97),
    "continuation-general": (0.25, {"general": 1.0}, 3.5, 3.0, 0.6),
    "word-order": (0.5, {"general": 0.8, "reference": 0.2}, 3.8, 3.5, 0.92),
}
SIZES = {
    "32-2": (ModelShape(layers=2, hidden=32, heads=2, ffn=88), 400_000),
    "48-3": (ModelShape(layers=3, hidden=48, heads=3, ffn=128), 700_000),
    "64-4": (ModelShape(layers=4, hidden=64, heads=4, ffn=172), 1_200_000),
}
TARGET = "64-4"
WRITTEN = 1_767_225_791.0  # 2026-01-01 00:03:11 UTC
BEGAN = WRITTEN + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedSurrogate:
    """The law that the records are drawn from; implements `core.surrogate.Surrogate`."""

    fit_id: str = "planted00000"
    extra: str | None = None
    spread: float = 0.012
    seen_flops: float = 1e15
    hidden_tasks: dict[str, str] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted(DOMAINS))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(t for t in sorted(TASKS) if t not in self.hidden_tasks)

    @property
    def not_emerged(self) -> dict[str, str]:
        return dict(self.hidden_tasks)

    def losses(self, mixture: Mixture, flops: float) -> dict[str, float]:
        shares = {"code": mixture.ratio("code"), "general": 1 - mixture.ratio("code")}
        return {
            d: at * (flops / 3e11) ** a * math.prod((r * (1 - 2 * LEAK) + LEAK) ** e[s] for s, r in shares.items())
            for d, (at, a, e) in DOMAINS.items()
        }

    def predict(self, mixtures, flops):
        return [self._one(m, flops) for m in mixtures]

    def _one(self, mixture: Mixture, flops: float) -> SurrogatePrediction:
        far = flops > self.seen_flops or not 0 <= mixture.ratio("code") <= 0.5
        losses = self.losses(mixture, flops)
        scores = {t: _interval(v, self.spread, far) for t, v in self.predict_performance(losses).items()}
        mean = sum(p.mean for p in scores.values()) / max(len(scores), 1)
        return SurrogatePrediction(
            domain_loss={d: _interval(v, 0.01 * v, far) for d, v in losses.items()},
            performance=scores,
            objective=_interval(mean, self.spread / math.sqrt(max(len(scores), 1)), far),
        )

    def predict_performance(self, losses: dict[str, float]) -> dict[str, float]:
        return {
            task: chance + (top - chance) / (1 + math.exp(slope * (sum(w * losses[d] for d, w in of.items()) - centre)))
            for task, (chance, of, centre, slope, top) in TASKS.items()
            if task in self.tasks
        }

    def lines(self) -> tuple[FitLine, ...]:
        laws = [
            FitLine(
                stage="loss", method="flp-m", name=d, observations=18, fit_error=0.004, held_out_error=0.0074,
                formula=f"L = {at:g} (C / 3e11)^{a:g} r_code^{e['code']:g} r_general^{e['general']:g}",
                parameters={"at": at, "total": a} | e, note="overlap 0.03",
            )
            for d, (at, a, e) in DOMAINS.items()
        ]  # fmt: skip
        nets = [
            FitLine(
                stage="performance", method="flp-m", name=t, observations=240, fit_error=0.012,
                held_out_error=0.021, formula="64 networks, 5 losses, 3 hidden", parameters={}, note="",
            )
            for t in self.tasks
        ]  # fmt: skip
        # The baseline beside it, as the real fit gives it; its error must not pass for the law's own.
        pooled = [replace(law, method="flp", fit_error=0.31, held_out_error=0.37) for law in laws]
        return (*laws, *nets, *pooled)

    def to_dict(self):
        return {"fit_id": self.fit_id}


def _interval(mean: float, spread: float, extrapolated: bool) -> Prediction:
    return Prediction(mean=mean, low=mean - Z80 * spread, high=mean + Z80 * spread, extrapolated=extrapolated)


def mix(code: float) -> Mixture:
    return Mixture.of({"code": code, "general": 1 - code})


def spec(size: str, mixture: Mixture, purpose="sampling", seed=0) -> RunSpec:
    shape, tokens = SIZES[size]
    return RunSpec(
        purpose=purpose, size=size, shape=shape, vocabulary=1024, sequence_length=128, mixture=mixture,
        train_tokens=tokens // 128 * 128, batch_sequences=16, learning_rate=3e-3, seed=seed, recipe=Recipe(),
        text_id="planted",
    )  # fmt: skip


def measurements(run: RunSpec, law: PlantedSurrogate, chance: random.Random, items: int = 1000) -> list[Measurement]:
    found = []
    for step in run.checkpoint_steps()[5::2]:
        tokens = run.tokens_at(step)
        flops = run.flops_at(tokens)
        common = {"run_id": run.run_id, "tokens": tokens, "flops": flops}
        losses = {d: v * (1 + chance.gauss(0, 0.006)) for d, v in law.losses(run.mixture, flops).items()}
        found += [
            Measurement(**common, kind="domain_loss", name=d, value=v, stderr=0.01, items=200)
            for d, v in losses.items()
        ]
        found.append(Measurement(**common, kind="train_loss", name="train", value=sum(losses.values()) / 5))
        for task, value in PlantedSurrogate().predict_performance(losses).items():
            stderr = math.sqrt(value * (1 - value) / items)
            drawn = min(max(chance.gauss(value, stderr), 0.0), 1.0)
            found.append(Measurement(**common, kind="performance", name=task, value=drawn, stderr=stderr, items=items))
    return found


def as_run(run: RunSpec) -> Run:
    return Run(
        run_id=run.run_id, purpose=run.purpose, params=run.params, train_tokens=run.train_tokens,
        mixture=run.mixture,
        non_embedding_params=run.shape.non_embedding_params, size=run.size,
    )  # fmt: skip


def tasks() -> tuple[Task, ...]:
    return tuple(Task(task=t, random_performance=v[0]) for t, v in TASKS.items())


def planted_study(law: PlantedSurrogate | None = None, ratios=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), seed=3) -> ReportContent:
    """Eighteen sampling runs, one proposal an objective, and the training of both."""
    law = law or PlantedSurrogate()
    chance = random.Random(seed)
    specs = [spec(s, mix(r)) for s in SIZES for r in ratios]
    flops = spec(TARGET, mix(0.0)).flops
    proposals = []
    for objective in ("mean", "code-syntax"):
        steps = [mix(i / 100) for i in range(51)]
        said = law.predict(steps, flops)
        worth = [s.objective if objective == "mean" else s.performance[objective] for s in said]
        best = max(range(51), key=lambda i: worth[i].mean)
        proposals.append(
            Proposal(
                objective=objective, mixture=steps[best], size=TARGET, flops=flops,
                train_tokens=specs[-1].train_tokens,
                expected=worth[best], performance=said[best].performance, domain_loss=said[best].domain_loss,
                fit_id=law.fit_id,
            )
        )  # fmt: skip
    checks = [spec(TARGET, p.mixture, "validation", seed=1) for p in proposals]
    everything = [*specs, *checks]
    records = Records(
        runs=tuple(as_run(s) for s in everything),
        measurements=tuple(m for s in everything for m in measurements(s, law, chance)),
        tasks=tasks(),
    )
    return ReportContent(
        study="demo",
        config_yaml="name: demo\nsources: {general: builtin, code: builtin}\n",
        records=records,
        specs=tuple(everything),
        surrogate=law,
        proposals=tuple(proposals),
        comparisons=tuple(
            replace(c, began=BEGAN)
            for c in compare([experiment(law, p, ratios) for p in proposals], records, trainings=1)
        ),
        stage_seconds=(("data", 41.2), ("train", 611.0), ("measure", 212.5), ("fit", 9.4), ("propose", 3.3)),
        run_states=tuple(
            RunRow(run_id=s.run_id, state="done", train_seconds=31.0, measure_seconds=11.5)
            for s in everything
        ),
        versions={"flp-ray": "0.1.0", "numpy": "2.4.6", "python": "3.11.7", "torch": "2.13.0"},
        text=TextSummary(
            tokens={"code": 4_500_000, "general": 9_200_000},
            removed={"duplicate": 120, "shares 13-grams with a domain": 14},
            epochs={"code": 0.13, "general": 0.13},
        ),
        notes=("The loss laws take an overlap of 3 percent between the sources.",),
    )  # fmt: skip


def experiment(law: PlantedSurrogate, proposal: Proposal, ratios) -> Experiment:
    """Holds a proposal against the best of the grid by prediction, as the pipeline does."""
    grid = [mix(r) for r in ratios]
    said = law.predict(grid, proposal.flops)
    worth = [s.objective if proposal.objective == "mean" else s.performance[proposal.objective] for s in said]
    best = max(range(len(grid)), key=lambda i: worth[i].mean)
    return Experiment(proposal=proposal, best_known=grid[best], best_known_expected=worth[best], written=WRITTEN)
