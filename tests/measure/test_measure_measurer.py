"""Measurements: the numbers that a person would compute, the same in every process, with few items too."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flp_ray.errors import DivergedError, TaskError
from flp_ray.measure import Measurer, check_tasks, task_records
from flp_ray.measure.config import MeasureConfig


def measure(measurer, model, spec, *, final=True):
    return measurer.measure(model, spec, tokens=LENGTH * 16, train_loss=2.5, final=final)


LENGTH = 48


def test_all_kinds_with_their_numbers(config, text, folder, model, spec):
    measurer = Measurer(config, text, folder)
    found = {(m.kind, m.name): m for m in measure(measurer, model, spec)}
    assert set(found) == {
        ("train_loss", "train"),
        ("domain_loss", "code"),
        ("domain_loss", "other"),
        ("performance", "mixed"),
        ("bpb", "mixed"),
    }
    assert found["train_loss", "train"].value == 2.5
    assert {m.run_id for m in found.values()} == {spec.run_id}
    assert {(m.tokens, m.flops) for m in found.values()} == {(LENGTH * 16, spec.flops_at(LENGTH * 16))}
    loss = found["domain_loss", "code"]
    ids = torch.from_numpy(text.domains["code"].open().astype(np.int64))
    with torch.no_grad():
        logs = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    nats = -logs.gather(2, ids[:, 1:, None])[..., 0].double().mean(1)
    assert loss.value == pytest.approx(nats.mean().item(), rel=1e-6)
    assert loss.stderr == pytest.approx(nats.std().item() / 5, rel=1e-5) and loss.items == 25
    performance = found["performance", "mixed"]
    p = performance.value
    assert performance.items == 60 and performance.stderr == pytest.approx(math.sqrt(p * (1 - p) / 59))
    fed = 40 * (LENGTH - 1)
    assert measurer.work.scored_tokens > fed and measurer.work.computed_tokens > fed
    assert 0 < sum(measurer.work.seconds_by_part.values()) <= measurer.work.seconds


def test_bits_per_byte_by_hand(config, text, folder, model, spec):
    from transformers import AutoTokenizer

    found = {m.kind: m for m in measure(Measurer(config, text, folder), model, spec)}
    tokenizer = AutoTokenizer.from_pretrained(text.tokenizer)
    bits = []
    for line in Path(text.items["mixed"]).read_text().splitlines():
        item = json.loads(line)
        answer = " " + item["choices"][item["gold"]]
        context = tokenizer.encode(item["question"]) or [tokenizer.eos_token_id]
        whole = (context + tokenizer.encode(answer))[-(LENGTH + 1) :]
        count = len(tokenizer.encode(answer))
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([whole[:-1]])).logits[0].log_softmax(-1)
        nats = -logs[-count:].gather(1, torch.tensor(whole[-count:])[:, None]).sum().item()
        bits.append(nats / math.log(2) / len(answer.encode()))
    assert found["bpb"].value == pytest.approx(np.mean(bits), rel=1e-5)
    assert found["bpb"].stderr == pytest.approx(np.std(bits, ddof=1) / math.sqrt(60), rel=1e-4)


@pytest.mark.parametrize("shots", [0, 2])
def test_the_same_model_gives_the_same_bits(config, text, folder, model, spec, shots):
    """Again, after another model, with other random state: examples before a question are drawn once."""
    task = config.tasks["mixed"].model_copy(update={"shots": shots})
    config = config.model_copy(update={"tasks": {"mixed": task}})
    measurer = Measurer(config, text, folder)
    first = measure(measurer, model, spec)
    torch.manual_seed(9)
    other = type(model)(model.config)
    before = torch.get_rng_state()
    changed = measure(measurer, other, spec)
    assert torch.equal(before, torch.get_rng_state()) and other.training
    assert [m.value for m in changed] != [m.value for m in first]
    np.random.seed(5)
    assert measure(measurer, model, spec) == first
    assert measure(Measurer(config, text, folder.with_name("elsewhere")), model, spec) == first


def test_intermediate_checkpoints_use_the_first_items(config, text, folder, model, spec):
    """The first ten items give the same answers alone as among all: also with examples before them."""
    task = config.tasks["mixed"].model_copy(update={"shots": 2})
    some = config.model_copy(update={"tasks": {"mixed": task}, "intermediate_items": 10, "intermediate_sequences": 7})
    measurer = Measurer(some, text, folder)
    whole = measure(measurer, model, spec)
    found = {(m.kind, m.name): m for m in measure(measurer, model, spec, final=False)}
    assert found["performance", "mixed"].items == 10 and found["domain_loss", "code"].items == 7
    ten = config.model_copy(update={"tasks": {"mixed": task.model_copy(update={"items": 10})}})
    expected = {(m.kind, m.name): m for m in measure(Measurer(ten, text, folder), model, spec)}
    assert found["performance", "mixed"] == expected["performance", "mixed"]
    assert found["bpb", "mixed"].value == pytest.approx(expected["bpb", "mixed"].value, rel=1e-12)
    assert measure(measurer, model, spec) == whole


def test_a_task_of_a_folder_takes_the_same_path(text, folder, model, spec, tmp_path):
    """An lm-eval YAML of one's own over the same items gives the built-in's numbers; nothing is downloaded."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text(
        f"""task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {text.items["mixed"]}}}, cache_dir: {tmp_path}/cache}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: gold
doc_to_choice: choices
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
    )
    foreign = {"lm_eval": "mine", "lm_eval_path": str(own), "random_performance": 0.25, "items": 60}
    builtin = {"builtin": "continuation", "domain": "code", "items": 60}
    config = MeasureConfig.model_validate({"tasks": {"mixed": builtin, "theirs": foreign}})
    found = {(m.kind, m.name): m for m in measure(Measurer(config, text, folder), model, spec)}
    for kind in ("performance", "bpb"):
        a, b = found[kind, "mixed"], found[kind, "theirs"]
        assert (a.value, a.stderr, a.items) == (b.value, b.stderr, b.items)
    wrong = foreign | {"metric": "exact_match"}
    config = MeasureConfig.model_validate({"tasks": {"theirs": wrong}})
    with pytest.raises(TaskError, match=r"metric 'exact_match' is not among .* one of acc,none"):
        measure(Measurer(config, text, folder), model, spec)


def test_generated_answers_have_a_score_and_no_bits(text, folder, model, spec, tmp_path):
    (tmp_path / "echo.yaml").write_text(
        f"""task: echo
dataset_path: json
dataset_kwargs: {{data_files: {{test: {text.items["mixed"]}}}, cache_dir: {tmp_path}/cache}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{choices[0]}}}}"
doc_to_target: "{{{{choices[1]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, do_sample: true, temperature: 1.0}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
    )
    task = {"lm_eval": "echo", "lm_eval_path": str(tmp_path), "random_performance": 0, "items": 6}
    config = MeasureConfig.model_validate({"tasks": {"echo": task | {"metric": "exact_match"}}})
    measurer = Measurer(config, text, folder)
    found = measure(measurer, model, spec)
    assert {m.kind for m in found if m.name == "echo"} == {"performance"}
    assert measure(measurer, model, spec) == found


def test_a_model_of_nan_has_diverged(config, text, folder, model, spec):
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    with pytest.raises(DivergedError, match=rf"Run {spec.run_id} .*domain_loss of code is nan"):
        measure(Measurer(config, text, folder), model, spec)


@pytest.mark.slow
def test_two_processes_at_once_agree(config, text, folder, spec):
    """Both write the task file and the cache of `datasets` in one folder, offline, from nothing."""
    script = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
torch.set_num_threads(1)
from transformers import LlamaConfig, LlamaForCausalLM
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.measure import Measurer
from flp_ray.measure.config import MeasureConfig
text, config, spec, folder = (json.loads(argument) for argument in sys.argv[1:])
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=400, hidden_size=32, intermediate_size=80, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=48, initializer_range=0.3, use_cache=False))
measurer = Measurer(MeasureConfig.model_validate(config), PreparedText.from_dict(text), Path(folder))
for m in measurer.measure(model, RunSpec.from_dict(spec), tokens=48, train_loss=1.0, final=True):
    print("RECORD", m.kind, m.name, m.value.hex(), m.stderr, m.items)
"""
    arguments = [json.dumps(v) for v in (text.to_dict(), config.model_dump(), spec.to_dict(), str(folder))]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "home"),
    }
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    output = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    records = [[line for line in out.splitlines() if line.startswith("RECORD")] for out, _ in output]
    assert records[0] == records[1] and len(records[0]) == 5
    assert all("Error" not in err for _, err in output)


def test_checks_before_the_start(config, text):
    check_tasks(config, text)
    check_tasks(config, None)
    with pytest.raises(TaskError, match=r"Task other has no items .* has items for mixed"):
        check_tasks(config.model_copy(update={"tasks": {"other": config.tasks["mixed"]}}), text)
    wrong = config.tasks["mixed"].model_copy(update={"metric": "f1"})
    with pytest.raises(TaskError, match=r"have the metrics acc and acc_norm, received 'f1'"):
        check_tasks(config.model_copy(update={"tasks": {"mixed": wrong}}), text)


@pytest.mark.slow
def test_hub_tasks_without_a_network(monkeypatch):
    """Looked up among all tasks of lm-eval: an unknown name, and a known one whose data is not here."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def config(name):
        return MeasureConfig.model_validate({"tasks": {"t": {"lm_eval": name, "random_performance": 0.25}}})

    with pytest.raises(TaskError, match=r"no task 'helaswag'; the nearest names are .*hellaswag"):
        check_tasks(config("helaswag"), None)
    with pytest.raises(TaskError, match=r"data of lm-eval task 'hellaswag' could not be loaded .* Fetch it once"):
        check_tasks(config("hellaswag"), None)


def test_task_records_need_no_torch():
    code = """
import sys
from flp_ray.measure import check_tasks, task_records
from flp_ray.measure.config import MeasureConfig
tasks = {"b": {"builtin": "word_order", "domain": "d"}, "a": {"lm_eval": "race", "random_performance": 0.25,
         "emergence_margin": 0.1}}
print([(t.task, t.random_performance, t.emergence_margin) for t in task_records(MeasureConfig(tasks=tasks))])
del tasks["a"]
check_tasks(MeasureConfig(tasks=tasks), None)
print([m for m in ("torch", "lm_eval", "datasets", "transformers") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[('a', 0.25, 0.1), ('b', 0.5, 0.05)]", "[]"]
    assert task_records(MeasureConfig(tasks={"c": {"builtin": "continuation", "domain": "d"}}))[0].task == "c"
