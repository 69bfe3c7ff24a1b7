"""A hub on loopback: what the Hugging Face hub's client needs of its protocol, a plain web server, and faults.

A repository is a dictionary of files at one commit. What goes wrong is set by `Hub.fault`, for one path or all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

HTML = b"<!DOCTYPE html><title>Log in</title><p>Welcome to the hotel's network."


@dataclass
class Repository:
    commit: str
    files: dict[str, bytes]
    gated: bool = False
    licence: str | None = None


@dataclass
class Hub:
    """What the server has, does wrong, and was asked for.

    fault: "cut" (once, after `cut_at` bytes), "always cut", "stall", "html", "circle", "wrong bytes", "refuse" (500);
    of all files, or with `fault_at` of those whose path ends so. slow: seconds a piece of 64 kB.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)  # of the plain web server, by path
    fault: str | None = None
    fault_at: str = ""
    cut_at: int = 1000
    slow: float = 0.0
    token: str = "hf_right"
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, files: dict[str, bytes], **options: object) -> Repository:
        content = hashlib.sha1(name.encode() + b"".join(k.encode() + v for k, v in sorted(files.items())))
        self.repositories[name] = Repository(content.hexdigest(), dict(files), **options)  # type: ignore[arg-type]
        return self.repositories[name]

    def fails(self, path: str, *faults: str) -> bool:
        return self.fault in faults and path.endswith(self.fault_at)


@contextlib.contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve a hub until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub, path = self.state, unquote(urlparse(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.fails(path, "circle"):
            # Relative, as the client follows by itself; to and fro, as no guard for "the same again" sees.
            self._plain(
                302, b"", {"Location": path.removeprefix("/again") if path.startswith("/again") else f"/again{path}"}
            )
        elif hub.fails(path, "html"):
            self._plain(200, HTML if body else b"", {"Content-Type": "text/html", "Content-Length": str(len(HTML))})
        elif hub.fails(path, "refuse"):
            self._plain(500, b"broken")
        elif path in hub.pages:
            self._send(path, hub.pages[path], {"Content-Type": "application/octet-stream"}, body)
        elif path.startswith("/api/models/"):
            self._describe(path.removeprefix("/api/models/").partition("/revision/"))
        else:
            self._resolve(path, body)

    def _describe(self, parts: tuple[str, str, str]) -> None:
        repository = self._repository(parts[0])
        if repository is None:
            return
        if parts[2] not in ("", "main", repository.commit):
            self._plain(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        card = {"license": repository.licence} if repository.licence else {}
        siblings = [{"rfilename": name} for name in repository.files]
        answer = {"id": parts[0], "modelId": parts[0], "sha": repository.commit, "siblings": siblings, "cardData": card}
        self._plain(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, path: str, body: bool) -> None:
        name, _, rest = path.strip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self._repository(name)
        if repository is None:
            return
        headers = {"X-Repo-Commit": repository.commit}
        if revision not in ("main", repository.commit):
            self._plain(404, b"", {**headers, "X-Error-Code": "RevisionNotFound"})
        elif file not in repository.files:
            self._plain(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
        else:
            content = repository.files[file]
            # A large file's ETag is its SHA-256, a small one's that of git.
            large = len(content) > 4096
            etag = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(content).hexdigest()
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))} if large else {}
            self._send(path, content, {**headers, "ETag": f'"{etag}"'}, body)

    def _repository(self, name: str) -> Repository | None:
        repository = self.state.repositories.get(name)
        if repository is None:
            self._plain(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository.gated and self.headers.get("Authorization") != f"Bearer {self.state.token}":
            self._plain(403, b"", {"X-Error-Code": "GatedRepo"})
            return None
        return repository

    def _send(self, path: str, content: bytes, headers: dict[str, str], body: bool) -> None:
        hub = self.state
        if hub.fails(path, "wrong bytes"):
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        start, status = 0, 200
        asked = self.headers.get("Range")
        if asked and body:
            hub.ranges.append(f"{path} {asked}")
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(content):
                self._plain(416, b"")
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        end = len(content)
        if hub.fails(path, "cut", "always cut", "stall"):
            end = min(end, start + hub.cut_at)
        with contextlib.suppress(ConnectionError):
            for at in range(start, end, 1 << 16):
                self.wfile.write(content[at : min(end, at + (1 << 16))])
                time.sleep(hub.slow)
            if end < len(content):
                self.wfile.flush()
                if hub.fault == "stall":
                    time.sleep(4)
                if hub.fault == "cut":
                    hub.fault = None
                self.close_connection = True
                self.connection.close()

    def _plain(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)
