"""Prose of docstrings: examples, code and markup taken out, sentences left in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

_DOCTEST = re.compile(r"\s*(>>>|In \[\d+\]:)")
_FENCE = re.compile(r"\s*(```|~~~)")
_DIRECTIVE = re.compile(r"\s*\.\. +([\w:+-]+?)::")
_RST_COMMENT = re.compile(r"\s*\.\.( |$)")
_RULE = re.compile(r"""\s*[-=~^"*#+_`.|:<>/\\ ]{3,}$""")
_TABLE = re.compile(r"\s*(\||\+[-=+]+)")
_EXAMPLE_HEADING = re.compile(r"\s*#*\s*(examples?|usages?|sample usage|example usage)\s*:*\s*$", re.IGNORECASE)
_CODE = re.compile(
    r"\s*(\.\.\. |\$ |@\w|#!|import \w|from [\w.]+ import |def \w+\(|class \w+(\(.*\))?:$"
    r"|return [\w.]+\(|print\(|raise \w+\(|with .* as \w+:$|for \w+(, \w+)* in .*:$"
    r"|(if|elif|while) .*[=()<>].*:$|else:$|try:$|except\b.*:$"
    r"|[\w.\[\]'\"]+(, ?[\w.]+)* [-+*/]?= \S|[\w.]+\(.*\)$|[\])}]+,?$|[\w.]+\($)"
)
_ROLE = re.compile(r":[a-zA-Z][\w:+-]*:`[~!]?([^`<]*?)\s*(?:<[^`>]*>)?`")
_CITATION = re.compile(r"\s?\[[\w#*]+\]_(?!\w)")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{1,2}")
_HF_LINK = re.compile(r"\[`~?([^`\]]+)`\](?:\([^)]*\))?")
_MARKDOWN_LINK = re.compile(r"\[([^\]]+)\]\((?:https?:|\.|#|/)[^)]*\)")
_TAG = re.compile(r"</?[a-zA-Z][\w-]*(?: [^<>]*)?/?>")
_BLANKS = re.compile(r"\n{3,}")
_BODY_KEPT = frozenset(
    [
        "note",
        "notes",
        "warning",
        "warnings",
        "important",
        "caution",
        "tip",
        "hint",
        "danger",
        "attention",
        "error",
        "seealso",
        "versionadded",
        "versionchanged",
        "versionremoved",
        "deprecated",
        "admonition",
        "topic",
        "rubric",
        "math",
    ]
)


def prose(docstring: str) -> str:
    """The prose of one docstring.

    Doctests with their outputs, code blocks, tables, underlines and lines that look like code are left out;
    section names stay where text follows them; Sphinx and Markdown roles become their bare names.

    Args:
        docstring: As it stands in the source, indentation included.

    Returns:
        The prose, without leading or trailing blank lines; empty where nothing is left.
    """
    lines = [line.rstrip() for line in inspect.cleandoc(docstring).split("\n")]
    kept = _without_empty_headings(list(_lines_of_prose(lines)))
    return _BLANKS.sub("\n\n", _plain("\n".join(kept))).strip()


def letter_share(text: str) -> float:
    """Share of letters among the characters that are not white space, 0 to 1; 0 for blank text."""
    dense = "".join(text.split())
    return sum(map(str.isalpha, dense)) / len(dense) if dense else 0.0


def _lines_of_prose(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Yields (line, whether it is a heading) of what is prose."""
    at = 0
    while at < len(lines):
        line = lines[at]
        following = lines[at + 1] if at + 1 < len(lines) else ""
        directive = _DIRECTIVE.match(line)
        if _DOCTEST.match(line):
            at = _next_blank(lines, at)
        elif _FENCE.match(line):
            at = _fence_end(lines, at)
        elif directive and directive[1] not in _BODY_KEPT:
            at = _block_end(lines, at)
            yield "", False
        elif directive or _RST_COMMENT.match(line) or _RULE.match(line) or _TABLE.match(line):
            at += 1
        elif line and _RULE.match(following) and following.strip() and not following.startswith(" "):
            yield line, True
            at += 2
        elif _EXAMPLE_HEADING.match(line):
            yield line.rstrip(":"), True
            at += 1
        elif line.endswith("::"):
            yield line[:-1], False
            yield "", False
            at = _block_end(lines, at)
        else:
            if not line or not (_CODE.match(line) or letter_share(line) < 0.5):
                yield line, False
            at += 1


def _next_blank(lines: list[str], at: int) -> int:
    """Index of the first blank line from `at` on: a doctest's output ends there."""
    while at < len(lines) and lines[at]:
        at += 1
    return at


def _fence_end(lines: list[str], at: int) -> int:
    """Index after the fence that closes the one at `at`."""
    for end in range(at + 1, len(lines)):
        if _FENCE.match(lines[end]):
            return end + 1
    return len(lines)


def _block_end(lines: list[str], at: int) -> int:
    """Index of the first line after `at` that is neither blank nor indented deeper."""
    indent = _indent(lines[at])
    end = at + 1
    while end < len(lines) and (not lines[end] or _indent(lines[end]) > indent):
        end += 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _without_empty_headings(lines: list[tuple[str, bool]]) -> list[str]:
    """Drops headings that no text follows before the next heading or the end."""
    kept: list[str] = []
    followed = False
    for line, heading in reversed(lines):
        if not heading:
            followed = followed or bool(line.strip())
        if not heading or followed:
            kept.append(line)
        if heading:
            followed = False
    return kept[::-1]


def _plain(text: str) -> str:
    """Takes the markup off words."""
    text = _ROLE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _HF_LINK.sub(r"\1", text)
    text = _MARKDOWN_LINK.sub(r"\1", text)
    text = _CITATION.sub("", text)
    text = _TAG.sub("", text)
    return text.replace("`", "")
