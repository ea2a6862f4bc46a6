"""What makes training fast or small gives the same training: loss in chunks, batches ahead, recomputation."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from flp_ray.core.execution import Execution
from flp_ray.errors import ConfigError
from flp_ray.train import TrainingCheckpoint, accelerator_peak_flops, loss, train
from flp_ray.train.batches import Batches
from flp_ray.train.loss import TokenLoss
from flp_ray.train.model import _fuse_norms, build_model, use_kernels

CPU = torch.device("cpu")


class Largest(TorchDispatchMode):
    """Notes the most numbers of any tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        self.numbers = max([self.numbers, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return result


def gradients(spec, ids, dtype, weight):
    model = TokenLoss(build_model(spec).to(dtype))
    with Largest() as made:
        total = model(ids)
        (total * weight).backward()
    return total.detach(), [p.grad for p in model.parameters()], made.numbers


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_loss_in_chunks_is_that_of_all_logits(make_spec, monkeypatch, dtype, tolerance):
    """Tolerances: the order of summation in fp32; a few of bf16's 8 bits, whose logits' gradients are rounded once."""
    spec = make_spec(vocabulary=4096)
    ids = torch.randint(0, 4096, (5, 16), generator=torch.Generator().manual_seed(1))
    whole, expected, everything = gradients(spec, ids, dtype, 0.37)
    monkeypatch.setattr(loss, "LOGITS_BYTES", 4 * 4096 * 32)  # 32 rows of 75: the last chunk is short
    total, found, most = gradients(spec, ids, dtype, 0.37)
    torch.testing.assert_close(total, whole, rtol=tolerance, atol=0)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * b.abs().max().item())
    assert everything == 75 * 4096 and most == 32 * 4096


def test_the_training_loss_is_that_of_the_model(make_spec):
    """TokenLoss goes through the layers by itself; the model's own forward says the same to the last bit."""
    spec = make_spec()
    model, ids = build_model(spec), torch.arange(48).view(3, 16)
    logits = model(input_ids=ids[:, :-1]).logits
    expected = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="sum")
    assert torch.equal(TokenLoss(model)(ids), expected)


def test_fused_norms_are_those_of_the_model(make_spec):
    model, ids = build_model(make_spec()), torch.arange(48).view(3, 16)
    plain = TokenLoss(model)(ids)
    _fuse_norms(model)
    torch.testing.assert_close(TokenLoss(model)(ids), plain)


def test_batches_come_in_order_and_are_shared_out_among_workers(make_spec, make_text):
    spec = make_spec(batch_sequences=8, train_tokens=16 * 21)
    text = make_text(spec)
    seen = []
    for rank in range(3):
        execution = Execution(workers=3, micro_batch_sequences=2)
        batches = Batches(spec, text, execution, rank=rank, device=CPU, step=1)
        steps = [batches.next_step() for _ in range(2)]
        batches.close()
        assert [s.sequences for s in steps] == [8, 5] and [len(s.passes) for s in steps] == [2, 1]
        seen.append([p for s in steps for p, counts in zip(s.passes, s.counting, strict=True) if counts])
    for rank, passes in enumerate(seen):
        wanted = [*range(8 + rank, 16, 3), *range(16 + rank, 21, 3)]
        assert torch.equal(torch.cat(passes), torch.from_numpy(text.ids[wanted]))


def test_an_error_of_the_stream_comes_with_its_batch(make_spec, make_text, stop_error):
    spec = make_spec()
    batches = Batches(spec, make_text(spec, die_at=2), Execution(), rank=0, device=CPU, step=0)
    for _ in range(2):
        batches.next_step()
    with pytest.raises(stop_error):
        batches.next_step()
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


@pytest.mark.deepspeed
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_recomputed_activations_and_chunks_give_the_same_training(
    make_spec, make_text, tmp_path, zero_stage, monkeypatch
):
    spec, losses = make_spec(train_tokens=16 * 40), []

    def note(checkpoint: TrainingCheckpoint, model: torch.nn.Module) -> None:
        losses[-1].append(checkpoint.train_loss)

    for checkpointing in (False, True):
        if checkpointing:
            monkeypatch.setattr(loss, "LOGITS_BYTES", 4 * spec.vocabulary * 50)
        execution = Execution(zero_stage=zero_stage, activation_checkpointing=checkpointing)
        losses.append([])
        train(
            spec, make_text(spec), tmp_path / str(checkpointing), on_checkpoint=note, execution=execution,
            measure_all=True,
        )  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 5  # order of summation


def test_kernels_that_cannot_be_had_are_refused(make_spec, monkeypatch):
    model = build_model(make_spec())
    with pytest.raises(ConfigError, match=r"liger needs a GPU.*Set kernels: torch"):
        use_kernels(model, "liger", CPU)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"cannot be imported.*pip install liger-kernel"):
        use_kernels(model, "liger", torch.device("cuda"))


@pytest.mark.deepspeed
def test_utilisation_is_of_the_stated_peak(make_spec, make_text, tmp_path):
    spec, options = make_spec(train_tokens=16 * 16), {"on_checkpoint": lambda c, m: None}
    assert accelerator_peak_flops(CPU, "fp32") is None
    assert train(spec, make_text(spec), tmp_path / "a", **options).mfu is None
    known = train(spec, make_text(spec), tmp_path / "b", peak_flops_per_s=1e10, **options)
    assert known.mfu == known.flops_per_s / 1e10 > 0


@pytest.mark.slow
@pytest.mark.deepspeed
def test_a_smaller_micro_batch_fits_after_memory_ran_out_in_the_same_process(tmp_path):
    """A real limit on the address space; the second attempt needs what the first one held."""
    script = """
import resource, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import Text, small_spec
from flp_ray.core.execution import Execution
from flp_ray.core.shape import ModelShape
from flp_ray.errors import OutOfMemoryError
from flp_ray.train import train
big = dict(sequence_length=256, batch_sequences=64, train_tokens=256 * 64, checkpoints=1)
spec = small_spec(shape=ModelShape(layers=2, hidden=256, heads=4, ffn=688), **big)
def attempt(micro, name):
    execution = Execution(micro_batch_sequences=micro)
    return train(spec, Text(spec), Path(sys.argv[2]) / name, on_checkpoint=lambda c, m: None, execution=execution)
attempt(1, "warm")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
for number in range(3):
    try:
        attempt(None, f"large {number}")
    except OutOfMemoryError as error:
        print("OUT OF MEMORY", error)
print("DONE", attempt(4, "small").train_loss)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(said) == 4 and said[-1].startswith("DONE")
    assert all("Lower micro_batch_sequences (now 64, of 64 sequences a batch on 1 workers)" in s for s in said[:-1])


@pytest.mark.slow
@pytest.mark.deepspeed
def test_all_workers_end_when_one_runs_out_of_memory(tmp_path, run_workers):
    codes, outputs = run_workers(tmp_path, "out_of_memory")
    assert "OUT OF MEMORY" in outputs[1] and codes[1] == 7, outputs
    assert codes[0] not in (0, 7)  # its partner is gone: an error, not a wait


@pytest.mark.slow
@pytest.mark.deepspeed
def test_the_gpu_benchmark_runs_dry():
    script = Path(__file__).parents[1] / "benchmarks" / "bench_gpu.py"
    done = subprocess.run(
        [sys.executable, str(script), "--dry-run-cpu", "--kernels", "torch"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=script.parents[2],
    )
    assert done.returncode == 0, done.stderr
    toy = json.loads(done.stdout)["toy"]
    assert toy["torch"]["vs_hand"] == pytest.approx(
        toy["torch"]["tokens_per_s"] / toy["hand"]["tokens_per_s"], rel=0.01
    )
