"""Runs the blocks of a page of the docs in their order, as a reader does, in the current folder.

    python page_driver.py < steps.json

Uses the standard library alone, because a reader's environment has nothing of the tests. A step is a dict of
`language`, `title`, `text` and `line`:

- with a title: written to that file; with "(at the end)" behind its name, added to it;
- `python`: executed, all in one namespace;
- `sh`: given to bash; variables and the current folder stay for the next. A command that serves (`SERVERS`) is started;
  the next comes when it says that it is ready; all of them are ended at the end;
- `text`: must be in what the step before has written, where `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SERVERS = {
    r"celery-runpod dev\b": "Ctrl-C stops everything",
    r"celery-runpod (worker|webhooks|simulator)\b": r" ready\.| ready at ",
    r"celery -A \S+ worker\b": r" ready\.",
    r"celery -A \S+ beat\b": r"beat: Starting",
    r"flask --app \S+ run\b": r"Running on",
    r"python manage\.py runserver\b": r"Quit the server|Starting development server",
}
"""A command that serves until it is ended -> what it writes when it is ready."""
WITH_VARIABLES = r"(?:[A-Z_]+=\S+ )*"
READY_WITHIN_S = 60.0
AT_THE_END = " (at the end)"
STATE = Path(".walk") / "state.sh"


def readiness(line: str) -> str | None:
    """What a command writes when it serves; None for a command that ends."""
    return next((ready for form, ready in SERVERS.items() if re.match(WITH_VARIABLES + form, line)), None)


class Walk:
    """One reader in one folder."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.served: list[subprocess.Popen[bytes]] = []
        self.written = ""
        self.state = (Path.cwd() / STATE).resolve()
        self.state.parent.mkdir(exist_ok=True)
        self.state.write_text("")
        sys.path.insert(0, os.getcwd())

    def take(self, step: dict[str, Any]) -> None:
        if step["title"]:
            file = Path(step["title"].removesuffix(AT_THE_END))
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a" if step["title"].endswith(AT_THE_END) else "w") as out:
                out.write(step["text"])
        elif step["language"] == "python":
            written = io.StringIO()
            with contextlib.redirect_stdout(written):
                exec(compile("\n" * step["line"] + step["text"], step["page"], "exec"), self.names)
            self.written = written.getvalue()
        elif step["language"] == "sh":
            self.shell(step["text"])
        elif step["language"] == "text":
            wanted = re.escape(step["text"].strip()).replace(re.escape("..."), ".*?")
            assert re.search(wanted, self.written, re.DOTALL), f"not written:\n{step['text']}\nbut:\n{self.written}"

    def shell(self, text: str) -> None:
        before: list[str] = []
        for line in text.replace("\\\n", " ").splitlines():
            ready = readiness(line.strip())
            if ready is None:
                before.append(line)
            else:
                self.run("\n".join(before))
                before = []
                self.serve(line.strip().partition(" #")[0], ready)
        self.run("\n".join(before))

    def run(self, script: str) -> None:
        if not script.strip():
            return
        keep = f'{{ export -p; printf "cd %q\\n" "$PWD"; }} > {shlex.quote(str(self.state))}'
        whole = f"set -eu -o pipefail -o allexport; . {shlex.quote(str(self.state))}\n{script}\n{keep}\n"
        done = subprocess.run(["bash", "-c", whole], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180)
        self.written = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"status {done.returncode}:\n{script}\n{self.written}\n{self.logs()}"

    def serve(self, command: str, ready: str) -> None:
        log = self.state.parent / f"server-{len(self.served)}.log"
        whole = f"set -eu -o allexport; . {shlex.quote(str(self.state))}\nexec env {command}"
        with log.open("wb") as out:
            server = subprocess.Popen(
                ["bash", "-c", whole], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.served.append(server)
        give_up = time.monotonic() + READY_WITHIN_S
        while not re.search(ready, log.read_text(errors="replace")):
            ended = server.poll() is not None or time.monotonic() > give_up
            assert not ended, f"{command} does not serve:\n{log.read_text(errors='replace')[-3000:]}"
            time.sleep(0.05)
        self.written = log.read_text(errors="replace")

    def logs(self) -> str:
        logs = sorted(self.state.parent.glob("server-*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2500:]}" for log in logs)

    def end(self) -> None:
        for server in reversed(self.served):
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(15)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


def main() -> int:
    walk = Walk()
    try:
        for step in json.load(sys.stdin):
            try:
                walk.take(step)
            except BaseException as error:
                print(
                    f"{step['page']}, line {step['line']}: {type(error).__name__}: {error}\n{walk.logs()}",
                    file=sys.stderr,
                )
                if not isinstance(error, AssertionError):
                    raise
                return 1
    finally:
        walk.end()
    return 0


if __name__ == "__main__":
    # A TERM ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
