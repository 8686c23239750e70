"""A simulator as a process, a client for it, and a receiver of webhooks: each ended when its test ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

KEY = "key-of-the-tests"
HANDLERS = Path(__file__).resolve().parents[3] / "examples" / "handlers"
START = [sys.executable, "-c", "from celery_runpod._cli.simulator_command import simulator; simulator()"]


class Client:
    """RunPod's HTTP API, bare."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address = address
        self.process = process
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {KEY}"

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, f"{self.address}{path}", timeout=30, **options)

    def run(self, endpoint: str, given: Any = 1, **fields: Any) -> str:
        answer = self.send("POST", f"/v2/{endpoint}/run", json={"input": given, **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def runsync(self, endpoint: str, given: Any = 1, **fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.send("POST", f"/v2/{endpoint}/runsync", json={"input": given, **fields}).json()
        return found

    def status(self, endpoint: str, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.send("GET", f"/v2/{endpoint}/status/{job_id}").json()
        return found

    def state(self, endpoint: str, job_id: str) -> str:
        answer = self.send("GET", f"/v2/{endpoint}/status/{job_id}")
        return str(answer.json()["status"]) if answer.ok else str(answer.status_code)

    def health(self, endpoint: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self.send("GET", f"/v2/{endpoint}/health").json()
        return found

    def fault(self, kind: str, **fields: Any) -> str:
        answer = self.send("POST", "/_simulator/faults", json={"kind": kind, **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def jobs(self, endpoint: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.send("GET", f"/_simulator/jobs?endpoint={endpoint}").json()
        return found

    def counts(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self.send("GET", "/_simulator/requests").json()
        return found

    def reset(self) -> None:
        assert self.send("POST", "/_simulator/reset").ok


@contextmanager
def simulator(*arguments: str, env: Mapping[str, str] | None = None, log: Path | None = None) -> Iterator[Client]:
    """A simulator on a free port; ended by its process id."""
    with open(log or os.devnull, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*START, "--port", "0", *arguments],
            env={**os.environ, "RUNPOD_API_KEY": KEY, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("RunPod simulator ready at http://"), line
            yield Client(line.split()[-1], process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Receiver:
    """Webhooks that arrived, in order, and how to answer the next ones: a status, seconds to wait."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self.at: list[float] = []
        self.statuses: list[int] = []
        self.seconds: list[float] = []
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.raw]

    @property
    def ids(self) -> list[str]:
        return [body["id"] for body in self.bodies]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A web server for webhooks."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.raw.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            found.at.append(time.time())
            status = found.statuses.pop(0) if found.statuses else 200
            time.sleep(found.seconds.pop(0) if found.seconds else 0)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
