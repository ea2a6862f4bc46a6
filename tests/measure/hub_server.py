"""A folder of data sets served as the Hugging Face hub serves them, as far as downloads need it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0" * 40


@contextmanager
def serve(hub: Path, sent: list[str]) -> Iterator[str]:
    """Serves until left; `sent` gets the path of every file whose content was asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            return

        def do_HEAD(self):
            self._answer(content=False)

        def do_GET(self):
            self._answer(content=True)

        def _answer(self, *, content: bool):
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/datasets/"):
                owner, name, kind, *_ = [*path.removeprefix("/api/datasets/").split("/"), ""]
                place = hub / owner / name
                files = sorted(p for p in place.rglob("*") if p.is_file())
                names = [p.relative_to(place).as_posix() for p in files]
                if kind == "tree":
                    body = [_entry(p, n) for p, n in zip(files, names, strict=True)]
                else:
                    siblings = [{"rfilename": n} for n in names]
                    body = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "private": False}
                self._send(json.dumps(body).encode(), "application/json", content)
                return
            owner, name, _, _, *rest = [*path.removeprefix("/datasets/").split("/"), "", ""]
            inside = "/".join(rest).rstrip("/")
            file = hub / owner / name / inside
            if not path.startswith("/datasets/") or not file.is_file():
                self.send_error(404)
                return
            if content:
                sent.append(f"{owner}/{name}/{inside}")
            self._send(file.read_bytes(), "application/octet-stream", content)

        def _send(self, body: bytes, kind: str, content: bool):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if content:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _entry(path: Path, name: str) -> dict[str, object]:
    content = path.read_bytes()
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
