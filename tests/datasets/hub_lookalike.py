"""A look-alike of the Hub on 127.0.0.1: enough of its protocol to download the files of one data set.

The files of a commit are listed at `/api/datasets/OWNER/NAME/tree/COMMIT` and, for older clients,
`/api/datasets/OWNER/NAME/revision/COMMIT`. A file is asked for at `/datasets/OWNER/NAME/resolve/COMMIT/FILE`, which
redirects to `/storage/FILE`, as the Hub does for large files. The storage can serve other bytes than announced.
"""

import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SMALL = 10_000  # bytes below which a file is no LFS object: its etag is the hash that git gives it


@dataclass
class Hub:
    """What the server holds, which bytes it replaces, and what it was asked for."""

    folder: Path
    repository: str
    commit: str
    address: str = ""
    storage: str = ""
    replaced: dict[str, bytes] = field(default_factory=dict)  # file: bytes served instead of those announced
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path

    def downloads(self, name):
        return self.requests.count(("GET", f"/storage/{name}"))

    def entry(self, name):
        content = (self.folder / name).read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": name, "rfilename": name, "size": len(content), "oid": git}
        if len(content) >= SMALL:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}
        return entry


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
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path))
            what, _, rest = path.removeprefix("/api").removeprefix(f"/datasets/{hub.repository}/").partition("/")
            commit, _, name = rest.partition("/")
            if path.startswith("/storage/"):
                name = path.removeprefix("/storage/")
                self.send(200, {}, hub.replaced.get(name, (hub.folder / name).read_bytes()))
            elif commit != hub.commit:
                self.send(404, {"X-Error-Code": "RevisionNotFound"})
            elif what == "resolve" and (hub.folder / name).is_file():
                entry = hub.entry(name)
                announced = {
                    "Location": f"{hub.storage}/storage/{name}",
                    "X-Repo-Commit": hub.commit,
                    "X-Linked-Size": str(entry["size"]),
                    "X-Linked-Etag": f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"',
                }
                self.send(302, announced)
            elif what in ("tree", "revision"):
                files = [hub.entry(path.name) for path in sorted(hub.folder.iterdir())]
                listing = files if what == "tree" else {"id": hub.repository, "sha": hub.commit, "siblings": files}
                self.send(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
            else:
                self.send(404, {"X-Error-Code": "EntryNotFound"})

        def send(self, status, headers, body=b""):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


@contextmanager
def serve(folder, repository, commit):
    """Serve a folder as a data set; the storage is another server, as the Hub's is another host."""
    hub = Hub(Path(folder), repository, commit)
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
