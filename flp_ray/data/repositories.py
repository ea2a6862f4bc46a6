"""Files of a data set on the Hugging Face hub: which there are, and which of them a text is made of."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from flp_ray.core.hub import HUB_VARIABLE, local_copy
from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import hash64
from flp_ray.data.network import network_errors
from flp_ray.data.parts import COMPRESSED, KINDS, Part, kind_of, opened
from flp_ray.errors import TextError

LISTING = ".flp_ray.json"
"""In a local copy: bytes of every file of the repository, whether it has been fetched or not, and of its URLs."""

CONTENTS = ".contents"
"""In a local copy: folder of the contents that were fetched for files of ids."""

_SPLITS = {"train": "train|training", "validation": "validation|valid|val|dev", "test": "test|testing|eval"}
_DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A data set of the hub, or a local copy of it.

    Attributes:
        name: Its id, e.g. `allenai/c4`.
        copy: The local copy; with one, nothing is asked of the hub.
    """

    name: str
    copy: Path | None

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by name, and of URLs where a local copy knows them."""
        if self.copy is None:
            return listed_sizes(self.name)
        if (self.copy / LISTING).exists():
            return {str(name): int(size) for name, size in json.loads((self.copy / LISTING).read_text()).items()}
        found = {path.relative_to(self.copy): path for path in self.copy.rglob("*") if path.is_file()}
        shown = {name: path for name, path in found.items() if not any(part.startswith(".") for part in name.parts)}
        return {name.as_posix(): path.stat().st_size for name, path in sorted(shown.items())}

    def place(self, name: str) -> str:
        """Where a file, or the file behind a URL, is read."""
        if "://" in name:
            local = None if self.copy is None else self.copy / url_name(name)
            return str(local) if local is not None and local.exists() else name
        return f"hf://datasets/{self.name}/{name}" if self.copy is None else str(self.copy / name)

    def read_text(self, name: str) -> str:
        """A small text file."""
        with opened(self.place(name)) as file:
            return bytes(file.read()).decode()

    def parts(self, origin: TextOrigin, name: str) -> list[Part]:
        """The files of a text by hash of their names.

        Args:
            origin: Which of the data set's files.
            name: The source or domain, for messages.

        Raises:
            TextError: The data set cannot be listed, or no file matches.
        """
        try:
            sizes = self.sizes()
            names = self._urls(origin, name) if origin.urls is not None else _matched(self, origin, list(sizes), name)
            unknown = {file: self.place(file) for file in names if file not in sizes}
            found = url_sizes([place for place in unknown.values() if "://" in place])
            found |= {place: Path(place).stat().st_size for place in unknown.values() if "://" not in place}
        except network_errors() as error:
            raise unreachable(origin, name, error) from error
        sizes |= {file: found[place] for file, place in unknown.items()}
        parts = [self._part(file, sizes[file], contents=origin.contents is not None) for file in names]
        return sorted(parts, key=lambda part: (hash64(part.name, salt="order"), part.name))

    def _urls(self, origin: TextOrigin, name: str) -> list[str]:
        assert origin.urls is not None
        urls = [line.strip() for line in self.read_text(origin.urls).splitlines() if line.strip()]
        wrong = [url for url in urls if "://" not in url or kind_of(url) not in KINDS]
        if wrong or not urls:
            raise TextError(
                f"Text {name!r}: {origin.urls} of hub data set {self.name!r} lists {len(urls)} lines, of which "
                f"{wrong[:1]} is no URL of a file of {', '.join(KINDS)} (also with {', '.join(COMPRESSED)}). Name "
                "another file."
            )
        return urls

    def _part(self, name: str, size: int, *, contents: bool) -> Part:
        fetched = self.copy / CONTENTS / name if contents and self.copy is not None else None
        if fetched is not None and fetched.exists():
            return Part(name=name, place=str(fetched), size=size, fetched=True)
        return Part(name=name, place=self.place(name), size=size)


def hub_parts(origin: TextOrigin, name: str) -> list[Part]:
    """The files of a hub text, from the local copy where there is one.

    Raises:
        TextError: The data set cannot be listed, or no file matches.
    """
    assert origin.hub is not None
    return Repository(name=origin.hub, copy=local_copy(origin.hub)).parts(origin, name)


def unreachable(origin: TextOrigin, name: str, error: Exception) -> TextError:
    """The refusal of a data set that cannot be read."""
    return TextError(
        f"Text {name!r}: hub data set {origin.hub!r} (config {origin.hub_config or 'default'}, split {origin.split}) "
        f"cannot be loaded: {error}. Where the hub cannot be reached, fetch it beforehand on a machine that can: "
        f"`flp-ray data fetch STUDY --out DIR`, then set {HUB_VARIABLE}=DIR; or give the files as `files`."
    )


def listed_sizes(repository: str) -> dict[str, int]:
    """Bytes of every file of a data set as the hub lists them now."""
    from huggingface_hub import HfApi

    entries = HfApi().list_repo_tree(repository, repo_type="dataset", recursive=True)
    return {entry.path: int(entry.size) for entry in entries if hasattr(entry, "size")}


def url_sizes(urls: Sequence[str]) -> dict[str, int]:
    """Bytes behind each URL; a server is asked for many at a time.

    Raises:
        OSError: A server does not tell.
    """
    import fsspec  # type: ignore[import-untyped]

    if not urls:
        return {}
    fs, _ = fsspec.core.url_to_fs(urls[0])
    sizes = dict(zip(urls, fs.sizes([fs._strip_protocol(url) for url in urls]), strict=True))
    unknown = [url for url, size in sizes.items() if size is None]
    if unknown:
        raise OSError(f"the server does not tell how large {unknown[0]} is")
    return {url: int(size) for url, size in sizes.items()}


def url_name(url: str) -> str:
    """Where a URL's file stands in a local copy."""
    parts = urlsplit(url)
    return "urls/" + "/".join(part for part in (parts.netloc + parts.path).split("/") if part not in ("", ".", ".."))


def _matched(repository: Repository, origin: TextOrigin, names: list[str], name: str) -> list[str]:
    """Those files of a data set that a text is made of, by the patterns of `files` or the repository's own naming."""
    data = [file for file in names if kind_of(file) in KINDS and PurePosixPath(file).name not in _DESCRIPTIONS]
    if origin.files is not None:
        found = [file for file in data if any(fnmatchcase(file, pattern) for pattern in origin.files)]
        asked = f"matches {', '.join(origin.files)}"
    else:
        found = _by_own_naming(repository, origin, data, names)
        asked = f"is of config {origin.hub_config or 'default'} and split {origin.split}"
    if not found:
        raise TextError(
            f"Text {name!r}: no file of hub data set {origin.hub!r} {asked}; it holds {len(data)} files of text"
            f"{', e.g. ' + ', '.join(sorted(data)[:3]) if data else ''}. Set hub_config and split, or name the files: "
            "`files: [patterns]`, where * takes / too."
        )
    return found


def _by_own_naming(repository: Repository, origin: TextOrigin, data: list[str], names: list[str]) -> list[str]:
    described = _configs(repository.read_text("README.md")) if "README.md" in names else []
    wanted = origin.hub_config or "default"
    config = next((c for c in described if c.get("config_name") == wanted), None)
    if config is None and origin.hub_config is None:
        config = next((c for c in described if c.get("default")), described[0] if len(described) == 1 else None)
    patterns = _patterns(config or {}, origin.split)
    if patterns:
        return [file for file in data if any(fnmatchcase(file, pattern) for pattern in patterns)]
    folder = (config or {}).get("data_dir") or origin.hub_config
    if folder is not None:
        data = [file for file in data if f"/{folder}/" in f"/{file}"]
    # Files of the commonest kind: a table of counts beside parquet files is no text.
    kinds = Counter(kind_of(file) for file in data)
    data = [file for file in data if kind_of(file) == max(kinds, key=lambda kind: kinds[kind])]
    if any(_names_split(file, split) for file in data for split in _SPLITS):
        return [file for file in data if _names_split(file, origin.split)]
    return data if origin.split == "train" else []


def _configs(readme: str) -> list[dict[str, Any]]:
    """What the card of a data set says about its files."""
    import yaml

    card = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    value = yaml.safe_load(card[1]) if card else None
    configs = value.get("configs") if isinstance(value, dict) else None
    return [config for config in configs or () if isinstance(config, dict)]


def _patterns(config: dict[str, Any], split: str) -> list[str]:
    """Patterns of one split in a card's `data_files`: a pattern, a list of them, or a list by split."""
    given = config.get("data_files") or []
    found: list[str] = []
    for entry in given if isinstance(given, list) else [given]:
        if isinstance(entry, dict):
            if entry.get("split", "train") == split:
                path = entry.get("path", [])
                found += path if isinstance(path, list) else [path]
        elif split == "train":
            found.append(str(entry))
    return found


def _names_split(file: str, split: str) -> bool:
    words = _SPLITS.get(split, re.escape(split))
    return re.search(rf"(?:^|[^a-z0-9])(?:{words})(?:[^a-z0-9]|$)", file.lower()) is not None
