"""What every drawing of the mixture surface marks: the mixtures of runs, the one found, the one in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.report.axes import Paint
from flp_ray.report.drawing import Swatch

if TYPE_CHECKING:
    from flp_ray.core.search import MixtureSurface, SearchAnswer
    from flp_ray.report.content import ReportContent


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A mixture that is marked.

    Attributes:
        gid: Name of the series.
        text: What it is.
        mixture: The mixture.
        role: Its colour.
        marker: Matplotlib's name of the marker.
        hollow: Whether it is not filled.
    """

    gid: str
    text: str
    mixture: Mixture
    role: str
    marker: str
    hollow: bool = False

    def swatch(self) -> Swatch:
        """Its entry in the key."""
        return Swatch(text=self.text, role=self.role, marker=self.marker, hollow=self.hollow)

    def ratios(self, sources: Sequence[str]) -> Any:
        """Its ratios of the given sources, (K,)."""
        return np.array([self.mixture.ratio(s) for s in sources])

    def dot(self, axes: Any, paint: Paint, x: float, y: float) -> None:
        """Draws the mark.

        Args:
            axes: Where.
            paint: Colours by role.
            x: Horizontal value.
            y: Vertical value.
        """
        axes.plot(
            [x], [y], self.marker, linestyle="none", markersize=8, zorder=6, clip_on=False,
            color=paint("surface" if self.hollow else self.role), gid=self.gid,
            markeredgecolor=paint(self.role if self.hollow else "surface"), markeredgewidth=1.8 if self.hollow else 1.0,
        )  # fmt: skip


def places(answer: SearchAnswer | None) -> tuple[Place, ...]:
    """The mixtures that one answer speaks of, the one found last, so that it lies on top."""
    if answer is None:
        return ()
    marks = [
        ("present", "in use now", answer.present, "ink", "s", False),
        ("free", "best without the constraints", answer.free_mixture, "validation", "D", True),
        ("optimum", "best mixture found", answer.mixture, "validation", "D", False),
    ]
    return tuple(
        Place(gid=gid, text=text, mixture=mixture, role=role, marker=marker, hollow=hollow)
        for gid, text, mixture, role, marker, hollow in marks
        if mixture is not None and (gid != "free" or mixture != answer.mixture)
    )


def run_ratios(content: ReportContent, surface: MixtureSurface) -> Any:
    """Ratios of the mixtures that runs were trained or decided at, each once, (m, K)."""
    mixtures = [r.mixture for r in content.records.runs if r.mixture is not None]
    if content.search is not None:
        mixtures += [d.mixture for d in content.search.decisions if d.mixture is not None]
    known = {tuple(m.ratio(s) for s in surface.sources) for m in mixtures if set(m.used()) <= set(surface.sources)}
    return np.array(sorted(known), dtype=float).reshape(-1, len(surface.sources))


def varying(surface: MixtureSurface) -> tuple[int, ...]:
    """Places of the sources whose ratio varies over the surface: pinned ones have no axis."""
    return tuple(int(i) for i in np.flatnonzero(np.ptp(surface.ratios, axis=0) > 1e-9))
