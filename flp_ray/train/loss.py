"""The training loss of a model, without all its logits in memory at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from flp_ray.core.execution import Kernels

LOGITS_BYTES = 2**29
"""Largest table of fp32 logits that is made at once."""


class TokenLoss(torch.nn.Module):
    """A causal model under its training loss: token ids in, the sum over all predicted tokens out.

    Args:
        model: A `LlamaForCausalLM`; it stays as it is, at `.model`.
        kernels: Which kernels compute the loss.
        recompute: Whether layers compute their activations again in the backward pass instead of keeping them.
    """

    def __init__(self, model: Any, kernels: Kernels = "torch", *, recompute: bool = False) -> None:
        super().__init__()
        self.model, self.recompute = model, recompute
        self.head = _LossHead(model.lm_head.weight, kernels)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Nats of all tokens but the first of each sequence, summed; fp32.

        Args:
            ids: Token ids, shape (sequences, sequence_length). The last token predicts nothing, so it is not fed.
        """
        llama = self.model.model
        hidden = llama.embed_tokens(ids[:, :-1])
        places = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        rotation = llama.rotary_emb(hidden, position_ids=places)
        # The model's own forward asks the device whether the batch is packed, which waits for all work before it.
        # Without a mask, attention is causal by itself and PyTorch is free to take its flash kernel.
        given = {"attention_mask": None, "position_embeddings": rotation, "position_ids": places}
        for layer in llama.layers:
            if self.recompute:  # nothing is drawn at random in a layer
                hidden = checkpoint(layer, hidden, use_reentrant=False, preserve_rng_state=False, **given)
            else:
                hidden = layer(hidden, **given)
        total: torch.Tensor = self.head(llama.norm(hidden).flatten(0, 1), ids[:, 1:].flatten())
        return total


class _LossHead(torch.nn.Module):
    """The last layer with its cross-entropy; a module, because ZeRO 3 brings weights to the modules that own them."""

    def __init__(self, weight: torch.nn.Parameter, kernels: Kernels) -> None:
        super().__init__()
        self.weight, self.kernels = weight, kernels

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.kernels == "liger":
            from liger_kernel.transformers import functional as liger

            nats: torch.Tensor = liger.liger_fused_linear_cross_entropy(
                hidden, self.weight, targets, reduction="sum", accum_dtype=torch.float32
            )
            return nats
        rows = max(1, LOGITS_BYTES // (4 * self.weight.shape[0]))
        if len(hidden) <= rows:
            return F.cross_entropy(F.linear(hidden, self.weight).float(), targets, reduction="sum")
        summed: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, self.weight, targets, rows)  # type: ignore[no-untyped-call]
        return summed


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`, a few rows at a time.

    The gradients are made in the forward pass, while a chunk's logits are there: nothing is computed twice and the
    logits of the whole micro batch never exist. (The way of Liger's fused kernel, in PyTorch's own operations.)
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, rows: int) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        for start in range(0, len(hidden), rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows].unsqueeze(1)
            logits = (part @ weight.T).float()
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, wanted)).sum()
            errors = logits.sub_(normaliser).exp_()  # the softmax, in the place of the logits
            errors.scatter_add_(1, wanted, torch.full_like(normaliser, -1.0))
            errors = errors.to(hidden.dtype)
            torch.mm(errors, weight, out=hidden_gradient[start : start + rows])
            weight_gradient += errors.T @ part
        ctx.save_for_backward(hidden_gradient, weight_gradient.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * gradients[0], weight_gradient * gradients[0], None, None
