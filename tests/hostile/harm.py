"""What an attack must not do, looked at from outside: processes, Redis, RunPod's side and the logs.

    with no_harm(world, submits=0):
        ...the attack...

holds that the same processes are up as before, that Redis has not grown, that RunPod was given no job that the attack
does not name, that no log holds Celery's last words, that the store is empty, and that a good job still goes through.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil
import pytest
import requests

from celery_runpod import errors
from celery_runpod._devstack.stack import Server, cli
from celery_runpod.results import JobResult
from tests.commands import in_process
from tests.servers import World
from tests.waiting import eventually

T = TypeVar("T")

WAIT_S = 90.0
"""Bounds hanging, on a machine that is busy with other things."""
GROWTH_BYTES = 4_000_000
"""Redis' own buffers come and go by about a megabyte."""
LAST_WORDS = ("Unrecoverable error", "WorkerLostError", "Worker exited prematurely")


@contextmanager
def no_harm(world: World, *, submits: int | None = 0, growth_bytes: int = GROWTH_BYTES) -> Iterator[None]:
    """Assert what the module's docstring lists. `submits` is how many jobs of the attack RunPod is given, no more and no
    fewer; None where the test counts them itself."""
    up = {server.name: server.pid for server in world.stack.servers}
    before_bytes, before_jobs = memory(world), len(world.jobs())
    read_from = {server.name: len(server.text()) for server in world.stack.servers}
    yield
    down = [server.name for server in world.stack.servers if server.process.poll() is not None]
    assert not down, f"ended: {down}\n{_ends(world, down)}"
    assert {server.name: server.pid for server in world.stack.servers} == up
    goes_through(world)
    eventually(world.open_jobs, [], within_s=WAIT_S)
    eventually(lambda: queued(world), {}, within_s=WAIT_S)
    for server in world.stack.servers:
        new = server.text()[read_from[server.name] :]
        assert not [words for words in LAST_WORDS if words in new], f"{server.name}:\n{new[-4000:]}"
    # The good job is one.
    assert submits is None or len(world.jobs()) - before_jobs == submits + 1
    eventually(lambda: max(0, memory(world) - before_bytes - growth_bytes), 0, within_s=WAIT_S)


def goes_through(world: World, endpoint: str = "fast") -> None:
    """A good job ends as it should."""
    mark = uuid.uuid4().hex
    assert world.endpoint(endpoint).delay(mark=mark).get(timeout=WAIT_S) == {"mark": mark}


def queued(world: World) -> dict[str, int]:
    """How many messages wait in the queues of the workers, or are held by one; without the planned checks, which wait
    in a worker's memory all the time."""
    names = (world.namespace, f"{world.namespace}.deliver")
    return {name: count for name in names if (count := world.redis.llen(name))}


def revive(world: World, start: Callable[[World], None]) -> None:
    """After an attack that succeeded: empty Redis and start other workers, so that the next attack is judged alone."""
    workers = [server for server in world.stack.servers if server.name.startswith(("runpod", "application"))]
    if all(server.process.poll() is None for server in workers) and not world.open_jobs() and not queued(world):
        return
    for server in workers:
        world.stack.remove(server)
        server.log.unlink(missing_ok=True)
    world.no_faults()
    world.redis.flushall()
    # What workers remember there is of the Redis that was.
    shutil.rmtree(world.stack.env["RUNPOD_STATE_DIR"], ignore_errors=True)
    start(world)


# How a task ended


def end_of(world: World, task_id: str, within_s: float = WAIT_S, what: str = "") -> Any:
    """The output, or the error as it would be raised. Fails where there is none in time."""
    result = JobResult(task_id, app=world.app())
    give_up = time.monotonic() + within_s
    while not result.ready():
        if ended := [one.name for one in world.stack.servers if one.process.poll() is not None]:
            pytest.fail(f"{what} ended: {ended}\n{_ends(world, ended)}")
        assert time.monotonic() < give_up, f"{what} no end after {within_s:g} s: {result.state} {result.reason}"
        time.sleep(0.05)
    return result.result


def typed(world: World, task_id: str, *kinds: type[Exception], what: str = "") -> Exception:
    """The error with which a task ended: one of `kinds`. `what` was sent, for a failure's text."""
    end = end_of(world, task_id, what=what)
    assert isinstance(end, kinds), f"{what} {described(end)}"
    return end


def described(end: Any) -> str:
    """An end, for a failure's text. Not the value itself: what is nested too deep ends pytest too."""
    return f"{type(end).__name__} {str(end)[:500]}" if isinstance(end, Exception) else type(end).__name__


def typed_or_aside(world: World, task_id: str, *kinds: type[Any], what: str = "") -> None:
    """The task ended with one of these errors, or `jobs --aside` shows it: nothing else is an end."""
    result = JobResult(task_id, app=world.app())

    def end() -> str:
        if result.ready():
            return "ended"
        return "aside" if task_id in aside(world) else f"open: {result.state} {result.reason}"

    give_up = time.monotonic() + WAIT_S
    while (seen := end()).startswith("open"):
        if ended := [one.name for one in world.stack.servers if one.process.poll() is not None]:
            pytest.fail(f"{what} ended: {ended}\n{_ends(world, ended)}")
        assert time.monotonic() < give_up, f"{what} {seen}"
        time.sleep(0.2)
    if seen == "ended":
        assert isinstance(result.result, kinds or (errors.RunPodError,)), f"{what} {described(result.result)}"


# Commands


def command(world: World, *arguments: str, key: bool = False, said: str = "") -> subprocess.CompletedProcess[str]:
    """A command, in this process. Without `key` it has neither the API key nor RunPod's address."""
    own = {"REDIS_URL": world.redis_url, "RUNPOD_NAMESPACE": world.namespace, "RUNPOD_BROKER_URL": world.broker_url}
    if key:
        own |= {name: world.stack.env[name] for name in ("RUNPOD_API_KEY", "RUNPOD_BASE_URL")}
    return in_process(*arguments, env=own, said=said)


def aside(world: World) -> str:
    """What `jobs --aside` prints."""
    answer = command(world, "jobs", "--aside")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@contextmanager
def held_still(world: World) -> Iterator[None]:
    """RunPod's workers do nothing meanwhile, so that what comes in stays where it is put."""
    workers = [server for server in world.stack.servers if server.name.startswith("runpod")]
    for server in workers:
        server.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in workers:
            server.kill(signal.SIGCONT)


# RunPod's side


def webhook_of(world: World, mark: str) -> str:
    """The URL that RunPod was given with the last submit of a mark."""
    return str(world.submits(mark)[-1]["webhook"])


def asked(world: World, operation: str) -> int:
    """How many requests of an operation RunPod has answered, in whatever way."""
    return sum(world.requests().get(operation, {}).values())


def stays(seen: Callable[[], T], expected: T, for_s: float) -> None:
    """For what must not happen there is nothing to wait for: it is looked at for so long."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        assert (last := seen()) == expected, f"{last!r}, not {expected!r}"
        time.sleep(0.1)


# Processes


def worker_logs(world: World) -> str:
    return "\n".join(server.text() for server in world.stack.servers if server.name.startswith("runpod"))


def resident_bytes(server: Server) -> int:
    """Of the process and its children."""
    process = psutil.Process(server.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def serve_webhooks(world: World, port: int, name: str = "webhooks", **env: str) -> Server:
    """`celery-runpod webhooks`, once it answers."""
    server = world.stack.start(name, cli("webhooks", "--port", str(port)), env=env)
    eventually(lambda: health_answers(port, within_s=5), True, within_s=WAIT_S)
    return server


def health_answers(port: int, within_s: float) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=within_s).status_code == 200
    except requests.RequestException:
        return False


def memory(world: World) -> int:
    """What Redis uses, in bytes, without the buffers of connections: after a burst a worker keeps two hundred of them,
    and with 17 kB each they would hide what an attack leaves."""
    found = world.redis.info("memory")
    return int(found["used_memory"]) - int(found["mem_clients_normal"])


def _ends(world: World, names: list[str]) -> str:
    return "\n".join(server.text()[-1500:] for server in world.stack.servers if server.name in names)


def as_json(text: str) -> Any:
    return json.loads(text)
