"""A look-alike of the Hub on 127.0.0.1: enough of its protocol to download files, and to publish those of a model.

The files of a commit are listed at `/api/datasets/OWNER/NAME/tree/COMMIT` and, for older clients,
`/api/datasets/OWNER/NAME/revision/COMMIT`. A file is asked for at `/datasets/OWNER/NAME/resolve/COMMIT/FILE`, which
redirects to `/storage/FILE`, as the Hub does for large files. The storage can serve other bytes than announced.

For a model, `datasets/` is missing before the owner, and `/api/models` stands in the place of `/api/datasets`. It is
published in five steps: its repository is created, the client asks how to send each file, asks where to put the large
ones, puts them there, and sends a commit, which has the others.
"""

import base64
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

    folders: dict[str, Path]  # by `datasets/OWNER/NAME`, or `OWNER/NAME` of a model
    commit: str
    address: str = ""
    storage: str = ""
    replaced: dict[str, bytes] = field(default_factory=dict)  # file: bytes served instead of those announced
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path
    large: dict[str, bytes] = field(default_factory=dict)  # what was put into the storage, by its sha256
    commits: list[list[str]] = field(default_factory=list)  # the kinds of change in each

    def downloads(self, name):
        return self.requests.count(("GET", f"/storage/{name}"))

    def entry(self, path, name):
        content = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": name, "rfilename": name, "size": len(content), "oid": git}
        if len(content) >= SMALL:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def take(self, repository, lines):
        """Make the changes of a commit."""
        header, *changes = [(line["key"], line["value"]) for line in lines]
        assert header[1]["summary"]
        self.commits.append(sorted(kind for kind, _ in changes))
        for kind, change in changes:
            path = self.folders[repository] / change["path"]
            if kind == "deletedFile":
                path.unlink()
            else:
                content = self.large[change["oid"]] if kind == "lfsFile" else base64.b64decode(change["content"])
                path.write_bytes(content)


def handler(hub, uploads):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def do_PUT(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            hub.large[self.path.removeprefix("/upload/")] = content
            self.send(200, {})

        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            lines = [json.loads(line) for line in content.splitlines()]
            hub.requests.append(("POST", self.path))
            if self.headers.get("Authorization") != "Bearer hf_secret":
                self.send(401, {}, b'{"error": "Invalid username or password."}')
            elif self.path == "/api/repos/create":
                repository = f"{lines[0]['organization']}/{lines[0]['name']}"
                hub.folders.setdefault(repository, uploads / repository).mkdir(parents=True, exist_ok=True)
                self.send_json({"url": f"{hub.address}/{repository}"})
            elif self.path == "/api/validate-yaml":
                self.send_json({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                asked = [file["path"] for file in lines[0]["files"]]
                modes = [("lfs" if name.endswith(".safetensors") else "regular") for name in asked]
                both = zip(asked, modes, strict=True)
                self.send_json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in both]})
            elif self.path.endswith(".git/info/lfs/objects/batch"):
                places = [{"upload": {"href": f"{hub.storage}/upload/{each['oid']}"}} for each in lines[0]["objects"]]
                both = zip(lines[0]["objects"], places, strict=True)
                objects = [{"oid": each["oid"], "size": each["size"], "actions": place} for each, place in both]
                self.send_json({"transfer": "basic", "objects": objects})
            else:
                repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
                hub.take(repository, lines)
                self.send_json({"commitUrl": f"{hub.address}/{repository}/commit/1", "commitOid": hub.commit})

        def answer(self):
            path, _, query = self.path.partition("?")
            hub.requests.append((self.command, path))
            whole = path.removeprefix("/api").removeprefix("/models").removeprefix("/")
            repository = next((each for each in hub.folders if whole.startswith(f"{each}/")), "")
            what, _, rest = whole.removeprefix(f"{repository}/").partition("/")
            commit, _, name = rest.partition("/")
            if path.startswith("/storage/"):
                name = path.removeprefix("/storage/")
                self.send(200, {}, hub.replaced.get(name, (hub.folders[query] / name).read_bytes()))
            elif not repository or commit not in (hub.commit, "main"):
                self.send(404, {"X-Error-Code": "RevisionNotFound" if repository else "RepoNotFound"})
            elif what == "resolve" and (file := hub.folders[repository] / name).is_file():
                entry = hub.entry(file, name)
                announced = {
                    "Location": f"{hub.storage}/storage/{name}?{repository}",
                    "X-Repo-Commit": hub.commit,
                    "X-Linked-Size": str(entry["size"]),
                    "X-Linked-Etag": f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"',
                }
                self.send(302, announced)
            elif what in ("tree", "revision"):
                folder = hub.folders[repository]
                paths = sorted(path for path in folder.rglob("*") if path.is_file())
                files = [hub.entry(path, path.relative_to(folder).as_posix()) for path in paths]
                self.send_json(files if what == "tree" else {"id": repository, "sha": hub.commit, "siblings": files})
            else:
                self.send(404, {"X-Error-Code": "EntryNotFound"})

        def send_json(self, value):
            self.send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

        def send(self, status, headers, body=b""):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


@contextmanager
def serve(folders, commit, uploads=None):
    """Serve folders by repository; the storage is another server, as the Hub's is another host."""
    hub = Hub({name: Path(folder) for name, folder in folders.items()}, commit)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(hub, uploads)) for _ in range(2)]
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
