"""The command line: one subcommand a stage, plus `run`, which is all of them.

Exit codes: 0 done, 1 failed, 2 the input is wrong, 3 done in part, 130 interrupted with everything saved.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from flp_ray.errors import ConfigError, FlpRayError, StorageError

INTERRUPTED = 130

UNUSABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG}
"""System errors that mean that a folder cannot be used, which is for a person to mend."""

FILE_WIDTH = 120
"""Columns of tables that go to a file or a pipe."""


RECORDS = "a folder of finished runs: the import form, a study's folder, or Olmix's two CSVs"


def parser() -> argparse.ArgumentParser:
    """The frozen command line; a golden test lists it."""
    top = argparse.ArgumentParser(prog="flp-ray", description="Search for a training mixture with FLP-M scaling laws.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, *, study: bool = True, as_json: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if study:
            sub.add_argument("study", type=Path, metavar="STUDY", help="the study file (YAML)")
            sub.add_argument(
                "--study-dir", metavar="DIR", help="the study's folder or URI; default: storage/study of the file"
            )
        if as_json:
            sub.add_argument("--json", action="store_true", help="print JSON on standard output")
        return sub

    command("plan", "Show runs, tokens, FLOPs, time and disk; start nothing.", as_json=True)
    command("run", "Plan, train, measure, fit, propose, validate and report; go on where an earlier call stopped.")
    data = commands.add_parser("data", help="Fetch a study's text and tasks, or prepare its text, beforehand.")
    steps = data.add_subparsers(dest="step", required=True, metavar="STEP")
    fetch = steps.add_parser("fetch", help="Copy what the study takes from the Hugging Face hub to a folder.")
    fetch.add_argument("study", type=Path, metavar="STUDY", help="the study file (YAML)")
    fetch.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder; name it in FLP_RAY_HUB later"
    )
    prepare = steps.add_parser("prepare", help="Make token blocks of the study's text, on all nodes of the cluster.")
    prepare.add_argument("study", type=Path, metavar="STUDY", help="the study file (YAML)")
    prepare.add_argument("--study-dir", metavar="DIR", help="the study's folder or URI; default: as for run")
    command("status", "Show how far a study is.", as_json=True)
    fit = command("fit", "Fit the laws to a study's records, or to a folder of finished runs.", as_json=True)
    _records_options(fit)
    fit.add_argument("--out", type=Path, metavar="FILE", help="keep the fit of finished runs in this file (JSON)")
    predict = command("predict", "Predict a training from finished runs.", study=False, as_json=True)
    predict.add_argument("records", type=Path, metavar="RECORDS", help=f"{RECORDS}, or a fit that `fit --out` kept")
    predict.add_argument("--params", type=float, required=True, metavar="N", help="all parameters of the model")
    predict.add_argument("--tokens", type=float, required=True, metavar="D", help="its training tokens")
    predict.add_argument("--ratio", action="append", default=[], metavar="SOURCE=R", help="mixing ratio, 0 to 1")
    _records_options(predict, many=False)
    backtest = command("backtest", "Predict runs that the fit has not seen, and compare.", study=False, as_json=True)
    backtest.add_argument("records", type=Path, metavar="RECORDS", help=RECORDS)
    _records_options(backtest)
    backtest.add_argument("--out", type=Path, metavar="DIR", help="write an HTML report and its figures there")
    command("propose", "Search the fitted surrogate for the mixtures worth training.", as_json=True)
    power = command("power", "Estimate on planted worlds how well the design finds the best mixture.", as_json=True)
    power.add_argument("--draws", type=int, default=20, metavar="N", help="planted worlds to draw (default: 20)")
    command("report", "Write the HTML report from what is recorded.", as_json=True)
    export = command("export", "Write the study's records as CSV or Parquet tables.", as_json=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="form of the tables (default: csv)")
    command("doctor", "Check this machine: packages, cores, memory, disk, Ray.", study=False, as_json=True)
    return top


def _records_options(sub: argparse.ArgumentParser, *, many: bool = True) -> None:
    names = "fp gpt4 flops llama3 flp flp-m m1 m2 m3 m4 average domain-linear floor floor-bpb ... auto"
    if many:
        sub.add_argument("--method", action="append", metavar="M", help=f"may be given again; {names}")
    else:
        sub.add_argument("--method", default="auto", metavar="M", help=f"default: auto; {names}")
    sub.add_argument("--domains", type=_names, metavar="A,B", help="validation domains; default: all")
    sub.add_argument("--tasks", type=_names, metavar="A,B", help="tasks; default: all")


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name; default: sys.argv.

    Returns:
        The exit code.
    """
    given = parser().parse_args(arguments)
    # Fits must give the same bits in every process; one thread also leaves the cores to the trainings.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if given.command in ("run", "data"):
        # `ray job stop` and batch systems send SIGTERM; a shell's background job starts with SIGINT ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
    try:
        return _dispatch(given)
    except FlpRayError as error:
        print(f"flp-ray: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        kept = "everything measured is saved. Give the same command to go on."
        if given.command in ("power", "predict", "backtest"):
            kept = f"{given.command} keeps nothing, so there is nothing to go on from."
        print(f"flp-ray: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        print(f"flp-ray: {error}. Nothing recorded is lost; free space, or give another place.", file=sys.stderr)
        return StorageError.exit_code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _dispatch(given: argparse.Namespace) -> int:
    from rich.console import Console

    as_json = getattr(given, "json", False)
    console = Console(stderr=as_json, width=None if sys.stdout.isatty() else FILE_WIDTH)
    if given.command == "doctor":
        from flp_ray.doctor import examine, print_findings

        findings = examine()
        if as_json:
            _print_json({"findings": [f.as_dict() for f in findings]})
        else:
            print_findings(findings, console)
        return 0 if all(f.ok for f in findings) else 1

    if given.command in ("predict", "backtest") or (given.command == "fit" and given.study.is_dir()):
        return _finished_runs(given, console, as_json)
    if given.command == "fit" and any((given.method, given.domains, given.tasks, given.out)):
        raise ConfigError(
            f"--method, --domains, --tasks and --out are for folders of finished runs; {given.study} is no folder. "
            f"Give the study's folder, or leave them out."
        )
    from flp_ray.config import load_config

    config = load_config(given.study)
    if given.command == "data" and given.step == "fetch":
        from flp_ray.commands import fetch_data

        fetch_data(config, given.out, console)
        return 0
    from flp_ray.mirror import bring_study

    study_dir = bring_study(config.place(given.study_dir))
    if given.command == "run":
        from flp_ray.pipeline import run_study

        return run_study(config, study_dir, console)
    from flp_ray import commands

    shown = None if as_json else console
    if given.command == "data":
        commands.prepare_data(config, study_dir, console)
        return 0
    if given.command == "export":
        answer = commands.export_study(study_dir, given.out, given.format, shown)
    elif given.command == "power":
        answer = commands.power_study(config, study_dir, given.draws, shown)
    else:
        step = {
            "plan": commands.plan_study,
            "status": commands.study_status,
            "fit": commands.fit_study,
            "propose": commands.propose_mixtures,
            "report": commands.report_study,
        }[given.command]
        answer = step(config, study_dir, shown)
    if as_json:
        _print_json(answer)
    return 0


def _finished_runs(given: argparse.Namespace, console: Any, as_json: bool) -> int:
    from flp_ray import finished

    shown = None if as_json else console
    chosen = (given.domains, given.tasks)
    if given.command == "predict":
        answer = finished.predict_finished(
            given.records, given.params, given.tokens, given.ratio, given.method, *chosen, shown
        )
    elif given.command == "backtest":
        answer = finished.backtest_finished(given.records, given.method, *chosen, given.out, shown)
    else:
        answer = finished.fit_finished(given.study, given.method, *chosen, given.out, shown)
    if as_json:
        _print_json(answer)
    return 0


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, indent=1, allow_nan=False)
    print()


if __name__ == "__main__":
    sys.exit(main())
