"""The HTML file: template, style and content into one page that stands alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flp_ray.core.mixture import Mixture
from flp_ray.errors import StorageError
from flp_ray.report import numbers
from flp_ray.report.content import ReportContent

if TYPE_CHECKING:
    from jinja2 import Environment

_SOURCE_TONES = 6


def write_report(path: Path, content: ReportContent) -> Path:
    """Writes the report, all or nothing.

    Args:
        path: Where the HTML file goes; a file that is there is replaced.
        content: What it shows.

    Returns:
        The path.

    Raises:
        StorageError: The file cannot be written.
    """
    return save_page(path, render(content), command="flp-ray report")


def save_page(path: Path, html: str, *, command: str) -> Path:
    """Writes a page, all or nothing.

    Args:
        path: Where the HTML file goes; a file that is there is replaced.
        html: The page.
        command: What to run again after a failure.

    Returns:
        The path.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, because a rename is atomic only within one file system.
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(html)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"The report cannot be written to {path}: {error.strerror or error}. "
            f"Free space or choose another folder, then run `{command}` again; nothing else was lost."
        ) from error
    return path


def render(content: ReportContent) -> str:
    """The page as text; the same content gives the same text."""
    from flp_ray.report import experiment_tables, figures, ratio, tables, tuning_figure, tuning_view
    from flp_ray.report.answer import answer
    from flp_ray.report.search_section import search_section

    environment = page_environment()
    environment.filters["parts"] = _parts
    environment.filters["mixture"] = numbers.mixture
    return environment.get_template("page.html.jinja").render(
        content=content,
        answer=answer(content),
        hero=ratio.hero(content),
        search=search_section(content),
        figures=(
            ratio.ratio_figure(content),
            figures.parity_figure(content),
            figures.law_figure(content),
            figures.loss_score_figure(content),
            *tuning_figure.tuning_figures(content),
        ),
        tables=(
            experiment_tables.comparison_table(content),
            experiment_tables.outcome_table(content),
            tables.proposal_table(content),
            tables.law_table(content),
            *tuning_view.tuning_tables(content),
            tables.run_table(content),
        ),
        small_tables=(
            *tables.text_tables(content),
            tables.time_table(content),
            tables.version_table(content),
        ),
    )


def page_environment() -> Environment:
    """Finds the templates; text is escaped, and an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("flp_ray.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _parts(mixture: Mixture) -> list[tuple[str, str, float, int]]:
    """A mixture as (source, percent as text, percent, tone) for its bar: a tone a source, largest first."""
    tones = {source: i % _SOURCE_TONES for i, source in enumerate(mixture.sources)}
    return [
        (source, numbers.share(ratio), round(100 * ratio, 3), tones[source])
        for source, ratio in sorted(mixture.as_dict().items(), key=lambda item: (-item[1], item[0]))
    ]
