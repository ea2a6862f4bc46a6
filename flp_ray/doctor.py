"""Checks of a machine: would a study run here, and if not, what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = (
    "torch",
    "deepspeed",
    "ray",
    "transformers",
    "lm_eval",
    "datasets",
    "numpy",
    "scipy",
    "optuna",
    "pyarrow",
    "deltalake",
    "pydantic",
)
"""Packages whose versions a report names."""

LEAST_DISK_BYTES = 2e9
LEAST_MEMORY_BYTES = 4e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check.

    Attributes:
        check: What was looked at.
        ok: Whether a study can run.
        found: What was seen.
        advice: What to do where it is not ok; empty otherwise.
    """

    check: str
    ok: bool
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self)


def versions() -> dict[str, str]:
    """Versions of Python, of flp_ray and of the packages that the numbers depend on; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in ("flp-ray", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def examine() -> list[Finding]:
    """Looks at Python, packages, cores, memory, disk, GPUs and Ray (about 15 seconds)."""
    checks = (_python, _packages, _cores, _memory, _disk, _accelerator, _sandbox, _ray)
    return [check() for check in checks]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding(
        check="Python",
        ok=ok,
        found=platform.python_version(),
        advice="" if ok else "Use Python 3.11 or newer.",
    )


def _packages() -> Finding:
    missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
    have = ", ".join(f"{name} {version}" for name, version in versions().items() if name != "python")
    return Finding(
        check="packages",
        ok=not missing,
        found=have,
        advice=f"Missing: {', '.join(missing)}. Run pip install -e ." if missing else "",
    )


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding(check="CPU cores", ok=True, found=f"{cores}, so {cores} run(s) of one core at once")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    ok = total >= LEAST_MEMORY_BYTES
    advice = "" if ok else f"A study needs about {LEAST_MEMORY_BYTES / 1e9:.0f} GB."
    return Finding(check="memory", ok=ok, found=f"{total / 1e9:.1f} GB", advice=advice)


def _disk() -> Finding:
    here = Path.cwd()
    free, writable = shutil.disk_usage(here).free, os.access(here, os.W_OK)
    advice = "" if free >= LEAST_DISK_BYTES else f"Free {LEAST_DISK_BYTES / 1e9:.0f} GB, or set storage elsewhere."
    advice = advice if writable else "This folder is not writable; set storage or --study-dir elsewhere."
    return Finding(check="disk here", ok=not advice, found=f"{free / 1e9:.1f} GB free", advice=advice)


def _accelerator() -> Finding:
    names = sorted(p.name for p in Path("/proc/driver/nvidia/gpus").glob("*"))
    return Finding(check="GPUs", ok=True, found=f"{len(names)}" if names else "none; runs train on the CPU")


def _sandbox() -> Finding:
    from flp_ray.measure.sandbox import probe

    found = probe()
    if found.launcher is not None:
        return Finding(check="sandbox for HumanEval", ok=True, found=found.launcher)
    advice = f"Only HumanEval needs one: {found.advice()}."
    return Finding(check="sandbox for HumanEval", ok=True, found="none; HumanEval is refused", advice=advice)


def _ray() -> Finding:
    from flp_ray.distributed.cluster import connected
    from flp_ray.distributed.config import ResourcesConfig

    try:
        with connected(Path.cwd(), ResourcesConfig(), widest=1):
            return Finding(check="Ray", ok=True, found="a cluster starts and holds a run of one CPU")
    except Exception as error:  # noqa: BLE001 - whatever Ray says is the finding
        advice = "Look at /tmp/ray/session_latest/logs, and at RAY_ADDRESS if it is set."
        return Finding(check="Ray", ok=False, found=f"{type(error).__name__}: {error}", advice=advice)


def print_findings(findings: list[Finding], console: Console) -> None:
    """Prints the checks as a table."""
    table = Table()
    for name in ("check", "", "found", "what to do"):
        table.add_column(name)
    for finding in findings:
        table.add_row(finding.check, "ok" if finding.ok else "PROBLEM", finding.found, finding.advice)
    console.print(table)
