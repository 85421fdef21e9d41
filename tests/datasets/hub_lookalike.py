"""A look-alike of the Hub on 127.0.0.1: enough of its protocol to download the files of one data set.

A file is asked for at `/datasets/OWNER/NAME/resolve/REVISION/FILE`, which redirects to `/storage/...`, as the Hub does
for large files. The storage honours `Range`, and can be told to pause, to cut a body short or to serve other bytes.
"""

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "266ae3e0000000000000000000000000000000ff"  # made up, but for its beginning


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked for."""

    folder: Path
    repository: str
    address: str = ""
    storage: str = ""
    cut: dict[str, list[int]] = field(default_factory=dict)  # file: bytes to send before hanging up, one a request
    forged: dict[str, bytes] = field(default_factory=dict)  # file: bytes served instead of those announced
    pause_after: dict[str, int] = field(default_factory=dict)  # file: bytes to send before waiting to be resumed
    paused: threading.Event = field(default_factory=threading.Event)
    resumed: threading.Event = field(default_factory=threading.Event)
    commit: str = COMMIT
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range

    def downloads(self, name):
        return [
            byte_range for method, path, byte_range in self.requests if method == "GET" and path == f"/storage/{name}"
        ]


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            hub.requests.append((self.command, self.path, self.headers.get("Range")))
            resolve = f"/datasets/{hub.repository}/resolve/"
            if self.path.startswith(resolve):
                self.redirect(self.path[len(resolve) :].partition("/")[2])
            elif self.path.startswith("/storage/"):
                self.send(self.path.removeprefix("/storage/"))
            else:
                self.refuse(404)

        def redirect(self, name):
            path = hub.folder / name
            if not path.is_file():
                return self.refuse(404, {"X-Error-Code": "EntryNotFound"})
            self.send_response(302)
            self.send_header("Location", f"{hub.storage}/storage/{name}")
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("X-Linked-Size", str(path.stat().st_size))
            content = path.read_bytes()
            # Small files are no LFS objects: their etag is the hash that git gives them.
            small = len(content) < 10_000
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content) if small else hashlib.sha256(content)
            self.send_header("X-Linked-Etag", f'"{digest.hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, name):
            body = hub.forged.get(name, (hub.folder / name).read_bytes())
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if "Range" in self.headers else 200)
            if "Range" in self.headers:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            if name in hub.pause_after:
                self.wfile.write(body[: hub.pause_after[name]])
                hub.paused.set()
                hub.resumed.wait(timeout=60)
                self.close_connection = True
                return
            end = start + hub.cut[name].pop(0) if hub.cut.get(name) else len(body)
            self.wfile.write(body[start:end])
            self.close_connection = end < len(body)

        def refuse(self, status, headers=()):
            self.send_response(status)
            for key, value in dict(headers).items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@contextmanager
def serve(folder, repository):
    """Serve a folder as a data set; the storage is another server, as the Hub's is another host."""
    hub = Hub(Path(folder), repository)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) for _ in range(2)]
    hub.address, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
