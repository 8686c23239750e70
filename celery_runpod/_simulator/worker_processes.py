"""The processes of a handler's workers, which never outlive the simulator.

Each is the leader of a process group of its own, and the group is killed as a whole: RunPod's SDK forks a process for
pings, and handlers start servers. It is killed when its worker ends, when the simulator shuts down, and by the guard
(``celery_runpod/_devstack/process_guard.py``) when the simulator was killed. What a handler starts in a session of its
own (`start_new_session=True`, a daemon) is in no such group, and the handler has to end it.

Not here: when to start and end them (``worker_fleet.py``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from celery_runpod._devstack.process_guard import STDERR, Guard, kill_group

PING_S = 1.0
"""How often a worker says what it runs."""
SECRETS = ("RUNPOD_API_KEY", "RUNPOD_WEBHOOK_SECRET")
"""Handlers get no variable that begins with one of these, here as at RunPod."""
CREDENTIALS = frozenset(
    {"REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL", "RUNPOD_RESULT_BACKEND", "CELERY_RESULT_BACKEND",
     "RUNPOD_STORE_URL", "FLOWER_BASIC_AUTH"}
)  # fmt: skip
"""Handlers get none of these either: they may hold passwords."""


class WorkerProcess:
    """`python handler.py`, in a group of its own. Its output goes to the simulator's standard error."""

    def __init__(self, process: asyncio.subprocess.Process, guard: Guard) -> None:
        self._process = process
        self._guard = guard

    @classmethod
    async def start(cls, handler: Path, env: Mapping[str, str], guard: Guard) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(handler),
            cwd=handler.parent,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=STDERR,
            stderr=STDERR,
            start_new_session=True,
            preexec_fn=guard.watch(),
        )
        return cls(process, guard)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Wait until it ends, and kill the rest of its group. Returns how it ended, in words."""
        code = await self._process.wait()
        self.kill()
        self._guard.release(self.pid)
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with exit code {code}"

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and everything it started."""
        kill_group(self.pid)


def environment(address: str, endpoint: str, worker_id: str, token: str) -> dict[str, str]:
    """The environment of a worker, as RunPod sets it, without the keys and passwords of this project's own settings.

    The SDK's checks of the machine (GPU, memory, a route to the internet) are made for RunPod's machines, so they are
    off unless the user turns them on.
    """
    base = f"{address}/v2/{endpoint}"
    proxied = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    direct = ",".join(filter(None, [proxied, "127.0.0.1", "::1"]))
    defaults = {
        "RUNPOD_LOG_LEVEL": "INFO",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }
    own = {
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_POD_HOSTNAME": worker_id,
        "RUNPOD_ENDPOINT_ID": endpoint,
        "RUNPOD_AI_API_KEY": token,
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=none",
        "RUNPOD_PING_INTERVAL": f"{PING_S * 1000:.0f}",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(SECRETS) and name not in CREDENTIALS
    }
    return {**defaults, **given, **own}
