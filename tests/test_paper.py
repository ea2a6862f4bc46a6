"""The paper's two studies: their plans, and the same files end to end at toy size on local copies of the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flp_ray.cli import main
from flp_ray.core.accelerator import ACCELERATORS
from flp_ray.data.tokenizer import save_trained
from flp_ray.plan import PAPER_LADDER
from flp_ray.plan.memory import USABLE
from flp_ray.store import load_records, load_tasks, run_states
from tests.store.object_store import credentials
from tests.toy_hub.archive import software_heritage
from tests.toy_hub.tasks import write_tasks
from tests.toy_hub.texts import write_texts

ROOT = Path(__file__).parent.parent
JOBS = ROOT / "jobs"
TABLE_2 = {
    "arc_challenge": (10, "acc", 0.25),
    "bbh": (3, "exact_match", 0.0),
    "hellaswag": (10, "acc", 0.25),
    "humaneval": (0, "pass@100", 0.0),
    "race": (0, "acc", 0.25),
    "triviaqa": (0, "exact_match", 0.0),
}
"""Shots, metric and random performance of Table 2."""

TABLE_1 = {
    "43M": "3.70504E+17",
    "64M": "1.18417E+18",
    "89M": "3.03607E+18",
    "0.12B": "6.81931E+18",
    "0.15B": "1.39581E+19",
    "0.2B": "2.63435E+19",
    "0.25B": "4.71817E+19",
    "0.32B": "8.01571E+19",
    "0.5B": "2.05963E+20",
    "0.72B": "4.70331E+20",
    "1B": "9.75926E+20",
    "3B": "9.63212E+21",
    "7B": "5.09208E+22",
    "13B": "9.89592E+22",
}

SIZES = {
    "a": {"layers": 1, "hidden": 16, "heads": 2, "ffn": 32, "train_tokens": 8192},
    "b": {"layers": 1, "hidden": 24, "heads": 2, "ffn": 48, "train_tokens": 12_288},
    "c": {"layers": 2, "hidden": 24, "heads": 2, "ffn": 48, "train_tokens": 16_384},
}


@pytest.fixture(params=["paper-flp", "paper-flpm"])
def job(request) -> str:
    return str(request.param)


def test_the_plan_has_the_flops_of_table_1_and_says_what_it_takes(job, capsys, tmp_path):
    assert main(["plan", str(JOBS / f"{job}.yaml"), "--json", "--study-dir", str(tmp_path / "s")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {run["size"]: f"{run['flops']:.5E}" for run in plan["runs"]}.items() <= TABLE_1.items()
    batches = {rung.size: rung.batch_sequences for rung in PAPER_LADDER}
    totals = plan["totals"]
    for size, how in totals["sizes"].items():
        assert how["memory_bytes"] <= USABLE * ACCELERATORS["H100"].memory_bytes
        assert how["workers"] * how["micro_batch_sequences"] * how["accumulation"] >= batches[size]
        assert how["device_hours_per_run"] / how["workers"] <= 240
        assert how["zero_stage"] >= 1
    assert totals["evaluator_device_hours"] == pytest.approx(8 * totals["wall_hours"])
    assert totals["dollars"] == pytest.approx(totals["device_hours"] * totals["price"])
    assert set(totals["source_tokens"]) == set(totals["epochs"])
    assert all(0 < epochs <= 2 for epochs in totals["epochs"].values())


def test_the_benchmarks_are_those_of_table_2(job):
    tasks = yaml.safe_load((JOBS / f"{job}.yaml").read_text())["measure"]["tasks"]
    found = {name: (t.get("shots", 0), t["metric"], t["random_performance"]) for name, t in tasks.items()}
    assert found == TABLE_2 | {"mmlu": (5, "acc", 0.25)}
    assert tasks["humaneval"]["samples"] == 100
    assert tasks["mmlu"]["weight"] == 0


def test_the_one_mixture_is_the_sources_as_they_are():
    """Shares of the tokens that are left without Books, to three digits; commoncrawl has the rest."""
    study = yaml.safe_load((JOBS / "paper-flp.yaml").read_text())
    tokens = {name: source["tokens"] for name, source in study["text"]["sources"].items()}
    assert sum(tokens.values()) == 1_184_000_000_000 and not any("book" in name for name in tokens)
    natural = {name: round(count / sum(tokens.values()), 3) for name, count in tokens.items() if name != "commoncrawl"}
    given = [*study["grid"]["mixtures"], *(m for target in study["grid"]["targets"] for m in target["mixtures"])]
    assert given == [natural] * 3


@pytest.mark.ray
@pytest.mark.deepspeed
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_file_runs_at_toy_size_on_local_copies_of_the_hub(job, tmp_path):
    hub = tmp_path / "hub"
    blobs = write_texts(hub, documents=400)
    write_tasks(hub)
    general = json.dumps(sorted(blobs))  # any text will do for a tokenizer
    save_trained([general, (ROOT / "README.md").read_text()], 512, hub / "EleutherAI" / "gpt-neox-20b")
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(toy(yaml.safe_load((JOBS / f"{job}.yaml").read_text()))))
    command = [sys.executable, "-m", "flp_ray", "run", study, "--study-dir", tmp_path / "s"]
    with software_heritage(blobs if job == "paper-flpm" else {}) as (endpoint, _):
        environment = os.environ | credentials(endpoint)
        environment |= {"FLP_RAY_HUB": str(hub), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    assert done.returncode in (0, 3), done.stdout[-6000:]  # 3: models of this size emerge at nothing
    assert {run.state for run in run_states(tmp_path / "s")} == {"finished"}, done.stdout[-6000:]
    finals = load_records(tmp_path / "s").final_checkpoints()
    assert finals
    for final in finals:
        assert set(final.domain_loss) == {"code", "science", "wikipedia", "general", "math"}
        assert set(final.performance) == {*TABLE_2, "mmlu"} - ({"bbh", "mmlu"} if job == "paper-flp" else set())
    assert all(task.version for task in load_tasks(tmp_path / "s"))


def toy(value: dict) -> dict:
    """The study with everything but its kinds made small."""
    value["text"] |= {"sequence_length": 256, "held_out_fraction": 0.2, "max_epochs": 50}
    value["text"]["tokenizer"]["vocabulary"] = 512
    for source in value["text"]["sources"].values():
        del source["tokens"]
    for domain in value["text"]["domains"].values():
        domain["sequences"] = 4
    value["ladder"] = {
        "shapes": {s: shape | {"batch_sequences": 8, "learning_rate": 0.01} for s, shape in SIZES.items()}
    }
    grid = value["grid"]
    if "ratios" in grid:
        grid["ratios"]["code"] = [0, 0.5]
        grid["extra"][0]["size"] = "c"
        value["ladder"]["sizes"] = ["a", "b"]
        value["search"]["target_size"] = "b"
        grid["targets"] = [{"size": "c", "mixtures": [{"code": 0.5}]}]
    else:
        value["ladder"]["sizes"] = ["a", "b"]
        grid["targets"] = grid["targets"][:1]
        grid["targets"][0]["size"] = "c"
    value["training"] |= {"checkpoints": 2}
    value["resources"] = {"max_concurrent_runs": 1}  # one process loads the tasks once
    value["validation"] = {"enabled": False}
    if value["study"] == "paper-flp":  # its tasks are the other study's; those of many parts take long to load
        for name in ("bbh", "mmlu"):
            del value["measure"]["tasks"][name]
    for name, task in value["measure"]["tasks"].items():
        task["items"] = {"humaneval": 2, "bbh": 27, "mmlu": 57}.get(name, 4)
    value["measure"]["tasks"]["humaneval"] |= {"metric": "pass@4", "samples": 4}
    return value
