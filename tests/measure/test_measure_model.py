"""Our language model answers as lm-eval's own: likelihoods, whole texts, greedy generation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from lm_eval.api.instance import Instance

from flp_ray.errors import TaskError
from flp_ray.measure.model import InMemoryLM
from flp_ray.measure.tasks import load_builtin_task

LENGTH = 48


@pytest.fixture
def tokenizer(text):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(text.tokenizer)


@pytest.fixture
def ours(tokenizer, model):
    lm = InMemoryLM(tokenizer, max_length=LENGTH, batch_tokens=1024)
    lm.module = model
    return lm


@pytest.fixture
def theirs(tokenizer, model):
    from lm_eval.models.huggingface import HFLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HFLM warns that a model object was given
        return HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=8,
            max_length=LENGTH,
            device="cpu",
        )


def likelihoods(lm, found):
    for request in found:
        request.resps = []
    return lm.loglikelihood(found)


def instance(kind, *arguments, doc_id=None):
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("t", doc_id, 1))


@pytest.mark.parametrize("shots", [0, 2])
def test_likelihoods_are_those_of_hflm(ours, theirs, text, config, folder, shots):
    """Items with and without a question, one longer than the model, with and without examples before them."""
    settings = config.tasks["mixed"].model_copy(update={"shots": shots})
    task = load_builtin_task("mixed", settings, text.items["mixed"], folder)
    found = task.leaves["mixed"].instances
    mine, reference = likelihoods(ours, found), likelihoods(theirs, found)
    assert len(mine) == len(reference) > 150
    values = np.array([v for v, _ in reference])
    # fp32 sums of up to 47 terms of size 10, added in another order.
    assert np.abs(np.array([v for v, _ in mine]) - values).max() < 2e-3
    assert values.std() > 1
    assert [g for _, g in mine] == [g for _, g in reference]
    assert ours.computed_tokens < ours.scored_tokens * (0.85 if shots == 0 else 1.2)
    assert likelihoods(ours, found) == mine


def test_unusual_contexts(ours, theirs):
    found = [
        instance("loglikelihood", "", "def wrap"),
        instance("loglikelihood", "", "<|endoftext|>def wrap"),
        instance("loglikelihood", "self. ", "width"),
        instance("loglikelihood", "self.\n\n", " width of the text"),
        instance("loglikelihood", "x " * 200, "return"),
        instance("loglikelihood", "x", " y" * 20),
    ]
    mine, reference = ours.loglikelihood(found), theirs.loglikelihood(found)
    assert [v for v, _ in mine] == pytest.approx([v for v, _ in reference], abs=2e-3)


def test_whole_texts(ours, theirs):
    texts = ["def wrap(text):", "The textwrap module offers " * 30, "a"]
    found = [instance("loglikelihood_rolling", t) for t in texts]
    assert ours.loglikelihood_rolling(found) == pytest.approx(theirs.loglikelihood_rolling(found), rel=1e-5)


def test_generation(ours, theirs):
    settings = {"until": ["\n"], "max_gen_toks": 12, "do_sample": False}
    found = [instance("generate_until", c, dict(settings)) for c in ("def wrap(", "class TextWrapper:", "x" * 90)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours.generate_until(found) == theirs.generate_until(found)


def test_sampling_differs_and_follows_the_seed(ours):
    import torch

    settings = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    found = [instance("generate_until", "def wrap(", dict(settings)) for _ in range(3)]
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append(ours.generate_until(found))
    assert answers[0] == answers[1] != answers[2] and len(set(answers[0])) > 1


def test_an_answer_longer_than_the_model_is_refused(ours):
    with pytest.raises(TaskError, match=r"Task t: a model of length 48 cannot score a continuation of \d+ tokens"):
        ours.loglikelihood([instance("loglikelihood", "x", " the width of the text" * 40)])
