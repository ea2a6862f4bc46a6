import subprocess
import sys

import pytest

from flp_ray import synthetic
from flp_ray.fit import fit_surrogate
from flp_ray.fit.config import FitSettings


@pytest.fixture(scope="session")
def small_design():
    """Sixteen runs of eight checkpoints: the demo's size."""
    return synthetic.Design(
        sizes=tuple(synthetic.paper_size(n) for n in ("0.2B", "0.32B", "0.5B", "0.72B")),
        mixtures=synthetic.two_source_mixtures("code", "general", [0.0, 0.1, 0.3, 0.5]),
        checkpoints=8,
    )


@pytest.fixture(scope="session")
def quick():
    """Few members and steps: enough where the numbers themselves are not judged."""
    return FitSettings(members=6, steps=60)


@pytest.fixture(scope="session")
def records(small_design):
    return synthetic.two_source_world().records(small_design, 1)


@pytest.fixture(scope="session")
def surrogate(records, quick):
    return fit_surrogate(records, quick)


@pytest.fixture
def python_modules():
    """Top-level modules that a fresh interpreter has loaded after some code."""

    def loaded(code):
        shown = subprocess.run(
            [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
            check=True,
            capture_output=True,
            text=True,
        )
        return {name.split(".")[0] for name in shown.stdout.split()}

    return loaded
