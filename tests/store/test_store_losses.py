from __future__ import annotations

from pathlib import Path

from flp_ray.core.records import Measurement
from flp_ray.store import TableWriter, final_losses, measurement_rows


def loss(run_id: str, tokens: int, name: str, value: float, kind: str = "domain_loss") -> Measurement:
    return Measurement(run_id=run_id, tokens=tokens, flops=1.0, kind=kind, name=name, value=value)


def test_the_last_checkpoint_of_each_run_counts(tmp_path: Path) -> None:
    assert final_losses(tmp_path).to_pylist() == []
    with TableWriter(tmp_path, compact_after_files=3) as writer:
        writer.append("measurements", measurement_rows([loss("b", 30, "code", 2.5), loss("b", 30, "math", 3.5)]))
        writer.append("measurements", measurement_rows([loss("a", 10, "code", 9.0), loss("b", 20, "code", 8.0)]))
        writer.append("measurements", measurement_rows([loss("a", 20, "code", 4.0), loss("b", 40, "mean", 1.0, "bpb")]))
        writer.append("measurements", measurement_rows([loss("c", 10, "order", 0.5, "performance")]))
    assert final_losses(tmp_path).to_pylist() == [
        {"run_id": "a", "tokens": 20, "name": "code", "value": 4.0},
        {"run_id": "b", "tokens": 30, "name": "code", "value": 2.5},
        {"run_id": "b", "tokens": 30, "name": "math", "value": 3.5},
    ]


def test_a_study_without_a_domain_loss_has_none(tmp_path: Path) -> None:
    with TableWriter(tmp_path) as writer:
        writer.append("measurements", measurement_rows([loss("c", 10, "order", 0.5, "performance")]))
    assert final_losses(tmp_path).num_rows == 0
