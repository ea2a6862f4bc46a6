"""Training on tiny models: resume is exact, the gradient is the mean over the batch, failures are words."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from flp_ray.core.execution import Execution
from flp_ray.errors import DivergedError, OutOfMemoryError, RunError, StorageError
from flp_ray.train import clear_states, train
from flp_ray.train import state as state_module
from flp_ray.train.engine import learning_rate_factor
from flp_ray.train.loss import TokenLoss
from flp_ray.train.model import build_model
from flp_ray.train.workers import Workers

pytestmark = pytest.mark.deepspeed


class StopError(Exception):
    """A death at a chosen place."""


class Recorder:
    """Notes every checkpoint with its weights; may die at the k-th."""

    def __init__(self, die_at: int | None = None) -> None:
        self.seen, self.weights, self.die_at = [], [], die_at

    def __call__(self, checkpoint, module) -> None:
        assert not module.training
        if self.die_at is not None and len(self.seen) == self.die_at:
            raise StopError
        self.seen.append(checkpoint)
        self.weights.append({k: v.detach().clone() for k, v in module.state_dict().items()})

    def losses(self) -> list[float]:
        return [c.train_loss for c in self.seen]


def newest(folder: Path, run_id: str) -> str | None:
    return state_module.States(run_id, folder, Workers(0, 1)).newest()


def same_weights(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_checkpoints_follow_the_schedule_and_the_filter(make_spec, make_text, tmp_path):
    spec = make_spec()
    recorder, progress = Recorder(), []
    summary = train(spec, make_text(spec), tmp_path / "run", on_checkpoint=recorder, on_progress=progress.append)
    steps = [c.step for c in recorder.seen]
    assert set(steps) <= set(spec.checkpoint_steps()) and steps[-1] == spec.steps == 12
    assert [c.final for c in recorder.seen] == [False] * (len(steps) - 1) + [True]
    rounded = [round(c.train_loss, 2) for c in recorder.seen[:-1]]
    assert rounded == sorted(set(rounded), reverse=True)
    assert recorder.seen[-1].tokens == spec.train_tokens and recorder.seen[-1].flops == spec.flops
    assert [p.step for p in progress] == list(spec.checkpoint_steps())
    assert summary.train_loss == recorder.seen[-1].train_loss < math.log(64)
    assert summary.tokens_per_s > 0 and summary.peak_rss_bytes > 2**26 and summary.peak_device_bytes is None
    clear_states(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_does_not_improve_is_not_measured(make_spec, make_text, tmp_path):
    spec = make_spec(learning_rate=1e-12)
    recorder, progress = Recorder(), []
    train(spec, make_text(spec), tmp_path, on_checkpoint=recorder, on_progress=progress.append)
    losses = [round(p.train_loss, 2) for p in progress]
    expected = [k for k, loss in enumerate(losses) if k == 0 or loss < min(losses[:k]) or k == len(losses) - 1]
    assert [c.step for c in recorder.seen] == [spec.checkpoint_steps()[k] for k in expected]
    assert len(expected) < len(losses)


def test_every_checkpoint_is_measured_where_that_is_asked_for(make_spec, make_text, tmp_path):
    spec, recorder = make_spec(learning_rate=1e-9), Recorder()
    train(spec, make_text(spec), tmp_path, on_checkpoint=recorder, measure_all=True)
    assert [c.tokens for c in recorder.seen] == [spec.tokens_at(step) for step in spec.checkpoint_steps()]


def test_a_run_equals_a_plain_torch_loop(make_spec, make_text, tmp_path):
    """The whole recipe against torch alone: schedule, clipping, decay, short last batch."""
    spec, recorder = make_spec(weight_decay=0.3, clip_norm=0.5), Recorder()
    text = make_text(spec)
    train(spec, text, tmp_path, on_checkpoint=recorder)
    model = build_model(spec)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.3},
        {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.95))
    for step in range(spec.steps):
        ids = torch.from_numpy(text.tokens(step * 8, min(step * 8 + 8, spec.sequences)))
        loss = F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * learning_rate_factor(spec, step)
        optimizer.step()
        optimizer.zero_grad()
    # Twelve AdamW steps amplify the last bits of fp32 gradients; weights are of size 0.02 to 1.
    for name, value in model.state_dict().items():
        torch.testing.assert_close(recorder.weights[-1][name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (1, "fp32"), (0, "bf16"), (1, "bf16")])
def test_resume_is_bit_identical(make_spec, make_text, tmp_path, zero_stage, precision, monkeypatch):
    spec, execution = make_spec(precision=precision), Execution(zero_stage=zero_stage)
    text, whole = make_text(spec), Recorder()
    train(spec, text, tmp_path / "whole", on_checkpoint=whole, execution=execution)
    assert len(whole.seen) >= 4

    folder, seen, last = tmp_path / "broken", [], None

    def attempt(recorder) -> bool:
        nonlocal last
        try:
            train(spec, text, folder, on_checkpoint=recorder, execution=execution)
        except StopError:
            done = False
        else:
            done = True
        seen.extend(recorder.seen)
        last = recorder.weights[-1] if recorder.weights else last
        return done

    assert not attempt(Recorder(die_at=0))  # inside the first on_checkpoint: nothing is saved yet
    assert not attempt(Recorder(die_at=2))  # inside a later one
    with monkeypatch.context() as patch:  # in the middle of a save: files written, not yet in place
        renames = []

        def die_on_second(self, target, rename=Path.rename):
            renames.append(self)
            if len(renames) == 2:
                raise StopError
            return rename(self, target)

        patch.setattr(Path, "rename", die_on_second)
        assert not attempt(Recorder())
    with monkeypatch.context() as patch:  # after the state is in place, before the older one is gone
        kept = state_module.shutil.rmtree

        def die_at_the_older(path, **options):
            if Path(path).name.startswith("step-") and Path(path).exists():
                raise StopError
            return kept(path, **options)

        patch.setattr(state_module.shutil, "rmtree", die_at_the_older)
        assert not attempt(Recorder())
    assert len(list(folder.glob("step-*"))) == 2
    assert attempt(Recorder())

    by_step = {}
    for checkpoint in seen:  # a repeated measurement must repeat its value
        assert by_step.setdefault(checkpoint.step, checkpoint) == checkpoint
    assert sorted(by_step.values(), key=lambda c: c.step) == whole.seen
    assert same_weights(last, whole.weights[-1])


@pytest.mark.slow
def test_resume_after_sigkill(make_spec, make_text, tmp_path):
    """A child process kills itself at a checkpoint; another one goes on."""
    script = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import Text, small_spec
from flp_ray.train import train
spec, die_at = small_spec(), int(sys.argv[3])
def on_checkpoint(checkpoint, module):
    if checkpoint.step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    total = sum(p.double().abs().sum().item() for p in module.parameters())
    print("RECORD", checkpoint.step, checkpoint.train_loss.hex(), total.hex(), flush=True)
train(spec, Text(spec), Path(sys.argv[2]), on_checkpoint=on_checkpoint, threads=1)
"""

    def run(folder: Path, die_at: int) -> tuple[int, list[str]]:
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(folder), str(die_at)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("RECORD")]

    code, whole = run(tmp_path / "whole", -1)
    assert code == 0 and len(whole) >= 4
    killed, first = run(tmp_path / "killed", int(whole[2].split()[1]))
    assert killed == -signal.SIGKILL and first == whole[:2]
    code, rest = run(tmp_path / "killed", -1)
    assert code == 0 and rest == whole[2:]


def test_micro_batches_give_the_same_training(make_spec, make_text, tmp_path):
    """Three sequences a pass out of eight (and out of a short last batch) against all at once."""
    losses = []
    for zero_stage, micro in [(0, None), (0, 3), (1, 3), (2, 3)]:
        spec, recorder = make_spec(), Recorder()
        execution = Execution(micro_batch_sequences=micro, zero_stage=zero_stage)
        train(spec, make_text(spec), tmp_path / f"{zero_stage} {micro}", on_checkpoint=recorder, execution=execution)
        losses.append([c.train_loss for c in recorder.seen])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)  # order of summation in fp32, over 12 steps


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_higher_zero_stages_train_and_resume(make_spec, make_text, tmp_path, zero_stage, precision):
    spec, execution = make_spec(precision=precision), Execution(zero_stage=zero_stage, micro_batch_sequences=3)
    whole, reference = Recorder(), Recorder()
    train(spec, make_text(spec), tmp_path / "whole", on_checkpoint=whole, execution=execution)
    train(spec, make_text(spec), tmp_path / "plain", on_checkpoint=reference)
    tolerance = 1e-4 if precision == "fp32" else 1e-2  # bf16 keeps 8 bits, and the micro batches differ
    assert whole.losses() == pytest.approx(reference.losses(), rel=tolerance)
    with pytest.raises(StopError):
        train(spec, make_text(spec), tmp_path / "broken", on_checkpoint=Recorder(die_at=2), execution=execution)
    rest = Recorder()
    train(spec, make_text(spec), tmp_path / "broken", on_checkpoint=rest, execution=execution)
    assert rest.seen == whole.seen[2:] and same_weights(rest.weights[-1], whole.weights[-1])


def test_divergence_names_run_step_and_loss(make_spec, make_text, tmp_path):
    spec = make_spec(learning_rate=1e30, clip_norm=None)
    with pytest.raises(DivergedError, match=rf"Run {spec.run_id} .*loss is (nan|inf) in steps \d+ to \d+ of 12"):
        train(spec, make_text(spec), tmp_path, on_checkpoint=Recorder())


@pytest.mark.parametrize("step", [5, 12])
@pytest.mark.parametrize(
    ("zero_stage", "precision"), [(0, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16")]
)
def test_one_gradient_that_is_not_finite_ends_the_run(
    make_spec, make_text, tmp_path, monkeypatch, zero_stage, precision, step
):
    """DeepSpeed leaves such a step out at some stages, and the loss stays finite; in the last step it always does."""
    built, passes = TokenLoss.__init__, []

    def build(self, *given, **named):
        built(self, *given, **named)
        weight = next(p for p in self.parameters() if p.dim() > 1)
        weight.register_hook(spoil)

    def spoil(gradient):
        passes.append(gradient)
        return gradient * math.nan if len(passes) == step else gradient

    monkeypatch.setattr(TokenLoss, "__init__", build)
    spec = make_spec(precision=precision)
    with pytest.raises(DivergedError, match=r"loss is nan in steps \d+ to \d+ of 12"):
        train(spec, make_text(spec), tmp_path, on_checkpoint=Recorder(), execution=Execution(zero_stage=zero_stage))
    assert len(passes) in (step, step + 1)


def test_a_full_disk_keeps_the_earlier_state(make_spec, make_text, tmp_path):
    """A limit on file size stands in for the full disk: the kernel refuses the write in the middle of a file."""
    import resource

    spec, text, folder, whole = make_spec(), make_text(make_spec()), tmp_path / "run", Recorder()
    train(spec, text, tmp_path / "whole", on_checkpoint=whole)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    first = Recorder()

    def fill_up(checkpoint, module):
        first(checkpoint, module)
        if len(first.seen) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(StorageError, match=r"takes up to \d+ bytes and \d+ bytes are free"):
            train(spec, text, folder, on_checkpoint=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in folder.glob("step-*")] == [f"step-{first.seen[0].step:08d}"]
    assert not list(folder.glob(".step-*"))
    rest = Recorder()
    train(spec, text, folder, on_checkpoint=rest)
    assert rest.seen == whole.seen[1:] and same_weights(rest.weights[-1], whole.weights[-1])


def test_a_disk_that_is_too_full_for_the_kept_model_is_named(make_spec, make_text, tmp_path):
    import resource

    spec, limits = make_spec(), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(checkpoint, module):
        if checkpoint.final:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))

    try:
        with pytest.raises(StorageError, match=r"trained model could not be saved in .*takes up to \d+ bytes"):
            train(spec, make_text(spec), tmp_path, on_checkpoint=fill_up, keep="last")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "model").exists()
    train(spec, make_text(spec), tmp_path, on_checkpoint=lambda c, m: None, keep="last")
    assert (tmp_path / "model").exists()


def test_a_damaged_state_is_passed_over(make_spec, make_text, tmp_path):
    spec, text, whole, rest = make_spec(), make_text(make_spec()), Recorder(), Recorder()
    train(spec, text, tmp_path / "whole", on_checkpoint=whole)
    with pytest.raises(StopError):
        train(spec, text, tmp_path / "run", on_checkpoint=Recorder(die_at=1))
    state = newest(tmp_path / "run", spec.run_id)
    assert state is not None and newest(tmp_path / "run", "another run") is None
    file = next((tmp_path / "run" / state).rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    assert newest(tmp_path / "run", spec.run_id) is None
    train(spec, text, tmp_path / "run", on_checkpoint=rest)
    assert rest.seen == whole.seen


def test_measuring_that_runs_out_of_memory_says_what_to_change(make_spec, make_text, tmp_path):
    spec = make_spec()

    def greedy(checkpoint, module):
        torch.empty(2**62, dtype=torch.uint8)

    with pytest.raises(RunError, match=r"while a checkpoint was measured: .*Lower measure.batch_tokens") as caught:
        train(spec, make_text(spec), tmp_path, on_checkpoint=greedy)
    assert not isinstance(caught.value, OutOfMemoryError)  # a smaller micro batch would not help


def test_kept_model_loads_with_transformers(make_spec, make_text, tmp_path):
    from transformers import LlamaForCausalLM

    spec, recorder = make_spec(), Recorder()
    train(spec, make_text(spec), tmp_path / "run", on_checkpoint=recorder, keep="last")
    clear_states(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model"]
    model = LlamaForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert same_weights(model.state_dict(), recorder.weights[-1])


def test_every_measured_checkpoint_may_be_kept(make_spec, make_text, tmp_path):
    from transformers import LlamaForCausalLM

    spec, recorder = make_spec(), Recorder()
    train(spec, make_text(spec), tmp_path / "run", on_checkpoint=recorder, keep="kept")
    clear_states(tmp_path / "run")
    folders = sorted((tmp_path / "run").iterdir(), key=lambda p: (p.name == "model", p.name))
    assert len(folders) == len(recorder.weights) > 1
    for folder, weights in zip(folders, recorder.weights, strict=True):
        assert same_weights(LlamaForCausalLM.from_pretrained(folder).state_dict(), weights)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_extension_is_compiled_and_stdout_stays_clean(tmp_path, precision):
    """In a fresh process: DeepSpeed compiles nothing (two minutes otherwise) and prints nothing."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import Text, small_spec
from flp_ray.core.execution import Execution
from flp_ray.train import train
spec = small_spec(precision=sys.argv[3])
execution = Execution(zero_stage=1)
train(spec, Text(spec), Path(sys.argv[2]) / "run", on_checkpoint=lambda c, m: None, threads=1, execution=execution)
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "DS_ACCELERATOR")}
    environment["TORCH_EXTENSIONS_DIR"] = str(tmp_path / "extensions")
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path), precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "extensions").exists()
    assert done.stdout == ""


def test_many_runs_in_one_process_do_not_pile_up_memory(make_spec, make_text, tmp_path):
    """Actors are reused for a whole study: engines and models of earlier runs must go."""
    spec = make_spec(vocabulary=16384, train_tokens=16 * 16, checkpoints=1)
    text = make_text(spec)

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        train(spec, text, tmp_path, on_checkpoint=lambda c, m: None)
    before = resident_bytes()
    for _ in range(12):
        train(spec, text, tmp_path, on_checkpoint=lambda c, m: None)
    model_bytes = spec.params * 4
    assert resident_bytes() - before < 12 * model_bytes  # each run would leave weights, gradients and two moments: 48
