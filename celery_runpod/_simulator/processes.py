"""Worker processes that never outlive the simulator.

Each is the leader of a process group of its own, which is killed as a whole: RunPod's SDK forks a process for pings,
and handlers start servers. Three nets: the group is killed when its worker ends or the simulator shuts down; when the
simulator dies, the kernel kills the worker (Linux, PR_SET_PDEATHSIG), and ``reaper.py`` kills the group. What a handler
starts in a session of its own (`start_new_session=True`, a daemon) is in no net: the handler has to end it.

Not here: when to start and end them (``workers.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from celery_runpod._simulator.endpoint import Taken
from celery_runpod._simulator.jobs import Job

PR_SET_PDEATHSIG = 1
STDERR = 2
PING_S = 1.0
"""How often a worker says what it runs."""
STOP_AGAIN_S = 0.5
SECRETS = ("RUNPOD_API_KEY", "RUNPOD_WEBHOOK_SECRET")
"""First words of variables that are not for handlers, here as at RunPod."""
CREDENTIALS = frozenset(
    {"REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL", "RUNPOD_RESULT_BACKEND", "CELERY_RESULT_BACKEND",
     "RUNPOD_STORE_URL", "FLOWER_BASIC_AUTH"}
)  # fmt: skip
"""The same: they may hold passwords."""


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does before it runs, so that it dies with this process."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class Guard:
    """The process of ``reaper.py``, started with the first worker."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        if self._process is None:
            command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=STDERR, stderr=STDERR, start_new_session=True
            )
        self._say(f"+{group}\n")

    def release(self, group: int) -> None:
        self._say(f"-{group}\n")

    async def close(self) -> None:
        """End the guard, once no group is left to watch."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            await asyncio.to_thread(self._process.wait)

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()


class WorkerProcess:
    """`python handler.py`, in a group of its own. Its output goes to the simulator's standard error."""

    def __init__(self, process: asyncio.subprocess.Process, guard: Guard) -> None:
        self._process = process
        self._guard = guard
        guard.watch(process.pid)

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
            preexec_fn=_die_with_parent(),
        )
        return cls(process, guard)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Wait for the end; how it ended, in words. The rest of the group is killed."""
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
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass(slots=True, eq=False)
class Worker:
    """One worker, as the simulator sees it. `own`: started here, with a process; the others join from outside."""

    id: str
    own: bool = False
    process: WorkerProcess | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    asking: asyncio.Future[list[Taken]] | None = None
    """The request for jobs that it waits for."""
    batch: int = 1
    stops: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    stopping: dict[str, float] = field(default_factory=dict)
    """Cancelled jobs that may still run -> when they were cancelled."""
    told_at: float = 0.0
    ready: bool = False
    leaving: bool = False
    killed: bool = False
    """By us, for one of its jobs: the others are not to blame. Our own alone; the others are told to stop jobs."""
    started_at: float = 0.0
    idle_since: float = 0.0
    seen_at: float = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.jobs or self.stopping)

    def answer(self, taken: list[Taken]) -> None:
        if self.asking is not None and not self.asking.done():
            self.asking.set_result(taken)
        self.asking = None

    def tell(self, now: float, *, again: bool = False) -> None:
        """Have it stop its cancelled jobs; `again`: after a while."""
        if again and now - self.told_at < STOP_AGAIN_S:
            return
        self.told_at = now
        if self.stops.empty():
            for job_id in self.stopping:
                self.stops.put_nowait(job_id)

    def kill(self) -> None:
        """End our own with its process, now or as soon as it has one."""
        self.killed = True
        if self.process is not None:
            self.process.kill()


def environment(address: str, endpoint: str, worker_id: str, token: str) -> dict[str, str]:
    """What RunPod tells a worker. Keys and passwords of this project's own settings are not for handlers.

    The SDK's checks of the machine (GPU, memory, a route to the internet) are off unless the user turns them on: they
    are about RunPod's machines.
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
