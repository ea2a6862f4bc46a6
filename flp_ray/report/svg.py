"""A matplotlib figure -> inline SVG that takes its colours and its font from the page.

Figures are drawn in stand-in colours that name a role. They are replaced by the page's CSS variables, so one
drawing reads in the light theme, in the dark one and on paper.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any

ROLES = ("ink", "muted", "rule", "surface", "predicted", "grid", "validation", "target")
"""Roles of colours; each is a CSS variable of the page."""

SHADES = 11
"""Steps of the colour scale for mixing ratios, `--s0` to `--s10`."""

TONES = 6
"""Colours without an order (sources, methods), `--m0` to `--m5`."""

_COLOURS = {role: f"#0100{i:02x}" for i, role in enumerate(ROLES)}
_COLOURS |= {f"s{i}": f"#0200{i:02x}" for i in range(SHADES)}
_COLOURS |= {f"m{i}": f"#0300{i:02x}" for i in range(TONES)}


def colour(role: str) -> str:
    """The stand-in colour of a role (or of a shade, `s0` to `s10`, or of a tone, `m0` to `m5`)."""
    return _COLOURS[role]


def shade(ratio: float, low: float, high: float) -> str:
    """The stand-in colour of a ratio on a scale from `low` to `high`."""
    step = 0 if high <= low else round((SHADES - 1) * (ratio - low) / (high - low))
    return _COLOURS[f"s{min(max(step, 0), SHADES - 1)}"]


def settings() -> dict[str, Any]:
    """What matplotlib needs for text as text and for the same bytes each time."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "flp_ray",
        "svg.image_inline": True,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "font.size": 11,
        "path.simplify": True,
    }


def inline(figure: Any, *, name: str, label: str) -> str:
    """One drawn figure as an `<svg>` element without any reference outwards.

    Args:
        figure: A matplotlib Figure.
        name: Unique on the page; prefixes every id. Series keep theirs: `gid="grid"` becomes
            `<g id="NAME-grid">`.
        label: What a screen reader says.
    """
    drawn = io.StringIO()
    with warnings.catch_warnings():
        # The page's font shows the text, so glyphs that matplotlib's own font lacks do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = _compact(_renamed(_coloured(body), name))
    frame = box.group(1) if box else "0 0 1 1"
    return (
        f'<svg class="chart" viewBox="{frame}" role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{html.escape(label)}</title>{body}</svg>'
    )


def _coloured(body: str) -> str:
    for role, stand_in in _COLOURS.items():
        body = body.replace(stand_in, f"var(--{role})")
    return re.sub(r"font(-size)?: ([\d.]+)px[^;\"]*(; font-family:[^;\"]*)?", r"font-size: \2px", body)


def _renamed(body: str, name: str) -> str:
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"', body)) | set(re.findall(r"url\(#([^)]+)\)", body))
    short = {old: f"{name}-{i}" for i, old in enumerate(sorted(used, key=lambda old: (body.index(old), old)))}

    def renamed(match: re.Match[str]) -> str:
        old = match.group(1)
        if old in short:
            return f' id="{short[old]}"'
        # matplotlib numbers its own groups (text_1, axes_1, matplotlib.axis_1); series names have no digits.
        return "" if re.search(r"\d", old) else f' id="{name}-{old}"'

    body = re.sub(r' id="([^"]+)"', renamed, body)
    body = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{short[m.group(1)]}"', body)
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{short[m.group(1)]})", body)


def _compact(body: str) -> str:
    # A hundredth of a pixel cannot be seen. Text between tags is left alone.
    body = re.sub(r"<[^>]+>", lambda m: re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", m.group(0))), body)
    return re.sub(r">\s+<", "><", body).replace('style=" ', 'style="').strip()
