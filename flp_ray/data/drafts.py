"""Questions with one right and some wrong choices, drawn from held-out documents: the three built-in kinds.

Each kind is a function from documents to an endless-looking stream of drafts; documents take turns, so that
the first few hundred drafts come from as many documents as there are.
"""

from __future__ import annotations

import ast
import random
import re
import textwrap
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from flp_ray.data.prose import letter_share
from flp_ray.data.tokenizer import TextEncoder

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A question before its choices are shuffled.

    Attributes:
        question: What stands before the choices; may be empty.
        right: The right choice; follows the question after one space.
        wrong: The other choices.
    """

    question: str
    right: str
    wrong: tuple[str, ...]


# Shares of a sequence: 56 and 28 of 128 tokens, short enough that many items are cheap to score.
CONTEXT_SHARE = 0.44
CHOICE_SHARE = 0.22
CHOICES = 4

_SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
_WORD_END = re.compile(r"(?<=\S)(?=\s|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    text: int  # index of its document
    context: str
    choice: str
    tokens: int = 0  # of the choice


def continuations(
    texts: Sequence[str], encoder: TextEncoder, rng: random.Random, *, sequence_length: int, wanted: int
) -> Iterator[Draft]:
    """Drafts of four ways to go on; the wrong ones are how other places of the same domain go on.

    All four choices have almost the same number of tokens, and each is the right one somewhere, so neither
    length nor the choice by itself gives the answer away.

    Args:
        texts: Documents.
        encoder: The study's tokenizer.
        rng: Draws the wrong choices.
        sequence_length: Tokens per sequence; sets the size of contexts and choices.
        wanted: Drafts that will be used, about.
    """
    sample = [text[:4000] for text in texts[:200]]
    tokens = sum(encoder.lengths(sample))
    per_token = sum(map(len, sample)) / max(tokens, 1)
    context, choice = CONTEXT_SHARE * sequence_length * per_token, CHOICE_SHARE * sequence_length * per_token
    found = _in_turn([_windows(at, text, int(context), int(choice)) for at, text in enumerate(texts)])
    windows = _first(found, 3 * wanted + 64)
    lengths = encoder.lengths([" " + window.choice for window in windows])
    target = CHOICE_SHARE * sequence_length
    kept = [
        _Window(text=w.text, context=w.context, choice=w.choice, tokens=n)
        for w, n in zip(windows, lengths, strict=True)
        if 0.8 * target <= n <= 1.25 * target
    ]
    by_length: defaultdict[int, list[_Window]] = defaultdict(list)
    for window in kept:
        by_length[window.tokens].append(window)
    for window in kept:
        wrong = _others(window, by_length, rng)
        if wrong is not None:
            yield Draft(question=window.context, right=window.choice, wrong=wrong)


def _windows(index: int, text: str, context: int, choice: int) -> Iterator[_Window]:
    """Pairs of a context and what follows it, of about so many characters, one after the other."""
    start = 0
    while True:
        cut = _SINGLE_SPACE.search(text, start + context)
        end = _WORD_END.search(text, cut.end() + choice) if cut else None
        if cut is None or end is None:
            return
        window = _Window(text=index, context=text[start : cut.start()].strip(), choice=text[cut.end() : end.start()])
        short = len(window.context) < 1.3 * context and len(window.choice) < 1.3 * choice
        if short and len(window.choice.split()) >= 4 and letter_share(window.choice) >= 0.6:
            yield window
            start = end.start()
        else:
            start = (_SINGLE_SPACE.search(text, start + context // 4) or cut).end()  # a table or a rule; look on


def _others(window: _Window, by_length: dict[int, list[_Window]], rng: random.Random) -> tuple[str, ...] | None:
    """Choices of other documents with the same number of tokens, or one more or less; None where too few."""
    near = [other for step in (0, 1, -1) for other in by_length.get(window.tokens + step, [])]
    same = len(by_length[window.tokens])
    pool = rng.sample(near[:same], same) if same > 3 * CHOICES else rng.sample(near, len(near))
    wrong: list[str] = []
    for other in pool:
        if other.text != window.text and other.choice != window.choice and other.choice not in wrong:
            wrong.append(other.choice)
        if len(wrong) == CHOICES - 1:
            return tuple(wrong)
    return None


_SENTENCE_GAP = re.compile(r"(?<=[.!?:]) (?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][a-z]*[ ,'][\w ,;'()\-\"]*\w[)\"]?[.!?]")
_PLAIN_WORD = re.compile(r"[a-z]+")
MIN_WORDS, MAX_WORDS = 8, 20


def word_orders(texts: Sequence[str], rng: random.Random) -> Iterator[Draft]:
    """Drafts of a sentence beside itself with two neighbouring words swapped.

    The question is the sentence before it in the same paragraph, or empty.

    Args:
        texts: Documents.
        rng: Draws the words.
    """
    return _in_turn([_word_orders(text, rng) for text in texts])


def _word_orders(text: str, rng: random.Random) -> Iterator[Draft]:
    for paragraph in _paragraphs(text):
        before = ""
        for sentence in _SENTENCE_GAP.split(paragraph):
            words = sentence.split(" ")
            if MIN_WORDS <= len(words) <= MAX_WORDS and _SENTENCE.fullmatch(sentence):
                swapped = _swapped(words, rng)
                if swapped is not None:
                    yield Draft(question=before, right=sentence, wrong=(swapped,))
            before = sentence if _SENTENCE.fullmatch(sentence) else ""


def _paragraphs(text: str) -> Iterator[str]:
    """Neighbouring lines of the same indentation, each run on one line."""
    for _, lines in groupby(text.split("\n"), key=lambda line: len(line) - len(line.lstrip()) if line else -1):
        yield " ".join(" ".join(lines).split())


def _swapped(words: list[str], rng: random.Random) -> str | None:
    """The sentence with two plain lower-case neighbours swapped, so that no capital or comma moves."""
    places = [
        at
        for at in range(1, len(words) - 1)
        if _PLAIN_WORD.fullmatch(words[at]) and _PLAIN_WORD.fullmatch(words[at + 1]) and words[at] != words[at + 1]
    ]
    if not places:
        return None
    at = rng.choice(places)
    return " ".join([*words[:at], words[at + 1], words[at], *words[at + 2 :]])


BRACKETS = "()[]{}"
MAX_LINES = 6
MIN_CODE_CHARACTERS = 40
TRIES = 4
"""Brackets that are tried for each way of spoiling."""


def code_syntaxes(
    texts: Sequence[str], encoder: TextEncoder, rng: random.Random, *, max_characters: int
) -> Iterator[Draft]:
    """Drafts of a piece of Python beside itself with one bracket spoiled: swapped, dropped or added.

    The right piece parses and the wrong one does not; both are tried. Of several wrong ones the nearest in tokens is
    taken, since spoiled brackets mostly take more of them and the shorter choice would give the answer away. The
    question is empty.

    Args:
        texts: Python sources, or parts of them.
        encoder: The study's tokenizer.
        rng: Draws pieces and brackets.
        max_characters: Longest piece.
    """
    return _in_turn([_code_syntaxes(text, encoder, rng, max_characters) for text in texts])


def _code_syntaxes(text: str, encoder: TextEncoder, rng: random.Random, max_characters: int) -> Iterator[Draft]:
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        for count in rng.sample(range(1, MAX_LINES + 1), MAX_LINES):
            piece = textwrap.dedent("\n".join(lines[at : at + count])).strip("\n")
            if not MIN_CODE_CHARACTERS <= len(piece) <= max_characters or not _is_code(piece):
                continue
            spoiled = _spoiled(piece, rng)
            if spoiled:
                length, *lengths = encoder.lengths([f" {choice}" for choice in (piece, *spoiled)])
                nearest = min(range(len(spoiled)), key=lambda i: abs(lengths[i] - length))
                yield Draft(question="", right=piece, wrong=(spoiled[nearest],))
                at += count
                break
        at += 1


def _is_code(piece: str) -> bool:
    """Whether it parses and holds more than a text or a name."""
    tree = _parsed(piece)
    return tree is not None and any(
        not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant | ast.Name | ast.Tuple)
        for node in tree.body
    )


def _parsed(piece: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            return ast.parse(piece)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the parser's own words for "too deep"
        return None


def _spoiled(piece: str, rng: random.Random) -> list[str]:
    """The piece with one bracket spoiled so that it no longer parses, in several ways; empty where no try spoils it."""
    found: list[str] = []
    places = [at for at, character in enumerate(piece) if character in BRACKETS]
    for edit in rng.sample(("swap", "drop", "add"), 3):
        for at in rng.sample(places, min(TRIES, len(places))):
            bracket = piece[at]
            # An opening bracket is swapped for another opening one, so that only the match is wrong.
            others = [b for b in BRACKETS[BRACKETS.index(bracket) % 2 :: 2] if b != bracket]
            put = {"swap": rng.choice(others), "drop": "", "add": bracket * 2}[edit]
            wrong = piece[:at] + put + piece[at + 1 :]
            if _parsed(wrong) is None:
                found.append(wrong)
    return found


def _in_turn(streams: Iterable[Iterator[T]]) -> Iterator[T]:
    """One of each stream, round after round, until all are at their end."""
    waiting = deque(streams)
    while waiting:
        stream = waiting.popleft()
        for value in stream:
            yield value
            waiting.append(stream)
            break


def _first(values: Iterator[T], count: int) -> list[T]:
    return [value for value, _ in zip(values, range(count), strict=False)]
