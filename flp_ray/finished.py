"""Commands on finished runs: `fit`, `predict` and `backtest` on a folder of tables, without a study.

A fit is kept in the user's cache folder under the hash of the records and of what was asked, so that the next
`predict` on the same records only reads it. Torch and Ray are never loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flp_ray.core.fingerprint import records_fingerprint
from flp_ray.core.run import stable_hash
from flp_ray.errors import ConfigError, FlpRayError, RecordsError, StorageError

if TYPE_CHECKING:
    from flp_ray.fit.predictor.predictor import Predictor

Names = Sequence[str] | None
SHARE_TOLERANCE = 1e-3
"""How far given ratios may be from summing to 1: three decimals of a hand-written ratio."""


def fit_finished(
    path: Path, methods: Names, domains: Names, tasks: Names, out: Path | None, console: Console | None
) -> dict[str, Any]:
    """Fits methods to finished runs and shows what was chosen.

    Args:
        path: A folder of records, of a study, or of Olmix's two CSVs.
        methods: Method names; None is `auto`.
        domains: Domains to fit on; None takes all.
        tasks: Tasks to fit; None takes all.
        out: Where to keep the fit beside the cache; None keeps it in the cache alone.
        console: Where to show it; None shows nothing.

    Raises:
        InputError: The records, a name or `out` is wrong.
        NotEnoughDataError: Too few runs.
    """
    from flp_ray.fit.predictor.describe import fit_json
    from flp_ray.report import print_fit

    predictor = _predictor(path, methods, domains, tasks, console)
    if out is not None:
        _save(predictor, out)
    answer = fit_json(predictor, str(path)) | {"fit": None if out is None else str(out)}
    if console:
        print_fit(answer, console)
    return answer


def predict_finished(
    path: Path,
    params: float,
    tokens: float,
    ratios: Sequence[str],
    method: str,
    domains: Names,
    tasks: Names,
    console: Console | None,
) -> dict[str, Any]:
    """Predicts one training that was never run.

    Args:
        path: Records as for `fit_finished`, or a fit that it saved.
        params: All parameters of the model in question.
        tokens: Its training tokens.
        ratios: `source=ratio` each; sources that are left out have none of the text.
        method: A method's name.
        domains: Domains to fit on; None takes all.
        tasks: Tasks to fit; None takes all.
        console: Where to show it; None shows nothing.

    Raises:
        InputError: Something that was given is wrong.
        NotEnoughDataError: Too few runs.
    """
    import numpy as np

    from flp_ray.fit.predictor.describe import prediction_json
    from flp_ray.fit.predictor.runs import Queries
    from flp_ray.report import print_prediction

    for name, value in (("params", params), ("tokens", tokens)):
        if not value >= 1:
            raise ConfigError(f"--{name} must be a number of at least 1, received {value:g}.")
    if path.is_file():
        predictor = _load(path)
        _check_saved(predictor, path, domains, tasks)
    else:
        predictor = _predictor(path, (method,), domains, tasks, console)
    flops = predictor.flops(params, tokens)
    mixture = _mixture(ratios, predictor.sources)
    query = Queries(
        params=np.array([params]), tokens=np.array([tokens]), flops=np.array([flops]), ratios=np.array([mixture])
    )
    answer = prediction_json(predictor, method, query)
    if console:
        print_prediction(answer, console)
    return answer


def backtest_finished(
    path: Path, methods: Names, domains: Names, tasks: Names, out: Path | None, console: Console | None
) -> dict[str, Any]:
    """Fits on the sampling runs, predicts the targets and compares.

    Args:
        path: Records as for `fit_finished`.
        methods: Method names; None takes the paper's and `auto`.
        domains: Domains to fit on; None takes all.
        tasks: Tasks to fit; None takes all.
        out: Folder for the HTML report and its figures; None writes none.
        console: Where to show the tables; None shows nothing.

    Raises:
        InputError: The records or a name is wrong.
        NotEnoughDataError: Too few runs.
    """
    from flp_ray.core.backtest_json import backtest_json
    from flp_ray.fit.predictor.backtest import DEFAULT_METHODS, check_methods, run_backtest
    from flp_ray.fit.predictor.question import question_of
    from flp_ray.store import read_finished

    chosen = check_methods(methods or DEFAULT_METHODS)
    question = question_of(read_finished(path), domains, tasks)
    with _working(console, f"fitting {', '.join(chosen)} to {len(question.fitted.run_ids)} runs"):
        backtest = run_backtest(question, chosen, source=str(path))
    answer = backtest_json(backtest)
    if console:
        from flp_ray.report import print_backtest

        print_backtest(backtest, console)
    if out is not None:
        from flp_ray.report import write_backtest

        answer["report"] = str(write_backtest(out, backtest))
        if console:
            console.print(f"Report: {answer['report']}", highlight=False, soft_wrap=True)
    return answer


def _predictor(path: Path, methods: Names, domains: Names, tasks: Names, console: Console | None) -> Predictor:
    """The fit of these records from the cache, or made and put there."""
    from flp_ray.fit.predictor.snapshot_form import FORM

    names = tuple(methods or ("auto",))
    asked = [FORM, records_fingerprint(path), names, list(domains or []), list(tasks or [])]
    cached = _cache() / f"{stable_hash(asked, length=24)}.json"
    if cached.exists():
        try:
            return _load(cached)
        except (FlpRayError, ValueError, KeyError):
            cached.unlink(missing_ok=True)  # of another version, or cut off: it is made anew
    from flp_ray.fit.predictor.backtest import check_methods
    from flp_ray.fit.predictor.predictor import fit_predictor
    from flp_ray.fit.predictor.question import sampling_table
    from flp_ray.store import read_finished

    names = check_methods(names)
    table = sampling_table(read_finished(path), domains, tasks)
    with _working(console, f"fitting {', '.join(names)} to {len(table.run_ids)} runs"):
        predictor = fit_predictor(table, names)
    try:
        _save(predictor, cached)
    except StorageError as error:
        if console:
            console.print(f"Note: the fit was not kept for the next call: {error}", highlight=False, soft_wrap=True)
    return predictor


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flp_ray" / "fits"


def _save(predictor: Predictor, path: Path) -> None:
    from flp_ray.fit.predictor.snapshot import predictor_to_json

    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(predictor_to_json(predictor), allow_nan=True), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(
            f"The fit could not be written to {path}: {error.strerror}. Give another path, or free space."
        ) from error


def _load(path: Path) -> Predictor:
    from flp_ray.fit.predictor.snapshot import predictor_from_json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RecordsError(
            f"{path} is neither a folder of records nor a saved fit ({error}). Give the folder, or a fit made "
            f"with: flp-ray fit RECORDS --out FIT.json"
        ) from error
    return predictor_from_json(value, str(path))


def _check_saved(predictor: Predictor, path: Path, domains: Names, tasks: Names) -> None:
    for option, given, has in (
        ("--domains", domains, predictor.domains),
        ("--tasks", tasks, tuple(t.task for t in predictor.tasks)),
    ):
        if given is not None and tuple(given) != has:
            raise ConfigError(
                f"{option} cannot change a saved fit: {path} was made with {', '.join(has) or 'none'}. "
                f"Leave the option out, or fit the records again with it."
            )


def _mixture(ratios: Sequence[str], sources: tuple[str, ...]) -> list[float]:
    given: dict[str, float] = {}
    for text in ratios:
        name, equals, number = text.partition("=")
        try:
            given[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--ratio takes SOURCE=NUMBER, such as {sources[0]}=0.5, received {text!r}.")
    if len(sources) == 1 and not given:
        return [1.0]
    known = ", ".join(sources)
    if not given:
        raise ConfigError(f"The runs mix {len(sources)} sources. Give a --ratio for those that are used: {known}.")
    for name, ratio in given.items():
        if name not in sources:
            raise ConfigError(f"The runs have no source {name!r}. Known: {known}.")
        if not 0 <= ratio <= 1:
            raise ConfigError(f"--ratio {name}={ratio:g} is outside 0 to 1.")
    total = sum(given.values())
    if abs(total - 1) > SHARE_TOLERANCE:
        raise ConfigError(f"The ratios must sum to 1, received {', '.join(ratios)} (sum {total:.6g}). Known: {known}.")
    return [given.get(s, 0.0) / total for s in sources]


def _working(console: Console | None, text: str) -> Any:
    return (console or Console(stderr=True, quiet=True)).status(text)
