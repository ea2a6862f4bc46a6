"""Our language model answers as lm-eval's own: likelihoods, whole texts, greedy generation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from lm_eval.api.instance import Instance

from flp_ray.errors import TaskError
from flp_ray.measure import generation
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


def test_sampling_follows_the_seed_and_not_the_batch(ours, monkeypatch):
    """Also with prompts of different lengths between them; the random state outside plays no part."""
    import torch

    settings = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    contexts = ["def wrap(", "class TextWrapper:\n    ", "def wrap(", "return", "def wrap("]
    found = [instance("generate_until", c, dict(settings)) for c in contexts]
    answers = []
    for seed, rows in ((0, 256), (0, 2), (1, 256)):
        torch.manual_seed(rows)
        ours.seed = seed
        monkeypatch.setattr("flp_ray.measure.generation.MOST_ROWS", rows)
        answers.append(ours.generate_until(found))
    assert answers[0] == answers[1] != answers[2]
    assert len({answers[0][k] for k in (0, 2, 4)}) == 3


def test_samples_have_the_models_probabilities(ours, tokenizer):
    """First tokens of 4,000 answers at temperature 0.8: exactly the top 95 percent, as often as they are likely."""
    import torch

    settings = {"max_gen_toks": 1, "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    ids = tokenizer("def wrap(", return_tensors="pt").input_ids
    with torch.no_grad():
        shares, tokens = (ours.module(input_ids=ids).logits[0, -1] / 0.8).softmax(-1).sort(descending=True)
    kept = int((shares.cumsum(0) < 0.95).sum()) + 1
    shares = (shares[:kept] / shares[:kept].sum()).tolist()
    how = generation.GenerationSettings.of(settings, eos=None, max_length=LENGTH)
    with torch.no_grad():
        logits = ours.module(input_ids=ids).logits[:, -1].expand(4000, -1)
    drawn = generation._pick(logits, how, torch.from_numpy(np.random.default_rng(0).random(4000))).tolist()
    assert set(drawn) <= set(tokens[:kept].tolist()) and 1 < kept < 400
    for token, share in list(zip(tokens.tolist(), shares, strict=False))[:5]:
        # Four standard errors of a share of 4,000 draws.
        assert abs(drawn.count(token) / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_many_answers_read_their_prompt_once(ours):
    settings = {"until": [], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    prompt = "class TextWrapper: def wrap(self, text)"
    length = len(ours.tokenizer(prompt)["input_ids"])
    ours.generate_until([instance("generate_until", prompt, dict(settings)) for _ in range(50)])
    assert ours.computed_tokens <= length + 50 * 3 and ours.scored_tokens > 50 * length


def test_a_stop_ends_an_answer_and_its_computing(ours):
    """A stop across tokens is found; what is computed after it is not more than a token."""
    free = {"until": [], "max_gen_toks": 20, "do_sample": False}
    [whole] = ours.generate_until([instance("generate_until", "def wrap(", free)])
    begin = ours.computed_tokens
    stop = whole[5:8]
    [cut] = ours.generate_until([instance("generate_until", "def wrap(", free | {"until": [stop]})])
    assert cut == whole.split(stop)[0]
    assert ours.computed_tokens - begin < begin


def test_an_answer_longer_than_the_model_is_refused(ours):
    with pytest.raises(TaskError, match=r"Task t: a model of length 48 cannot score a continuation of \d+ tokens"):
        ours.loglikelihood([instance("loglikelihood", "x", " the width of the text" * 40)])


def test_vllm_is_asked_what_the_model_in_memory_would_be(tokenizer):
    """vLLM itself is not run here: its requests are limited to half of the model's length and to what it knows."""
    from flp_ray.measure.vllm_generation import VllmLM

    lm = VllmLM(tokenizer, max_length=LENGTH, batch_tokens=1024)
    given = {"until": ["\n"], "max_gen_toks": 512, "do_sample": True, "temperature": 0.8, "top_p": 0.95, "num_beams": 1}
    request = lm._limited(instance("generate_until", "def wrap(", given))
    kept = {"until": ["\n"], "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    assert request.args == ("def wrap(", kept | {"max_gen_toks": LENGTH // 2}) and request.metadata == ("t", None, 1)
    lm.release()
