"""The study file: every mistake is named, with the nearest known key."""

from pathlib import Path

import pytest
import yaml

from flp_ray.config import StudyConfig, load_config
from flp_ray.errors import ConfigError

JOBS = Path(__file__).parent.parent / "jobs"
SMOKE = yaml.safe_load((JOBS / "smoke.yaml").read_text())


def write(folder: Path, value) -> Path:
    path = folder / "study.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def changed(path: str, value) -> dict:
    study = yaml.safe_load(yaml.safe_dump(SMOKE))
    *parents, last = path.split(".")
    place = study
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return study


@pytest.mark.parametrize("job", sorted(JOBS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_job_loads_and_round_trips(job, tmp_path):
    config = load_config(job)
    assert load_config(write(tmp_path, config.dump())) == config
    assert StudyConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("trainng", {}, "unknown key trainng. Did you mean training"),
        ("training.checkpoint", 5, "training.checkpoint. Did you mean checkpoints"),
        ("measure.tasks.code_syntax.item", 5, "tasks.code_syntax.item. Did you mean items"),
        ("text.domains.code.sequence", 5, "domains.code.sequence. Did you mean sequences"),
        ("ladder.shapes.16x2.layer", 5, "16x2.layer. Did you mean layers"),
        ("fit", {"member": 3}, "fit.member. Did you mean members"),
        ("text.sources.code", {}, "exactly one of builtin, files, hub"),
        ("text.sources.code", {"builtin": "coed"}, "received 'coed'"),
        ("text.domains.code", {"held_out": "cod"}, "held out of 'cod', which is no source"),
        ("training.checkpoints", 0, "greater than or equal to 1"),
        ("measure.tasks.code_syntax.domain", "cod", "Did you mean code"),
        ("search.objectives", ["code_syntx"], "Did you mean code_syntax"),
        ("search.max_ratios", {"cod": 0.5}, "Did you mean code"),
        ("validation.seeds", [0], "needs another seed"),
        ("measure.tasks.x", {"lm_eval": "hellaswag"}, "needs random_performance"),
        ("study", "../up", "study"),
    ],
)
def test_mistakes_are_named(path, value, words, tmp_path):
    study = changed(path, value)
    if path == "training.checkpoint":
        del study["training"]["checkpoints"]
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, study))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1", "not valid YAML"), ("- 1", "must hold a mapping"), ("study: a\nstudy: b", "given twice"), ("", "a map")],
)
def test_files_that_are_no_study(text, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothere\.yaml"):
        load_config(tmp_path / "nothere.yaml")


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    text = yaml.safe_dump(SMOKE) + "budget: {flops: 1e15}\n"
    assert load_config(write(tmp_path, text)).budget.flops == 1e15


def test_one_set_of_weights_serves_fit_comparison_and_report(tmp_path):
    assert load_config(write(tmp_path, SMOKE)).task_weights() == {"code_syntax": 1.0, "word_order": 1.0}
    given = changed("fit", {"weights": {"word_order": 3.0}})
    assert load_config(write(tmp_path, given)).task_weights() == {"word_order": 3.0}
