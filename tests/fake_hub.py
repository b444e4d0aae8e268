"""A local server with as much of the Hugging Face hub's protocol as its library needs."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class FakeHub:
    """One file, and the faults with which it is served."""

    body: bytes
    stated_sha256: str = ""
    status: int = 200
    cut_after: int | None = None  # bytes until the first answer breaks off
    status_after_cut: int = 200
    requests: list[str] = field(default_factory=list)  # method, path and range

    def __post_init__(self) -> None:
        self.stated_sha256 = hashlib.sha256(self.body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def __init__(self, fake: FakeHub, *arguments: object) -> None:
        self.fake = fake
        super().__init__(*arguments)

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_file()

    def do_GET(self) -> None:
        rest = self.send_file()
        cut, self.fake.cut_after = self.fake.cut_after, None
        self.wfile.write(rest[:cut])
        if cut is not None:
            self.fake.status = self.fake.status_after_cut
            self.connection.close()

    def send_file(self) -> bytes:
        wanted = self.headers.get("Range")
        self.fake.requests.append(" ".join(filter(None, (self.command, self.path, wanted))))
        known = self.path == "/botaoye/NoPoSplat/resolve/main/re10k.ckpt"
        status = self.fake.status if known else 404
        start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
        rest = self.fake.body[start:] if status == 200 else b""
        self.send_response(206 if wanted and status == 200 else status)
        self.send_header("X-Repo-Commit", self.fake.stated_sha256[:40])
        self.send_header("ETag", f'"{self.fake.stated_sha256}"')
        self.send_header("Content-Length", str(len(rest)))
        if wanted:
            total = len(self.fake.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if status == 404:
            self.send_header("X-Error-Code", "EntryNotFound" if "re10k" in self.path else "")
        self.end_headers()
        return rest


@contextmanager
def served(fake: FakeHub) -> Iterator[str]:
    """Serve the hub, and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, fake))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
