"""Text prepared by Ray tasks, on a shared folder and on an object store: the bytes of one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flp_ray.config import load_config
from flp_ray.data import load_text, prepare_text
from flp_ray.distributed.text import FEW_TASKS
from tests.store.object_store import BUCKET, credentials, s3_server
from tests.toy_hub.texts import some_texts

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


def write_study(folder: Path) -> Path:
    """More sources than are prepared in the driver, each a file of its own."""
    sources = {}
    texts = some_texts("prose", 0, 400)
    for number in range(FEW_TASKS + 2):
        path = folder / f"source{number}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[number :: FEW_TASKS + 2]))
        sources[f"s{number}"] = {"files": [str(path)]}
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text())
    task = {"builtin": "word_order", "domain": "d", "items": 4}
    value |= {
        "text": value["text"] | {"sources": sources, "domains": {"d": {"held_out": "s0", "sequences": 4}}},
        "measure": {"tasks": {"word_order": task}},
        "grid": {"mixtures": [{f"s{k}": 0.1 for k in range(1, FEW_TASKS + 2)}]},
        "search": {"objectives": ["mean"]},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def prepare(study: Path, where: str) -> str:
    command = [sys.executable, "-m", "flp_ray", "data", "prepare", str(study), "--study-dir", where]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_tasks_of_many_processes_leave_the_bytes_of_one(tmp_path, monkeypatch):
    study = write_study(tmp_path)
    config = load_config(study)
    alone = prepare_text(config.text, config.item_sets(), tmp_path / "alone", seed=config.seed)
    said = prepare(study, str(tmp_path / "s"))
    assert "source s0: " in said
    together = load_text(tmp_path / "s" / "text")
    assert together is not None
    assert together.content_id == alone.content_id
    assert "tokenising" in said
    assert "tokenising" not in prepare(study, str(tmp_path / "s"))
    with s3_server() as endpoint:
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        for cache in ("one machine", "another machine"):  # the second finds everything there
            monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path / cache))
            prepare(study, f"s3://{BUCKET}/study")
            [text] = (tmp_path / cache).glob("*/text")
            stored = load_text(text, local=False)
            assert stored is not None
            assert stored.content_id == alone.content_id
        assert not list((tmp_path / "another machine").rglob("*.npy"))
