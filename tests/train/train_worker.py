"""One of several workers that train small runs together; run as `python train_worker.py FOLDER RANK WORLD WHAT`.

Rank 0 prints a line `RESULT <JSON>` for each training.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import sys
import warnings
from pathlib import Path

from conftest import FolderStorage, StopError, Text, small_spec

from flp_ray.core.execution import Execution
from flp_ray.errors import OutOfMemoryError
from flp_ray.train import train

warnings.simplefilter("ignore")

CASES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16")]


class Attempts:
    """Trains and prints, as one of the workers."""

    def __init__(self, folder: Path, rank: int, world: int) -> None:
        self.folder, self.rank, self.world = folder, rank, world

    def __call__(self, name: str, case: tuple[int, str], *, die_at: int | None = None, **options: object) -> None:
        zero_stage, precision = case
        # Shares of 2 and 1 of a batch, and a last batch of 1 that leaves the second worker idle.
        spec = small_spec(precision=precision, batch_sequences=3, train_tokens=16 * 22, checkpoints=4)
        losses, weights = {}, 0.0

        def on_checkpoint(checkpoint, module):
            nonlocal weights
            losses[checkpoint.step] = checkpoint.train_loss
            weights = sum(p.double().abs().sum().item() for p in module.parameters())

        execution = Execution(
            workers=self.world, zero_stage=zero_stage, micro_batch_sequences=1 if zero_stage == 2 else None
        )
        with contextlib.suppress(StopError):
            train(
                spec,
                Text(spec, die_at=die_at),
                self.folder / name,
                on_checkpoint=on_checkpoint,
                execution=execution,
                rank=self.rank,
                measure_all=True,
                threads=1,
                **options,
            )
        if self.rank == 0:
            print("RESULT", json.dumps({"name": name, "losses": losses, "weights": weights.hex()}), flush=True)


def all_stages(attempt: Attempts) -> None:
    """Each stage: whole, and stopped and continued; and stopped for others to go on from."""
    for case in CASES:
        name = f"{case[0]} {case[1]}"
        attempt(f"whole {name}", case)
        attempt(f"broken {name}", case, die_at=5)
        if attempt.rank == 0:
            shutil.copytree(attempt.folder / f"broken {name}", attempt.folder / f"left {name}")
        attempt(f"broken {name}", case)
        if (attempt.folder / f"given {name}").exists():
            attempt(f"given {name}", case)


def with_storage(attempt: Attempts) -> None:
    """Workers on nodes that share nothing but a storage; the second attempt finds empty disks."""
    storage = FolderStorage(attempt.folder / "storage")
    for case in [(0, "fp32"), (2, "bf16")]:
        name = f"{case[0]} {case[1]}"
        attempt(f"whole {name}", case)
        for attempt_number, die_at in enumerate((5, None)):
            scratch = f"node {attempt.rank} {attempt_number} {name}"
            attempt(scratch, case, die_at=die_at, storage=storage, prefix=f"runs/{name}", keep="last")


class Narrowing(Text):
    """Text that takes the process's room for more memory away once training has begun."""

    def tokens(self, start, stop):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, resource.RLIM_INFINITY))
        return super().tokens(start, stop)


def out_of_memory(attempt: Attempts) -> None:
    """The last worker's memory ends in the middle of the first step."""
    spec = small_spec(vocabulary=2**15, sequence_length=64, train_tokens=64 * 64, batch_sequences=64)
    text = Narrowing if attempt.rank == attempt.world - 1 else Text
    try:
        train(
            spec,
            text(spec),
            attempt.folder / "run",
            on_checkpoint=lambda c, m: None,
            execution=Execution(workers=attempt.world),
            rank=attempt.rank,
            threads=1,
        )
    except OutOfMemoryError as error:
        print("OUT OF MEMORY", error, flush=True)
        sys.exit(7)


if __name__ == "__main__":
    place, number, workers, what = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    globals()[what](Attempts(place, number, workers))
