"""Prepared text: what the data stage leaves on disk for training and measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import stable_hash

ItemKind = Literal["continuation", "word_order", "code_syntax"]
"""The built-in tasks; chance is 1/4, 1/2 and 1/2."""

RANDOM_PERFORMANCE: Mapping[ItemKind, float] = {"continuation": 0.25, "word_order": 0.5, "code_syntax": 0.5}


def shard_name(number: int) -> str:
    """Name of a shard's files, without their endings."""
    return f"{number:05d}"


class SequenceStream(Protocol):
    """The training text of one run, in order; the same for any number of workers."""

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Token ids of the sequences `start` to `stop` (excluded), shape (stop - start, sequence_length)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBlocks:
    """One text as memory-mapped arrays of token ids: one file, or several that are read one after the other.

    Attributes:
        path: A `.npy` file of shape (sequences, sequence_length), uint16 or uint32; with `shards` the folder of such
            files.
        sequences: Number of sequences.
        sequence_length: Tokens per sequence.
        documents: Number of documents that went in.
        characters: Characters of these documents.
        content_hash: Hash of the token ids.
        shards: Sequences of each file, in their order; empty where `path` is the one file. Each shard drops what does
            not fill its last sequence.
    """

    path: str
    sequences: int
    sequence_length: int
    documents: int
    characters: int
    content_hash: str
    shards: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens in all sequences."""
        return self.sequences * self.sequence_length

    def file(self, shard: int) -> str:
        """The `.npy` file of one shard, from 0."""
        return f"{self.path}/{shard_name(shard)}.npy" if self.shards else self.path

    def files(self) -> tuple[str, ...]:
        """The `.npy` files, in the order of their sequences."""
        return tuple(map(self.file, range(max(len(self.shards), 1))))

    def open(self, shard: int = 0) -> NDArray[np.unsignedinteger[Any]]:
        """The token ids of one file, memory-mapped and read-only, shape (its sequences, sequence_length)."""
        return np.load(self.file(shard), mmap_mode="r")  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TokenBlocks:
        """Reads what `dataclasses.asdict` and JSON have made of blocks; older ones have no shards."""
        return cls(**{**value, "shards": tuple(value.get("shards", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSet:
    """A built-in multiple-choice task to be made from held-out documents.

    Attributes:
        task: The task's name in the study.
        kind: Which built-in.
        domain: The domain whose held-out documents it is made of.
        items: Number of questions.
    """

    task: str
    kind: ItemKind
    domain: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextIdentity:
    """What a study's runs are trained on, as far as settings tell, by source.

    Attributes:
        shared: Identity of what all runs share: tokenizer, sequence length, split, decontamination, seed.
        sources: Identity of each source's settings.
    """

    shared: str
    sources: Mapping[str, str]

    def of(self, mixture: Mixture) -> str:
        """Identity of the text of one run: of the sources that it has text of, and of no other."""
        return stable_hash([self.shared, {source: self.sources[source] for source in mixture.used()}])


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText:
    """All token blocks, items and the tokenizer of a study.

    Attributes:
        sources: Training text by source.
        domains: Held-out text by domain.
        items: JSONL file by built-in task (fields `question`, `choices`, `gold`).
        tokenizer: Folder that `transformers.AutoTokenizer` loads.
        vocabulary: Number of tokens that the models are built for.
        removed: What was dropped on the way: counts of documents by reason, for the report.
        content_id: Hash over the contents of all parts.
    """

    sources: dict[str, TokenBlocks]
    domains: dict[str, TokenBlocks]
    items: dict[str, str]
    tokenizer: str
    vocabulary: int
    removed: dict[str, int]
    content_id: str

    def to_dict(self) -> dict[str, Any]:
        """A JSON value that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PreparedText:
        """Reads what `to_dict` wrote."""
        fields = dict(value)
        for key in ("sources", "domains"):
            fields[key] = {name: TokenBlocks.from_dict(blocks) for name, blocks in fields[key].items()}
        return cls(**fields)
