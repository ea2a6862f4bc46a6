from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.core.text import PreparedText, TokenBlocks
from flp_ray.measure.config import MeasureConfig

LENGTH = 48


def library_text() -> str:
    return "\n\n".join(inspect.getsource(module) for module in (textwrap, json.decoder, json.encoder))


def make_items(lines: list[str], count: int) -> list[dict]:
    """Four-way continuations, two-way orders without a question, and one far too long question."""
    items = []
    for k in range(count):
        words = lines[k].split()
        if k % 3:
            rest = [" ".join(lines[(k * 7 + j * 11) % len(lines)].split()[:5]) for j in range(1, 4)]
            choices = [*rest[: k % 4], " ".join(words[3:]), *rest[k % 4 :]]
            items.append({"question": " ".join(words[:3]), "choices": choices, "gold": k % 4})
        else:
            swapped = [words[0], words[2], words[1], *words[3:]]
            items.append({"question": "", "choices": [" ".join(words), " ".join(swapped)], "gold": 0})
    items[4]["question"] = " ".join(lines[:40])
    return items


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> PreparedText:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text")
    content = library_text()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([content], trainer=trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[1])
    fast.save_pretrained(folder / "tokenizer")
    ids = np.asarray(tokenizer.encode(content).ids, dtype=np.uint16)
    rows = ids[: 40 * LENGTH].reshape(40, LENGTH)
    blocks = {}
    for name, part in [("code", rows[:25]), ("other", rows[25:])]:
        np.save(folder / f"{name}.npy", part)
        blocks[name] = TokenBlocks(
            path=str(folder / f"{name}.npy"),
            sequences=len(part),
            sequence_length=LENGTH,
            documents=1,
            characters=1,
            content_hash=name,
        )
    lines = [line.strip() for line in content.splitlines() if 4 < len(line.split()) < 12]
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps(item) + "\n" for item in make_items(lines, 60)))
    return PreparedText(
        sources={},
        domains=blocks,
        items={"mixed": str(items)},
        tokenizer=str(folder / "tokenizer"),
        vocabulary=400,
        removed={},
        content_id="test",
    )


@pytest.fixture
def spec() -> RunSpec:
    return RunSpec(
        purpose="sampling",
        size="tiny",
        shape=ModelShape(layers=2, hidden=32, heads=2, ffn=80),
        vocabulary=400,
        sequence_length=LENGTH,
        mixture=Mixture.of({"general": 1.0}),
        train_tokens=LENGTH * 64,
        batch_sequences=8,
        learning_rate=1e-3,
        seed=1,
        recipe=Recipe(),
        text_id="text",
    )


@pytest.fixture
def model(spec):
    """A Llama with strong weights, so that likelihoods differ between choices; built here, stages are blind."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=0.3,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def config() -> MeasureConfig:
    task = {"builtin": "continuation", "domain": "code", "items": 60}
    return MeasureConfig.model_validate({"tasks": {"mixed": task}})


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "measure"
