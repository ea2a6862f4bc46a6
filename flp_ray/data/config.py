"""Settings of the text: sources, domains, tokenizer, blocks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

Builtin = Literal["code", "general", "math", "science", "reference"]
"""Text that comes with the installation: standard library sources, docstrings of installed packages,
docstrings of sympy, docstrings of scipy, the topics of pydoc."""


class TextOrigin(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Where one text comes from: exactly one of `builtin`, `files`, `hub`; with `hub`, `files` are inside it."""

    builtin: Builtin | None = None
    files: list[str] | None = Field(
        default=None,
        description="paths or globs of .parquet, .jsonl, .json, .txt; with hub, patterns of its files (* takes / too)",
    )
    hub: str | None = Field(default=None, description="id of a data set on the Hugging Face hub, read file by file")
    hub_config: str | None = None
    split: str = "train"
    urls: str | None = Field(default=None, description="a file of the hub data set that lists the URLs of its text")
    contents: Literal["software_heritage"] | None = Field(
        default=None, description="the files hold ids, whose contents are in Software Heritage's archive on S3"
    )
    column: str = Field(default="text", description="the column or key that holds a document's text")
    max_characters: int | None = Field(default=None, gt=0, description="use at most this much text")

    def origins(self) -> list[str]:
        """Names of the origins that are set."""
        named = [name for name in ("builtin", "hub") if getattr(self, name) is not None]
        return [*named, "files"] if self.files is not None and self.hub is None else named

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if len(self.origins()) != 1:
            raise ValueError(f"needs exactly one of builtin, files, hub; received {self.origins() or 'none'}")
        if self.urls is not None and (self.hub is None or self.files is not None):
            raise ValueError("urls names a file inside a hub data set: it needs hub, and takes the place of files")
        return self


class SourceText(TextOrigin, extra="forbid", frozen=True, allow_inf_nan=False):
    """Training text."""

    tokens: int | None = Field(
        default=None,
        gt=0,
        description="tokens there are, where known beforehand; for `plan`, before text is prepared",
    )


class DomainText(TextOrigin, extra="forbid", frozen=True, allow_inf_nan=False):
    """Held-out text: an origin of its own, or documents held out of a source."""

    held_out: str | None = Field(default=None, description="a source whose held-out documents are used")
    sequences: int = Field(default=128, gt=0, description="sequences of the validation set")

    def origins(self) -> list[str]:
        """Names of the origins that are set."""
        return [*super().origins(), *(["held_out"] if self.held_out is not None else [])]


class TokenizerConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """One tokenizer for the whole study: a BPE trained on the sources, or a Hugging Face tokenizer."""

    vocabulary: int = Field(default=1024, ge=300, description="tokens that the models are built for")
    hugging_face: str | None = Field(default=None, description="folder or hub id; default: train a byte-level BPE")


class TextConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """Sources, domains and how they become token blocks."""

    sources: dict[str, SourceText] = Field(min_length=1)
    domains: dict[str, DomainText] = Field(min_length=1)
    tokenizer: TokenizerConfig = TokenizerConfig()
    sequence_length: int = Field(default=128, ge=8)
    max_epochs: float = Field(default=1.0, gt=0, description="how often a source's text may be repeated")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="documents of a source kept out of training")
    decontamination_ngram: int = Field(
        default=13,
        ge=0,
        description="drop training documents sharing such a word n-gram with a domain; 0: keep all",
    )

    @model_validator(mode="after")
    def _trained_on_or_held_out(self) -> Self:
        for name, domain in self.domains.items():
            for source, text in self.sources.items():
                if domain.builtin is not None and domain.builtin == text.builtin:
                    raise ValueError(
                        f"domain {name} is the built-in text {domain.builtin}, which source {source} trains on, so its "
                        f"loss would be that of text seen before. Hold it out of the source ({name}: {{held_out: "
                        f"{source}}}), or take one of the two out"
                    )
        return self

    @model_validator(mode="after")
    def _held_out_of_a_source(self) -> Self:
        for name, domain in self.domains.items():
            if domain.held_out is not None and domain.held_out not in self.sources:
                raise ValueError(
                    f"domain {name} is held out of {domain.held_out!r}, which is no source; "
                    f"sources: {', '.join(self.sources)}"
                )
        return self
