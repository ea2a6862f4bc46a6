"""The named methods: which law, which link, which of the runs; each with the place it comes from.

A method is fitted to a table of runs and gives, for any training, the domain losses and the scores of every
member of its ensemble. Members are Bayesian bootstraps over runs (checkpoints of one run are not independent,
runs are): each weighs the runs anew, and the first weighs all alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flp_ray.fit.predictor.runs import Queries
from flp_ray.fit.predictor.series import Inputs, SeriesLaw, link_inputs

LawName = Literal["power", "m1", "m2", "m3", "m4", "floor", "surface"]
LinkName = Literal["line", "average", "linear", "network", "sigmoid", "score", "log", "flops"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a name stands for.

    Attributes:
        law: Stage 1, FLOPs (or size, tokens, mixture) to losses; None where a score comes straight from FLOPs.
        link: Stage 2, losses to scores; or the form of a direct law.
        inputs: What the link takes.
        reference: Where the method comes from.
    """

    law: LawName | None
    link: LinkName
    inputs: Inputs
    reference: str


_CHEN = "Chen et al. 2024"

RECIPES: dict[str, Recipe] = {
    "fp": Recipe(law=None, link="score", inputs="mean", reference=f"{_CHEN}, Eq. 3"),
    "gpt4": Recipe(law=None, link="log", inputs="mean", reference=f"{_CHEN}, Eq. 6; OpenAI 2023"),
    "flops": Recipe(law=None, link="flops", inputs="mean", reference=f"{_CHEN}, Table 4: Eq. 5 to scores"),
    "llama3": Recipe(law="power", link="sigmoid", inputs="bpb", reference=f"{_CHEN}, App. D; Dubey et al. 2024"),
    "flp": Recipe(law="power", link="line", inputs="mean", reference=f"{_CHEN}, Eq. 1 and 2"),
    "flp-m": Recipe(law="m4", link="network", inputs="losses", reference=f"{_CHEN}, Eq. 5 and section 4.2"),
    "m1": Recipe(law="m1", link="network", inputs="losses", reference=f"{_CHEN}, Table 3"),
    "m2": Recipe(law="m2", link="network", inputs="losses", reference=f"{_CHEN}, Table 3"),
    "m3": Recipe(law="m3", link="network", inputs="losses", reference=f"{_CHEN}, Table 3"),
    "m4": Recipe(law="m4", link="network", inputs="losses", reference=f"{_CHEN}, Table 3; the same as flp-m"),
    "average": Recipe(law="m4", link="average", inputs="mean", reference=f"{_CHEN}, Table 4"),
    "domain-linear": Recipe(law="m4", link="linear", inputs="losses", reference=f"{_CHEN}, Table 4"),
    "floor": Recipe(law="floor", link="sigmoid", inputs="mean", reference="Hoffmann et al. 2022, then a sigmoid"),
    "floor-bpb": Recipe(law="floor", link="sigmoid", inputs="bpb", reference="Bhagia et al. 2024 (the OLMo ladder)"),
    "m4-sigmoid": Recipe(law="m4", link="sigmoid", inputs="losses", reference="Eq. 5, then a sigmoid"),
    "surface": Recipe(law="surface", link="sigmoid", inputs="losses", reference="floor, mixture law, Gaussian process"),
    "surface-bpb": Recipe(law="surface", link="sigmoid", inputs="bpb", reference="the same on bits per byte"),
}

AUTO = "auto"
METHOD_NAMES = (*RECIPES, AUTO)


class Unfit(Exception):  # noqa: N818 (no failure: a method that does not apply)
    """A method cannot be fitted to these runs; says why. Never leaves `flp_ray.fit.predictor`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ensemble:
    """Predictions of n trainings by M members.

    Attributes:
        losses: Domain losses, nats per token, (M, n, D); NaN where there is no law.
        scores: Performance, not clipped, (M, n, T); NaN where there is no link.
    """

    losses: Array
    scores: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedMethod:
    """One named method as fitted.

    Attributes:
        name: Its name.
        domains: Number of domains, D.
        law: Stage 1; None for a direct method.
        link: Stage 2, or the direct law.
        inputs: What the link takes.
        centre: `first`: the fit to all runs is the first member; `mean`: it is the members' mean (networks).
        reasons: Tasks without a prediction, by index, with the reason in words.
    """

    name: str
    domains: int
    law: SeriesLaw | None
    link: Any
    inputs: Inputs
    centre: Literal["first", "mean"]
    reasons: dict[int, str]

    def predict(self, queries: Queries) -> Ensemble:
        """Predictions of every member."""
        if self.law is None:
            scores = self.link.members(queries)
            losses = np.full((len(scores), len(queries.flops), self.domains), np.nan)
        else:
            series = self.law.members(queries)
            losses = series[..., : self.domains]
            scores = self.link.members(link_inputs(series, self.inputs, self.domains))
        return Ensemble(losses=losses, scores=self._hidden(scores))

    def scores_from(self, series: Array) -> Array | None:
        """Stage 2 alone on measured series (n, D + 1 + T): scores (n, T); None for a direct method."""
        if self.law is None:
            return None
        return self.central(self._hidden(self.link.members(link_inputs(series[None], self.inputs, self.domains))))

    def central(self, members: Array) -> Array:
        """The central prediction of members (M, ...)."""
        return np.asarray(members[0] if self.centre == "first" else members.mean(axis=0))

    def _hidden(self, scores: Array) -> Array:
        scores = np.array(scores, float)
        scores[..., list(self.reasons)] = np.nan
        return scores
