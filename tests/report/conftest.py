"""The planted study and its page, made once for all of the report's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from report_study import planted_study

from flp_ray.report import ReportContent
from flp_ray.report.page import render


@pytest.fixture(scope="session")
def study() -> ReportContent:
    return planted_study()


@pytest.fixture(scope="session")
def page(study: ReportContent) -> str:
    return render(study)
