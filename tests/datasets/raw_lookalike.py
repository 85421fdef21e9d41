"""A look-alike of raw.githubusercontent.com on 127.0.0.1: files of one commit, in ranges, and with faults on demand."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from embedllm.datasets.real_pools import PoolFile, _hash_of


@dataclass
class Fault:
    """What the server does instead, the first `times` times that a file is asked for."""

    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # bytes after which the connection is closed
    body: bytes | None = None


@dataclass
class Raw:
    """What the server holds, its faults by path, and what it was asked for."""

    folder: Path
    prefix: str
    address: str = ""
    ranges: bool = True
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, range

    def files(self):
        """The list of its files, as a pool has it."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [
            PoolFile(path.relative_to(self.folder).as_posix(), _hash_of(path), path.stat().st_size) for path in paths
        ]


def handler(raw):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            name = unquote(self.path).removeprefix(raw.prefix)
            wanted = self.headers.get("Range")
            raw.requests.append((name, wanted))
            fault = raw.faults.get(name)
            if fault and fault.times:
                fault.times -= 1
            else:
                fault = None
            path = raw.folder / name
            if not unquote(self.path).startswith(raw.prefix) or not path.is_file():
                self.answer(404, {}, b"404: Not Found")
            elif fault and fault.status:
                self.answer(fault.status, fault.headers, b"busy")
            else:
                body = path.read_bytes() if fault is None or fault.body is None else fault.body
                start = int(wanted[6:-1]) if wanted and raw.ranges else 0
                if start and start >= len(body):
                    self.answer(416, {}, b"")
                else:
                    self.answer(206 if start else 200, {}, body[start:], fault.cut if fault else None)

        def answer(self, status, headers, body, cut=None):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])

    return Handler


@contextmanager
def serve(folder, repository, commit):
    raw = Raw(Path(folder), f"/{repository}/{commit}/")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(raw))
    raw.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield raw
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
