"""The in-memory model as lm-evaluation-harness asks it: likelihoods of continuations, and generated text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from flp_ray.errors import TaskError
from flp_ray.measure.generation import GenerationSettings, Generator
from flp_ray.measure.packing import PackedBatch, ScoredTokens, pack


class InMemoryLM(LM):  # type: ignore[misc]
    """A causal language model in this process, with its tokenizer.

    Requests are tokenised and packed once: the tasks of a study ask every checkpoint the same. Likelihoods
    are those of lm-eval's own HFLM, which computes each choice by itself (tested).

    Args:
        tokenizer: A Transformers tokenizer.
        max_length: Tokens that the model takes at most; longer requests lose their beginning.
        batch_tokens: Tokens of one forward pass, padding included.

    Attributes:
        module: The model that is asked; set before use. A Transformers causal model with `.model` and
            `.lm_head`.
        seed: Seeds sampled answers; set before use.
        scored_tokens: Tokens of all requests answered so far, contexts included, padding not; a context that
            several choices share counts for each of them.
        computed_tokens: Tokens that went through the model for it, padding included.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, batch_tokens: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.module: Any = None
        self.seed = 0
        self.scored_tokens = 0
        self.computed_tokens = 0
        self._generator: Generator | None = None
        self._packed: dict[tuple[Any, ...], tuple[list[PackedBatch], int]] = {}

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name, which lm-eval asks for."""
        return str(self.tokenizer.name_or_path)

    @property
    def prefix_token(self) -> int:
        """The token that stands before a text without context: beginning of text, or end of text."""
        bos = self.tokenizer.bos_token_id
        token = self.tokenizer.eos_token_id if bos is None else bos
        if token is None:
            raise TaskError(
                "The tokenizer has neither a beginning-of-text nor an end-of-text token, which a question "
                "without context needs; set bos_token or eos_token in its tokenizer_config.json."
            )
        return int(token)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihood in nats of each continuation given its context, and whether it is the greedy one."""
        key = tuple((r.task_name, r.doc_id, *r.args) for r in requests)
        if key not in self._packed:
            self._packed[key] = self._pack(self._tokenised(requests))
        return self._score(*self._packed[key], len(requests))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood in nats of whole texts, in windows of the model's length."""
        key = ("rolling", *(r.args for r in requests))
        windows: list[ScoredTokens] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            ids = self.tokenizer.encode(request.args[0])
            rolling = get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token, max_seq_len=self.max_length, context_len=1
            )
            for context, continuation in map(make_disjoint_window, rolling):
                tokens = (*context, *continuation)
                windows.append(ScoredTokens(tokens=tokens, scored=len(continuation), question=len(windows)))
                owners.append(index)
        if key not in self._packed:
            self._packed[key] = self._pack(windows)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._score(*self._packed[key], len(windows)), strict=True):
            totals[owner] += value
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Text generated after each context, up to a stop sequence; equal settings go together."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[repr(sorted(request.args[1].items(), key=lambda item: item[0]))].append(index)
        self._generator = generator = self._generator or Generator(self.tokenizer, self.prefix_token)
        answers = [""] * len(requests)
        before = generator.scored_tokens, generator.computed_tokens
        for members in groups.values():
            settings = GenerationSettings.of(
                requests[members[0]].args[1], eos=self.tokenizer.eos_token, max_length=self.max_length
            )
            contexts = [requests[m].args[0] for m in members]
            texts = generator.generate(self.module, contexts, settings, max_length=self.max_length, seed=self.seed)
            for member, text in zip(members, texts, strict=True):
                answers[member] = text
        self.scored_tokens += generator.scored_tokens - before[0]
        self.computed_tokens += generator.computed_tokens - before[1]
        return answers

    def release(self) -> None:
        """Lets go of what the last model needed beside itself; nothing here."""

    def _tokenised(self, requests: Sequence[Instance]) -> list[ScoredTokens]:
        pairs = [_spaces_moved(*r.args) for r in requests]
        wholes = self._encode(context + continuation for context, continuation in pairs)
        contexts = self._encode(context for context, _ in pairs)
        bare = self.tokenizer([c for _, c in pairs], add_special_tokens=False)["input_ids"]
        tokenised = []
        for request, (context, _), whole, begin, alone in zip(requests, pairs, wholes, contexts, bare, strict=True):
            if context:
                given, asked = whole[: len(begin)], whole[len(begin) :]
            elif alone and alone[0] == self.prefix_token:
                given, asked = alone[:1], alone[1:]
            else:
                given, asked = [self.prefix_token], alone
            if not 0 < len(asked) <= self.max_length:
                raise TaskError(
                    f"Task {request.task_name}: a model of length {self.max_length} cannot score a "
                    f"continuation of {len(asked)} tokens: {request.args[1][:80]!r}. Leave the task out or "
                    "train on longer sequences."
                )
            question = (request.task_name, request.doc_id) if request.doc_id is not None else id(request)
            tokens = tuple([*given, *asked][-(self.max_length + 1) :])
            tokenised.append(ScoredTokens(tokens=tokens, scored=len(asked), question=question))
        return tokenised

    def _encode(self, texts: Iterable[str]) -> list[list[int]]:
        return list(self.tokenizer(list(texts))["input_ids"])

    def _pack(self, requests: list[ScoredTokens]) -> tuple[list[PackedBatch], int]:
        batches = pack(requests, row_tokens=2 * self.max_length, batch_tokens=self.batch_tokens)
        return batches, sum(len(r.tokens) - 1 for r in requests)

    def _score(self, batches: list[PackedBatch], tokens: int, count: int) -> list[tuple[float, bool]]:
        totals, greedy = np.zeros(count), np.ones(count, dtype=bool)
        for batch in batches:
            values, hits = self._score_batch(batch)
            np.add.at(totals, batch.request_of, values)
            np.logical_and.at(greedy, batch.request_of, hits)
            self.computed_tokens += batch.ids.size
        self.scored_tokens += tokens
        return list(zip(totals.tolist(), greedy.tolist(), strict=True))

    @torch.inference_mode()
    def _score_batch(self, batch: PackedBatch) -> tuple[Any, Any]:
        model, device = self.module, next(self.module.parameters()).device
        ids, positions, tree, branch, places, targets = (
            torch.from_numpy(array).to(device)
            for array in (batch.ids, batch.positions, batch.tree, batch.branch, batch.places, batch.targets)
        )
        place_of = torch.from_numpy(batch.place_of).to(device)
        mask = _tree_mask(tree, branch, dtype=next(model.parameters()).dtype)
        hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=mask).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[places]).float()
        # On a CPU log_softmax and amax are several times faster than logsumexp and argmax.
        logs = logits.log_softmax(-1)
        values = logs[place_of, targets]
        greedy = values >= logs.amax(-1)[place_of]
        return values.double().cpu().numpy(), greedy.cpu().numpy()


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at a context's end belong to its continuation: tokenizers join them to the next word."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def _tree_mask(tree: torch.Tensor, branch: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask, shape (rows, 1, width, width): 0 where a token may look, otherwise -inf."""
    width = tree.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=tree.device).tril()
    seen, seer = slice(None), slice(None)
    allowed = branch[:, None, seen] == branch[:, seer, None]
    allowed |= (branch == 0)[:, None, seen]
    allowed &= tree[:, None, seen] == tree[:, seer, None]
    allowed &= earlier
    mask = torch.zeros(allowed.shape, dtype=dtype, device=tree.device)
    return mask.masked_fill_(~allowed, float("-inf"))[:, None]
