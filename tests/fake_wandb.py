"""A W&B server on this machine that remembers what arrives; its faults are switched by the test."""

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.fake_graphql import Backend


def clock() -> float:
    """Seconds that go on as long as this thread has a processor or waits for something else than one.

    So it does not count what other programs cost. As `time.monotonic` where the system does not tell.
    """
    delays = Path("/proc/thread-self/schedstat")
    return time.monotonic() - (int(delays.read_text().split()[1]) / 1e9 if delays.is_file() else 0.0)


class FakeWandb(Backend):
    """Listens at `url` until `go_away`, and again after `start`."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[float, str, int]] = []  # when, what, status; 0: none came back
        self.unknown: set[str] = set()  # GraphQL operations that nobody answers here
        self.fault: dict[str, Any] = {}
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen, at the same port as before."""
        self.ended = threading.Event()
        self._http = _Server(self)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def go_away(self) -> None:
        """Cut what is open, and refuse every connection from now on."""
        self._end_fault()
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """That in which W&B is logged in here, and tries again soon."""
        waits = {
            f"WANDB_X_{kind}_RETRY_WAIT_MIN_SECONDS": "0.1" for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
        }
        login = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_CONSOLE": "off"}
        return {**login, **waits, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2"}

    @contextmanager
    def failing(self, paths: str = ".*", **fault: Any) -> Iterator[None]:
        """Within, requests that match `paths` get a `status`, or an answer `delay` seconds late, or none (`hang`)."""
        self.fault = {"paths": paths, "status": 200, "delay": 0.0, "hang": False, **fault}
        try:
            yield
        finally:
            self._end_fault()

    def _end_fault(self) -> None:
        self.fault = {}
        self.ended.set()
        self.ended = threading.Event()

    def status(self, what: str) -> int:
        """What the present fault makes of a request: 200, another status, or 0 after a hang."""
        fault, ended = self.fault, self.ended
        if not fault or not re.search(fault["paths"], what):
            status = 200
        elif fault["hang"]:
            ended.wait()
            status = 0
        else:
            ended.wait(fault["delay"])
            status = fault["status"]
        self.requests.append((time.monotonic(), what, status))
        return status

    def count(self, what: str, status: int = 200) -> int:
        """How many requests that match `what` were answered with the status."""
        return sum(bool(re.search(what, name)) and code == status for _, name, code in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, backend: FakeWandb) -> None:
        self.backend = backend
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", backend.port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that has gone away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        else:
            data = b"".join(self._chunks())
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def reply(self, status: int, content: Any) -> None:
        if not status:
            self.close_connection = True
            return
        data = json.dumps(content if status == 200 else {"errors": [{"message": "as the test wants"}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.reply(self.server.backend.status("GET"), {})

    def do_PUT(self) -> None:
        data, path = self.body(), unquote(self.path).removeprefix("/storage/")
        if (status := self.server.backend.status(f"PUT {path}")) == 200:
            with self.server.backend.lock:
                self.server.backend.keep(*path.split("/", 2), data)
        self.reply(status, {})

    def do_POST(self) -> None:
        sent, path = json.loads(self.body() or b"{}"), unquote(self.path)
        if path == "/graphql":
            return self._graphql(sent)
        if (status := self.server.backend.status("stream")) == 200:
            with self.server.backend.lock:
                self.server.backend.stream(path.split("/")[4], sent)
        return self.reply(status, {"exitcode": None, "limits": {}})

    def _graphql(self, sent: dict[str, Any]) -> None:
        named = re.search(r"(?:query|mutation)\s+(\w+)", sent["query"])
        operation = sent.get("operationName") or (named[1] if named else "")
        backend, variables = self.server.backend, sent.get("variables") or {}
        status = backend.status(f"graphql {operation}")
        answer = getattr(backend, operation, None)
        if status != 200 or answer is None or not operation[:1].isupper():
            backend.unknown |= {operation} if status == 200 else set()
            return self.reply(status, {"errors": [{"message": f"unknown operation {operation}"}]})
        with backend.lock:
            return self.reply(status, {"data": answer(variables.get("input") or variables)})
