"""As much of the Hugging Face hub's web interface as fetching and reading files needs, on loopback."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789" * 4


class Handler(BaseHTTPRequestHandler):
    """Serves `<root>/<owner>/<name>/...` as data sets and models, and `<root>/plain/...` as plain files."""

    protocol_version = "HTTP/1.1"
    root: ClassVar[Path]
    requests: ClassVar[list[str]]
    cut: ClassVar[Callable[[str], bool]]

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self.requests.append(f"POST {self.path}")
        repository = re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/paths-info/.*", urlsplit(self.path).path)
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        names = json.loads(asked)["paths"] if asked.startswith(b"{") else re.findall(r"paths=([^&]*)", asked.decode())
        files = {entry["path"]: entry for entry in self._entries(repository[1])} if repository else {}
        self._json([files[name] for name in map(unquote, names) if name in files], body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        if tree := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/tree/.*", path):
            return self._json(self._entries(tree[1]), body=body)
        if info := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/.*)?", path):
            siblings = [{"rfilename": entry["path"]} for entry in self._entries(info[1])]
            value = {"id": info[1], "sha": COMMIT, "siblings": siblings, "tags": []}
            return self._json(value if siblings else None, body=body)
        if file := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/[^/]+/(.*)", path):
            return self._file(self.root / file[1] / file[2], body=body)
        return self._file(self.root / path.lstrip("/"), body=body)

    def _entries(self, repository: str) -> list[dict[str, Any]]:
        folder = self.root / repository
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return [
            {"type": "file", "path": p.relative_to(folder).as_posix(), "size": p.stat().st_size, "oid": _etag(p)}
            for p in files
        ]

    def _json(self, value: Any, *, body: bool) -> None:
        if value:
            return self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body=body)
        return self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body=body)

    def _file(self, path: Path, *, body: bool) -> None:
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
        data, headers = (
            path.read_bytes(),
            {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"},
        )
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, data, headers, body=body)
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self._send(206, data[start:stop], headers, body=body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body and self.cut(self.path):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(data)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serve(root: Path, cut: Callable[[str], bool] = lambda _path: False) -> Iterator[tuple[str, list[str]]]:
    """Serves a folder; gives the address, and the requests as they come.

    Args:
        root: The folder.
        cut: Asked with the path of each answer that has a body, whether its connection ends in the middle.
    """
    requests: list[str] = []
    handler = type("Bound", (Handler,), {"root": root, "requests": requests, "cut": staticmethod(cut)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
