"""One tokenizer for the whole study: trained on its sources, or a Hugging Face tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.hub import local_copy
from flp_ray.errors import TextError

END_OF_TEXT = "<|endoftext|>"
"""Ends every document; also the beginning-of-text token, since the end of one document begins the next."""

PAD = "<|pad|>"


class TextEncoder:
    """A study's tokenizer, as the data stage needs it.

    Args:
        folder: A folder that `save_trained` or `save_hugging_face` wrote.
    """

    def __init__(self, folder: Path) -> None:
        # Without it a process that forks later warns, and switches threads off in the child.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        settings = json.loads((folder / "flp_ray.json").read_text())
        self.end: int = settings["end"]
        self._slow: Any = None
        if settings["fast"]:
            from tokenizers import Tokenizer

            self._fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._fast.no_padding()
            self._fast.no_truncation()
        else:
            from transformers import AutoTokenizer

            self._slow = AutoTokenizer.from_pretrained(folder)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each text, without special tokens."""
        if self._slow is not None:
            lists = self._slow(list(texts), add_special_tokens=False)["input_ids"]
        else:
            lists = [e.ids for e in self._fast.encode_batch_fast(list(texts), add_special_tokens=False)]
        return [np.asarray(ids, dtype=np.int64) for ids in lists]

    def decode(self, documents: Sequence[NDArray[Any]]) -> list[str]:
        """The text of each run of token ids; for byte-level tokenizers exactly what was encoded."""
        lists = [ids.tolist() for ids in documents]
        if self._slow is not None:
            return list(self._slow.batch_decode(lists, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return list(self._fast.decode_batch(lists, skip_special_tokens=True))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [len(ids) for ids in self.encode(texts)]


def save_trained(samples: Iterable[str], vocabulary: int, folder: Path) -> None:
    """Trains a byte-level BPE and writes it so that `transformers.AutoTokenizer` loads it.

    The same texts in the same order give the same files, byte for byte.

    Args:
        samples: Training texts; they are read once.
        vocabulary: Number of tokens, the 256 bytes and the special tokens included.
        folder: Where to; replaced as a whole.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(samples, trainer=trainer)
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "bos_token": END_OF_TEXT,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
    }
    building = _empty_beside(folder)
    tokenizer.save(str(building / "tokenizer.json"))
    (building / "tokenizer_config.json").write_text(json.dumps(names, indent=1, sort_keys=True))
    _finish(building, folder, end=tokenizer.token_to_id(END_OF_TEXT), fast=True)


def save_hugging_face(name: str, vocabulary: int, folder: Path) -> None:
    """Copies a Hugging Face tokenizer into the study.

    Args:
        name: Folder or hub id; a local copy of the hub comes first.
        vocabulary: Number of tokens that the models are built for.
        folder: Where to; replaced as a whole.

    Raises:
        TextError: It cannot be loaded, has more tokens than the models, or has no end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(local_copy(name) or name)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise TextError(
            f"Tokenizer {name!r} cannot be loaded: {error}. Give a folder that holds one; "
            "a hub id needs a machine that reaches the hub, or a copy that `flp-ray data fetch` has made there."
        ) from error
    if len(tokenizer) > vocabulary:
        raise TextError(
            f"Tokenizer {name!r} has {len(tokenizer)} tokens, the models are built for {vocabulary}; "
            f"set text.tokenizer.vocabulary to at least {len(tokenizer)}."
        )
    if tokenizer.eos_token_id is None:
        raise TextError(
            f"Tokenizer {name!r} has no end-of-text token, which separates documents; "
            "set eos_token in its tokenizer_config.json."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    building = _empty_beside(folder)
    tokenizer.save_pretrained(building)
    fast = (building / "tokenizer.json").exists()
    _finish(building, folder, end=tokenizer.eos_token_id, fast=fast)


def _empty_beside(folder: Path) -> Path:
    building = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    return building


def _finish(building: Path, folder: Path, *, end: int | None, fast: bool) -> None:
    """Puts the finished folder in place; a kill before this leaves nothing under the final name."""
    (building / "flp_ray.json").write_text(json.dumps({"end": end, "fast": fast}))
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
