"""Local copies of the paper's benchmarks and MMLU: the hub sets' own folders and schemas, with content of ours."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ABC = "ABCD"
WORDS = [
    "river",
    "stone",
    "lamp",
    "garden",
    "copper",
    "window",
    "basket",
    "thunder",
    "meadow",
    "anchor",
    "velvet",
    "candle",
    "orchard",
    "pebble",
]

HUMANEVAL = [
    ("double", "x: int", "Twice a number.", "    return 2 * x\n", "candidate(3) == 6 and candidate(-1) == -2"),
    ("last", "words: list", "The last word.", "    return words[-1]\n", "candidate(['a', 'b']) == 'b'"),
    ("count", "text: str", "How many letters a.", "    return text.count('a')\n", "candidate('banana') == 3"),
]

Rows = list[dict[str, Any]]


def subsets(family: str) -> list[str]:
    """Names of the configurations that lm-eval's own files ask for: `mmlu/default` or `bbh/cot_fewshot`."""
    import lm_eval.tasks

    folder = Path(lm_eval.tasks.__file__).parent / family
    lines = [line for file in sorted(folder.glob("*.yaml")) for line in file.read_text().splitlines()]
    found = [line.partition(":")[2].strip(" \"'") for line in lines if line.strip("\"'").startswith("dataset_name")]
    return sorted(found)


def write_tasks(folder: Path) -> Path:
    """Writes `<folder>/<owner>/<name>/` for all seven benchmarks; returns the folder, which FLP_RAY_HUB may name."""
    draw = random.Random(0)
    splits = {"train": 24, "validation": 12, "test": 12}
    arc = {split: [_arc(draw, k) for k in range(count)] for split, count in splits.items()}
    _write(folder / "allenai/ai2_arc", {"ARC-Challenge": arc, "ARC-Easy": arc})
    swag = {s: [_hellaswag(draw, k, s) for k in range(n)] for s, n in splits.items()}
    _write(folder / "Rowan/hellaswag", {"default": swag}, under={"default": "data"})
    _write(folder / "EleutherAI/race", {"high": {"test": [_race(draw) for _ in range(6)]}})
    trivia = {s: [_trivia(draw, k) for k in range(8)] for s in splits}
    _write(folder / "mandarjoshi/trivia_qa", {"rc": trivia, "rc.nocontext": trivia})
    mmlu = {
        subject: {s: [_mmlu(draw, subject) for _ in range(n)] for s, n in (("test", 3), ("validation", 1), ("dev", 5))}
        for subject in subsets("mmlu/default")
    }
    _write(folder / "cais/mmlu", mmlu)
    _write(
        folder / "SaylorTwift/bbh", {s: {"test": [_bbh(draw) for _ in range(2)]} for s in subsets("bbh/cot_fewshot")}
    )
    _write(folder / "openai/openai_humaneval", {"openai_humaneval": {"test": humaneval_rows()}})
    return folder


def humaneval_rows() -> Rows:
    """Problems of our own in HumanEval's fields."""
    return [
        {
            "task_id": f"HumanEval/{k}",
            "prompt": f'def {name}({arguments}):\n    """ {words}\n    """\n',
            "canonical_solution": solution,
            "test": f"\n\nMETADATA = {{}}\n\n\ndef check(candidate):\n    assert {test}\n",
            "entry_point": name,
        }
        for k, (name, arguments, words, solution, test) in enumerate(HUMANEVAL)
    ]


def _sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def _choices(draw: random.Random) -> list[str]:
    return draw.sample(WORDS, 4)


def _arc(draw: random.Random, k: int) -> dict[str, Any]:
    labels = list(ABC) if k % 5 else list("1234")
    choices = {"text": _choices(draw), "label": labels}
    return {"id": f"Toy_{k}", "question": _sentence(draw, 6), "choices": choices, "answerKey": draw.choice(labels)}


def _hellaswag(draw: random.Random, k: int, split: str) -> dict[str, Any]:
    before, after = _sentence(draw, 5), _sentence(draw, 2)
    return {
        "ind": k,
        "activity_label": draw.choice(WORDS).capitalize(),
        "ctx_a": f"{before}.",
        "ctx_b": after,
        "ctx": f"{before}. {after}",
        "endings": [f"[title] {_sentence(draw, 4)}." for _ in range(4)],
        "source_id": f"toy~{k}",
        "split": split,
        "split_type": "indomain",
        "label": str(draw.randrange(4)) if split != "test" else "",
    }


def _race(draw: random.Random) -> dict[str, Any]:
    problems = [
        {"question": f"{_sentence(draw, 3)}  _  .", "answer": draw.choice(ABC), "options": _choices(draw)},
        {"question": f"{_sentence(draw, 4)}?", "answer": draw.choice(ABC), "options": _choices(draw)},
        {"question": f"{_sentence(draw, 3)}?", "answer": draw.choice(ABC), "options": _choices(draw)},
    ]
    return {"article": _sentence(draw, 30), "problems": str(problems)}


def _trivia(draw: random.Random, k: int) -> dict[str, Any]:
    value = draw.choice(WORDS)
    nothing = {"doc_source": [], "filename": [], "title": [], "wiki_context": []}
    found = {"description": [], "filename": [], "rank": [], "title": [], "url": [], "search_context": []}
    return {
        "question": _sentence(draw, 6),
        "question_id": f"toy_{k}",
        "question_source": "",
        "entity_pages": nothing,
        "search_results": found,
        "answer": {
            "aliases": [value, value.capitalize()],
            "normalized_aliases": [value],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": value,
            "type": "WikipediaEntity",
            "value": value,
        },
    }


def _mmlu(draw: random.Random, subject: str) -> dict[str, Any]:
    return {"question": _sentence(draw, 6), "subject": subject, "choices": _choices(draw), "answer": draw.randrange(4)}


def _bbh(draw: random.Random) -> dict[str, Any]:
    return {"input": _sentence(draw, 8), "target": draw.choice(["True", "False", "(A)"])}


def _write(place: Path, content: Mapping[str, Mapping[str, Rows]], under: Mapping[str, str] | None = None) -> None:
    """Parquet files and the README that lists them, as the hub's converted sets have them."""
    listed = []
    for name, splits in content.items():
        inside = (under or {}).get(name, name)
        files = {split: f"{inside}/{split}-00000-of-00001.parquet" for split in splits}
        for split, rows in splits.items():
            target = place / files[split]
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_table(rows), target)
        listed.append({"config_name": name, "data_files": _data_files(files.items())})
    if len(listed) == 1:
        listed[0]["default"] = True
    head = yaml.safe_dump({"license": "apache-2.0", "configs": listed}, sort_keys=False)
    (place / "README.md").write_text(f"---\n{head}---\n# Toy copy\n")


def _data_files(files: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"split": split, "path": path.replace("00000-of-00001", "*")} for split, path in files]


def _table(rows: Rows) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    for number, field in enumerate(table.schema):
        if pa.types.is_struct(field.type):  # empty lists have no type of their own
            parts = [pa.field(f.name, pa.list_(pa.string()) if _is_empty(f.type) else f.type) for f in field.type]
            values = pa.array([row[field.name] for row in rows], pa.struct(parts))
            table = table.set_column(number, pa.field(field.name, values.type), values)
    return table


def _is_empty(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_null(kind.value_type))
