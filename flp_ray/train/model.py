"""The model of a run: a Llama of the run's shape, seeded."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from flp_ray.core.run import RunSpec
from flp_ray.errors import ConfigError


def build_model(spec: RunSpec) -> LlamaForCausalLM:
    """Builds the model of a run in fp32 on the CPU; its weights depend on shape, vocabulary and seed.

    RMSNorm, gated feed-forward network, rotary positions, untied embeddings, no biases, no dropout. Linear
    and embedding weights are drawn from a normal of standard deviation 0.02, norms start at 1 (the defaults
    of Transformers; the paper names none). The caller's random state is left as it was.

    Args:
        spec: The run.

    Raises:
        ConfigError: The model does not have the parameters that the plan counted.
    """
    shape = spec.shape
    config = LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=spec.sequence_length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        model = LlamaForCausalLM(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if counted != spec.params:
        raise ConfigError(
            f"Size {spec.size}: the model has {counted} parameters, but the plan counted {spec.params}; "
            "flp_ray.core.shape and the installed Transformers disagree about a Llama."
        )
    return model
