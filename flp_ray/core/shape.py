"""The shape of a Llama-like model, its parameters and its training FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from flp_ray.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Layers and widths of a Llama-like model (RMSNorm, gated FFN, untied embeddings).

    Attributes:
        layers: Number of transformer blocks.
        hidden: Width of the residual stream.
        heads: Attention heads; must divide `hidden`.
        ffn: Inner width of the gated feed-forward network.

    Raises:
        ConfigError: A number is not positive, or the heads do not divide the width evenly.
    """

    layers: int
    hidden: int
    heads: int
    ffn: int

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "ffn"):
            if getattr(self, name) < 1:
                raise ConfigError(f"A model shape needs {name} >= 1, received {getattr(self, name)}.")
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ConfigError(
                f"A model shape's hidden must be heads times an even head width, "
                f"received hidden={self.hidden}, heads={self.heads}."
            )

    @property
    def non_embedding_params(self) -> int:
        """Parameters without both embeddings, norms included.

        Reference: the count that reproduces Table 1 of Chen et al. 2024,
            N = L (4 d^2 + 3 d f) + (2 L + 1) d.
        """
        d, f = self.hidden, self.ffn
        return self.layers * (4 * d * d + 3 * d * f) + (2 * self.layers + 1) * d

    def params(self, vocabulary: int) -> int:
        """All parameters, both embeddings counted (they are untied).

        Args:
            vocabulary: Number of tokens of the tokenizer.
        """
        return self.non_embedding_params + 2 * vocabulary * self.hidden

    def flops_per_token(self, sequence_length: int) -> int:
        """Training FLOPs of one token (forward and backward, without embeddings), 6 N + 6 L d S.

        Args:
            sequence_length: Tokens per sequence, S.

        Reference: reproduces the FLOPs column of Table 1 of Chen et al. 2024 in all six digits.
        """
        return 6 * self.non_embedding_params + 6 * self.layers * self.hidden * sequence_length

    def flops(self, tokens: int, sequence_length: int) -> float:
        """Training FLOPs of `tokens` tokens.

        Args:
            tokens: Training tokens.
            sequence_length: Tokens per sequence.

        Returns:
            A float, because 6 N D does not fit into 64-bit integers above 9e18.
        """
        return float(tokens) * float(self.flops_per_token(sequence_length))
