"""The built-in texts: what the installation brings along. Files are parsed, never imported."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import platform
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from flp_ray.data.config import Builtin
from flp_ray.data.documents import Document, hash64
from flp_ray.data.prose import letter_share, prose

GENERAL_PACKAGES = (
    "accelerate", "datasets", "huggingface_hub", "jinja2", "matplotlib", "networkx", "numpy", "optuna",
    "pandas", "peft", "pydantic", "ray", "sklearn", "sqlalchemy", "torch", "transformers",
)  # fmt: skip
"""Packages that flp_ray depends on, directly or not; scipy and sympy are domains of their own."""

MIN_DOCSTRING_CHARACTERS = 200
"""Shorter docstrings say little beyond their function's name."""

PIECE_CHARACTERS = 4000
"""A source file becomes documents of about this size, cut at top-level statements."""

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_SKIPPED = frozenset(
    [
        "test",
        "tests",
        "testing",
        "idlelib",
        "lib2to3",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "_vendor",
        "vendored_packages",
        "thirdparty_files",
        "pydoc_data",
        "encodings",
        "turtledemo",
        "lib-dynload",
        "distutils",
        "msilib",
    ]
)
"""Folders left out: tests, copies of other packages, tables of character sets, and the topics (a domain)."""


def builtin_documents(builtin: Builtin) -> Iterator[Document]:
    """The documents of one built-in text, in an order that is the same on every machine.

    Files are taken by the hash of their relative path, so that the first part of the stream is a sample of
    all packages. The pieces or docstrings of one file form one group.

    Args:
        builtin: Which text.
    """
    if builtin == "code":
        yield from _code()
    elif builtin == "reference":
        yield from _topics()
    else:
        for path, relative in _package_files(_packages(builtin)):
            yield from _docstrings(path, relative)


def builtin_versions(builtin: Builtin) -> dict[str, str]:
    """Versions of everything that the text comes from: another version is another text."""
    if builtin in ("code", "reference"):
        return {"python": platform.python_version()}
    return {
        package: importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
        for package in _packages(builtin)
        if _package_folder(package) is not None
    }


def _packages(builtin: Builtin) -> tuple[str, ...]:
    return {"math": ("sympy",), "science": ("scipy",), "general": GENERAL_PACKAGES}[builtin]


def _package_folder(package: str) -> Path | None:
    """Where a package is installed; finding it does not import it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _package_files(packages: tuple[str, ...]) -> list[tuple[Path, str]]:
    """All .py files with their relative paths, by hash of the relative path."""
    found = [
        (path, f"{package}/{path.relative_to(folder).as_posix()}")
        for package in packages
        if (folder := _package_folder(package)) is not None
        for path in folder.rglob("*.py")
        if not _SKIPPED.intersection(path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda file: hash64(file[1], salt="order"))


def _code() -> Iterator[Document]:
    folder = Path(sysconfig.get_path("stdlib"))
    files = (path for path in folder.rglob("*.py") if not path.name.startswith("_sysconfigdata"))
    kept = [p for p in files if not any(x in _SKIPPED or x.startswith("config-") for x in p.relative_to(folder).parts)]
    for path in sorted(kept, key=lambda p: hash64(p.relative_to(folder).as_posix(), salt="order")):
        relative = path.relative_to(folder).as_posix()
        for number, piece in enumerate(_pieces(_read(path))):
            yield Document(id=f"{relative}#{number}", text=piece, group=relative)


def _read(path: Path) -> str:
    """A Python file's text by its own coding line; empty where it cannot be decoded."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError):
        return ""


def _pieces(source: str) -> Iterator[str]:
    """Cuts a source file before top-level lines, and, within very long blocks, at blank lines."""
    piece: list[str] = []
    size = 0
    blank = True
    for line in source.splitlines(keepends=True):
        top_level = blank and not line[0].isspace() and line[0] not in ")]}\"'"
        if (size > PIECE_CHARACTERS and top_level) or (size > 2 * PIECE_CHARACTERS and blank and line.strip()):
            yield "".join(piece).strip("\n")
            piece, size = [], 0
        piece.append(line)
        size += len(line)
        blank = not line.strip()
    if "".join(piece).strip():
        yield "".join(piece).strip("\n")


def _docstrings(path: Path, relative: str) -> Iterator[Document]:
    """The prose of the docstrings of one file, in the order of the file."""
    source = _read(path)
    if '"""' not in source and "'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes are not our warnings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return  # a template or a file for another Python
    for number, docstring in enumerate(_docstrings_below(tree)):
        if len(docstring) < MIN_DOCSTRING_CHARACTERS:
            continue
        text = prose(docstring)
        if len(text) >= MIN_DOCSTRING_CHARACTERS and letter_share(text) >= 0.7:
            yield Document(id=f"{relative}#{number}", text=text, group=relative)


def _docstrings_below(node: ast.AST) -> Iterator[str]:
    """Docstrings of a module, its classes and functions; bodies of functions are not searched."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None:
            yield docstring
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for child in node.body:
                yield from _docstrings_below(child)


@functools.cache
def _topic_texts() -> dict[str, str]:
    from pydoc_data.topics import topics

    return dict(topics)


def _topics() -> Iterator[Document]:
    for name, text in sorted(_topic_texts().items(), key=lambda topic: hash64(topic[0], salt="order")):
        yield Document(id=name, text=text.strip(), group=name)
