"""The paper's six benchmarks and MMLU, offline, from local copies in the hub sets' own schemas."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.errors import TaskError
from flp_ray.measure import Measurer, check_tasks
from flp_ray.measure.config import MeasureConfig
from flp_ray.measure.lookup import data_sets, files_of, list_what_is_there, manager_for
from flp_ray.measure.tasks import load_foreign_task
from tests.toy_hub.server import serve
from tests.toy_hub.tasks import HUMANEVAL, humaneval_rows, write_tasks

TABLE_2 = {
    "arc_challenge": {"metric": "acc", "shots": 10, "random_performance": 0.25},
    "bbh_cot_fewshot": {"metric": "exact_match", "shots": 3, "random_performance": 0},
    "hellaswag": {"metric": "acc", "shots": 10, "random_performance": 0.25},
    "humaneval": {"metric": "pass@100", "shots": 0, "random_performance": 0},
    "race": {"metric": "acc", "shots": 0, "random_performance": 0.25},
    "triviaqa": {"metric": "exact_match", "shots": 0, "random_performance": 0},
    "mmlu": {"metric": "acc", "shots": 5, "random_performance": 0.25},
}
ITEMS = {"arc_challenge": 12, "bbh_cot_fewshot": 54, "hellaswag": 12, "race": 6, "triviaqa": 8, "mmlu": 171}


def study(*names: str, **changes) -> MeasureConfig:
    tasks = {n: {"lm_eval": n, "items": 100_000} | TABLE_2[n] | changes for n in names or TABLE_2}
    return MeasureConfig.model_validate({"tasks": tasks})


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("hub"))


@pytest.fixture(autouse=True)
def offline(hub, monkeypatch):
    import datasets

    monkeypatch.setenv(HUB_VARIABLE, str(hub))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def longer(spec, model, length):
    """A model that holds examples before a question, or a program; its weights are those of the fixture's."""
    config = type(model.config)(**{**model.config.to_dict(), "max_position_embeddings": length})
    made = type(model)(config)
    made.load_state_dict(model.state_dict())
    return dataclasses.replace(spec, sequence_length=length), made.eval()


@pytest.fixture
def long(spec, model):
    return longer(spec, model, 512)


@pytest.fixture
def brief(spec, model):
    return longer(spec, model, 128)


def measured(measurer, spec, model, **options):
    rows = measurer.measure(model, spec, tokens=512, train_loss=2.5, final=True, **options)
    return {(m.kind, m.name): m for m in rows}


def test_data_sets_and_definitions_are_found_without_the_whole_index(monkeypatch):
    from lm_eval.tasks import TaskManager

    def whole(self, *_, include_defaults=True, **__):
        assert not include_defaults, "read all of lm-eval's task files"

    monkeypatch.setattr(TaskManager, "__init__", _first(whole, TaskManager.__init__))
    found = data_sets(study())
    assert {name: len(configurations) for name, configurations in found.items()} == {
        "allenai/ai2_arc": 1,
        "SaylorTwift/bbh": 27,
        "Rowan/hellaswag": 1,
        "openai/openai_humaneval": 1,
        "EleutherAI/race": 1,
        "mandarjoshi/trivia_qa": 1,
        "cais/mmlu": 57,
    }
    assert found["mandarjoshi/trivia_qa"] == {"rc.nocontext"} and found["Rowan/hellaswag"] == {None}


def _first(before, then):
    def both(*arguments, **options):
        before(*arguments, **options)
        return then(*arguments, **options)

    return both


def test_prompts_are_those_of_table_2(hub, folder):
    """Examples before a question, and whose: BBH's are written in its files, ARC's are drawn from its training set."""
    arc = load_foreign_task("arc", study("arc_challenge").tasks["arc_challenge"], folder)
    prompt = arc.leaves["arc_challenge"].instances[0].args[0]
    assert prompt.count("Question: ") == 11 and prompt.endswith("\nAnswer:")
    race = load_foreign_task("race", study("race").tasks["race"], folder)
    assert race.leaves["race"].instances[0].args[0].startswith("Article: ")
    trivia = load_foreign_task("trivia", study("triviaqa").tasks["triviaqa"], folder)
    assert trivia.leaves["triviaqa"].instances[0].args[0].count("Question: ") == 1
    human = load_foreign_task("human", study("humaneval").tasks["humaneval"], folder)
    [request, *_] = human.leaves["humaneval"].instances
    assert request.args[0] == humaneval_rows()[0]["prompt"] and request.repeats == 100
    assert request.args[1]["temperature"] == 0.8 and "\ndef" in request.args[1]["until"]
    assert human.version.startswith("humaneval 2, 0 shots, temperature 0.8, top_p 0.95, 100 samples, Python 3.")


@pytest.mark.slow
def test_all_seven_end_to_end(text, folder, long):
    spec, model = long
    measurer = Measurer(study(), text, folder)
    found = measured(measurer, spec, model)
    print({name: round(seconds, 1) for name, seconds in measurer.work.seconds_by_part.items()})
    for name, items in ITEMS.items():
        assert found["performance", name].items == items and 0 <= found["performance", name].value <= 1
    assert found["performance", "humaneval"].value == 0 and found["performance", "humaneval"].items == len(HUMANEVAL)
    assert {name for kind, name in found if kind == "bpb"} == {"arc_challenge", "hellaswag", "race", "mmlu"}
    versions = measurer.task_versions()
    assert set(versions) == set(TABLE_2)
    assert versions["bbh_cot_fewshot"].startswith("bbh_cot_fewshot 3.0 of 4.0, 3 shots, lm-eval 0.4.")
    assert versions["arc_challenge"].startswith("arc_challenge 1.0, 10 shots, lm-eval")


def test_pass_at_100_of_a_model_that_sometimes_knows(text, folder, brief, monkeypatch):
    """100 programs a problem from a model's samples; the sandbox finds the right ones, and pass@k follows by hand."""
    from flp_ray.measure.generation import Generator

    spec, model = brief
    measurer = Measurer(study("humaneval"), text, folder)
    honest = measured(measurer, spec, model)
    assert honest["performance", "humaneval"].value == 0 and measurer.work.seconds < 120
    generate, solutions = Generator.generate, {r["prompt"]: r["canonical_solution"] for r in humaneval_rows()}
    right = dict(zip(solutions, (1, 0, 30), strict=True))

    def sometimes(self, module, contexts, *arguments, **options):
        texts = generate(self, module, contexts, *arguments, **options)
        seen: dict[str, int] = {}
        for k, context in enumerate(contexts):
            seen[context] = seen.get(context, 0) + 1
            if seen[context] <= right[context]:
                texts[k] = solutions[context]
        return texts

    monkeypatch.setattr(Generator, "generate", sometimes)
    for metric, expected in (
        ("pass@100", 2 / 3),
        ("pass@10", (0.1 + 0 + 1 - math.comb(70, 10) / math.comb(100, 10)) / 3),
    ):
        wanted = Measurer(study("humaneval", metric=metric, samples=100), text, folder)
        assert measured(wanted, spec, model)["performance", "humaneval"].value == pytest.approx(expected)


def test_samples_follow_run_checkpoint_and_task(text, folder, brief):
    """The same checkpoint gives the same programs again; another one, or another run, gives others."""
    spec, model = brief
    config = study("humaneval", metric="pass@1", samples=3)
    measurer = Measurer(config, text, folder)
    asked = []
    for run, tokens in ((spec, 512), (spec, 512), (spec, 1024), (dataclasses.replace(spec, seed=7), 512)):
        measurer.measure(model, run, tokens=tokens, train_loss=1.0, final=True)
        task = measurer._tasks["humaneval"].leaves["humaneval"]
        asked.append([text for request in task.instances for text in request.resps])
    assert asked[0] == asked[1] and asked[0] != asked[2] != asked[3] != asked[0]
    assert len(set(asked[0])) > 1


def test_a_saved_model_measures_as_the_living_one(text, folder, long, tmp_path, capfd):
    spec, model = long
    measurer = Measurer(study("arc_challenge", "triviaqa"), text, folder)
    living = measured(measurer, spec, model)
    model.save_pretrained(tmp_path / "saved")
    threads = torch.get_num_threads()
    capfd.readouterr()
    rows = measurer.measure_folder(tmp_path / "saved", spec, tokens=512, train_loss=2.5, final=True)
    assert capfd.readouterr().err == ""
    assert {(m.kind, m.name): m for m in rows} == living and torch.get_num_threads() == threads


def test_what_is_missing_is_said(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(HUB_VARIABLE, str(tmp_path))
    with pytest.raises(TaskError, match=r"data of lm-eval task 'humaneval' .* `flp-ray data fetch`.*FLP_RAY_HUB"):
        check_tasks(study("humaneval"), None)
    with pytest.raises(TaskError, match=r"vLLM, which is not installed here; run `pip install"):
        check_tasks(study("race").model_copy(update={"generation": "vllm"}), None)
    monkeypatch.setattr("flp_ray.measure.checks.probe", lambda: NO_SANDBOX)
    with pytest.raises(TaskError, match=r"Task humaneval runs generated programs, but no sandbox .*bwrap: why"):
        check_tasks(study("humaneval"), None)


class NO_SANDBOX:  # noqa: N801 - stands for a value
    launcher = None

    @staticmethod
    def advice() -> str:
        return "no sandbox can be made on this machine (bwrap: why)"


def test_a_copy_of_some_configurations_loads(hub, tmp_path, monkeypatch, folder):
    """What is fetched are the files of what tasks name; `datasets` then finds them though the first one is missing."""
    assert files_of(hub / "mandarjoshi/trivia_qa", {"rc.nocontext"}) == [
        f"rc.nocontext/{split}-*.parquet" for split in ("test", "train", "validation")
    ]
    assert files_of(hub / "Rowan/hellaswag", {None}) == files_of(hub / "Rowan/hellaswag", {"default"})
    assert files_of(hub / "Rowan/hellaswag", {"unlisted"}) is None and files_of(tmp_path, {None}) is None
    place = tmp_path / "mandarjoshi/trivia_qa"
    for file in ("README.md", *(f"rc.nocontext/{s}-00000-of-00001.parquet" for s in ("train", "validation", "test"))):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes((hub / "mandarjoshi/trivia_qa" / file).read_bytes())
    monkeypatch.setenv(HUB_VARIABLE, str(tmp_path))
    task = study("triviaqa").tasks["triviaqa"]
    with pytest.raises(TaskError, match="could not be loaded"):
        load_foreign_task("t", task, folder)
    list_what_is_there(place)
    assert len(load_foreign_task("t", task, folder).leaves["triviaqa"].instances) == 8
    assert (place / "README.md").read_text().endswith("---\n# Toy copy\n")


@pytest.mark.slow
def test_a_tasks_own_folder_and_the_whole_index_agree():
    """The short way to a task's definition finds the file that lm-eval's own index finds."""
    from lm_eval.tasks import TaskManager

    whole = TaskManager().task_index
    for name, task in study().tasks.items():
        if not task.is_code:
            index = manager_for(name, task, None).task_index
            assert len(index) < 1000 and index[name].yaml_path == whole[name].yaml_path


def test_settings_that_contradict_each_other():
    for change, said in (
        ({"samples": 20}, r"pass@100 needs at least 100 samples a problem, received 20"),
        ({"metric": "acc"}, r"has the metrics pass@1, pass@10, pass@100, received 'acc'"),
        ({"shots": 3}, r"set shots to 0, received 3"),
        ({"temperature": 0}, r"greater than 0"),
    ):
        with pytest.raises(ValueError, match=said):
            study("humaneval", **change)
    with pytest.raises(ValueError, match="samples and temperature belong to humaneval"):
        study("race", samples=3)


def test_generation_that_we_do_not_do_is_refused(text, tmp_path):
    (tmp_path / "beams.yaml").write_text(
        f"""task: beams
dataset_path: json
dataset_kwargs: {{data_files: {{test: {text.items["mixed"]}}}, cache_dir: {tmp_path}/cache}}
output_type: generate_until
test_split: test
doc_to_text: question
doc_to_target: "{{{{choices[1]}}}}"
generation_kwargs: {{until: ["\\n"], num_beams: 4, repetition_penalty: 2}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
    )
    task = {"lm_eval": "beams", "lm_eval_path": str(tmp_path), "random_performance": 0}
    config = MeasureConfig.model_validate({"tasks": {"beams": task}})
    with pytest.raises(TaskError, match="to be generated with repetition_penalty, num_beams"):
        check_tasks(config, None)


def tables_sent(requests: list[str]) -> list[str]:
    """The Parquet files whose content was asked for, as data set and path."""
    found = (re.fullmatch(r"GET /datasets/(.+)/resolve/[^/]+/(.+\.parquet)", line) for line in requests)
    return [f"{asked[1]}/{asked[2]}" for asked in found if asked]


@pytest.mark.slow
def test_fetching_copies_what_tasks_name_and_goes_on_where_it_stopped(hub, tmp_path):
    """From a server that speaks as the hub does; a second fetch transfers no data file again."""
    code = """
import json, sys, warnings
from pathlib import Path
from flp_ray.measure import fetch_tasks
from flp_ray.measure.config import MeasureConfig
config = MeasureConfig.model_validate(json.loads(sys.argv[1]))
places = fetch_tasks(config, Path(sys.argv[2]), lambda line: print("SAID", line))
print("PLACES", *places)
"""
    target = tmp_path / "copies"
    arguments = [sys.executable, "-c", code, study("triviaqa", "humaneval").model_dump_json(), str(target)]
    environment = {k: v for k, v in os.environ.items() if k not in (HUB_VARIABLE, "HF_HUB_OFFLINE")}
    with serve(hub) as (address, requests):
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        first = subprocess.run(arguments, capture_output=True, text=True, env=environment)
        assert first.returncode == 0, first.stderr
        assert "SAID mandarjoshi/trivia_qa" in first.stdout
        data = tables_sent(requests)
        assert sorted(data) == [
            f"mandarjoshi/trivia_qa/rc.nocontext/{s}-00000-of-00001.parquet" for s in ("test", "train", "validation")
        ] + ["openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet"]
        (target / data[0]).unlink()
        requests.clear()
        again = subprocess.run(arguments, capture_output=True, text=True, env=environment)
        assert again.returncode == 0 and tables_sent(requests) == [data[0]]
    for name in data:
        assert (target / name).read_bytes() == (hub / name).read_bytes()
    gone = subprocess.run(arguments, capture_output=True, text=True, env=environment | {"HF_HUB_OFFLINE": "1"})
    assert gone.returncode == 1 and "TaskError: The data set mandarjoshi/trivia_qa could not be fetched" in gone.stderr
    refused = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert refused.returncode == 1 and "Run the command again where the hub can be reached" in refused.stderr
