from __future__ import annotations

import subprocess
import sys

import pytest

from flp_ray.errors import StorageError
from flp_ray.store.tables import form_of


def test_an_unknown_table_is_named_with_those_there_are() -> None:
    with pytest.raises(StorageError, match=r"no table 'losses'.*measurements"):
        form_of("losses")


def test_the_identity_is_what_was_stored_not_when_or_where() -> None:
    assert form_of("measurements").identity == ("flops", "value", "stderr", "items")
    assert form_of("attempts").identity == ("reason",)
    assert form_of("fits").identity == ("method", "observations", "payload")
    assert form_of("stages").identity == ()


def test_importing_the_stage_loads_no_heavy_library() -> None:
    heavy = ["torch", "ray", "deepspeed", "transformers", "lm_eval", "optuna", "matplotlib", "datasets", "pandas"]
    heavy.append("pyarrow.dataset")
    code = f"import sys, flp_ray.store; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
