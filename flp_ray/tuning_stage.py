"""The stage that comes before the grid where a study tunes: trials, their laws, and the plan made anew with them."""

from __future__ import annotations

import time

from flp_ray.distributed.context import stream_of
from flp_ray.report import print_tuning
from flp_ray.session import Session
from flp_ray.store import load_tunings, tuned_row
from flp_ray.study import StudyPlan, make_plan
from flp_ray.tune import fit_tuning


def tune_stage(session: Session, plan: StudyPlan) -> StudyPlan:
    """Tunes the hyperparameters, unless that is done or not asked for.

    Args:
        session: The call; nothing but the study file has been stored by it.
        plan: The study, with the stated hyperparameters where they are to be tuned.

    Returns:
        The plan with the values that the laws give.

    Raises:
        IncompleteError: Too many trials failed on every attempt.
        NotEnoughDataError: Too few trials gave a loss.
        TextError: A source is too short for a trial.
    """
    tuning = plan.tuning
    console = session.console
    if tuning is None or tuning.laws is not None:
        print_tuning(plan.tuning_view(session.study_dir), console)
        return plan
    with session.stage("tune: Ray"):
        session.connect()
    with session.stage("tune: text"):
        text = session.text()
        for trial in tuning.trials:
            stream_of(trial, text, plan.config.text.max_epochs)
    with session.stage("tune"):
        failures = session.tune(tuning.trials, text, tuning.config)
    for run_id, reason in failures.items():
        console.print(f"Tuning trial {run_id} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
    laws = fit_tuning(tuning.trials, load_tunings(session.study_dir), tuning.config)
    session.append("tuned", tuned_row(law_id=laws.law_id, payload=laws.to_dict(), created=time.time()))
    tuned = make_plan(plan.config, session.study_dir)
    print_tuning(tuned.tuning_view(session.study_dir), console)
    return tuned
