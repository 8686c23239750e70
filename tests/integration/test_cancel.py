"""Every way to cancel, for a job in every state: one end, the same for everyone who asks, and nothing left behind."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import chain, chord, group
from celery.result import AsyncResult

from celery_runpod import JobResult, cancel
from celery_runpod._devstack.stack import cli, free_port
from celery_runpod.errors import BrokerUnavailable
from tests.application import app, collect, note_error, same
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

ENDPOINTS = (
    "fast=synthetic:duration=0.3",
    "brief=synthetic:duration=1.5",
    "slow=synthetic:duration=60",
    "queued=synthetic:duration=3600,workers=1",
    "one=synthetic:duration=3600",
    "paused=synthetic:duration=60",
    "late=synthetic:duration=60",
    "lost=synthetic:duration=60",
    "race=synthetic:duration=0.5,jitter=0.3",
)
HOLDERS = ("queued", "one")
HELD = tuple(f"{{runpod:{name}}}:job:" for name in HOLDERS)
PROFILES = '[endpoints.one]\nid = "one"\nmax_in_flight = 1\n'


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("cancel")
    profiles = folder / "profiles.toml"
    profiles.write_text(PROFILES)
    with World(folder, endpoints=ENDPOINTS, env={"RUNPOD_CONFIG": str(profiles)}) as world:
        world.start()
        world.app()
        # They hold the one place that there is.
        for name in HOLDERS:
            holder = world.endpoint(name, execution_timeout=3600).delay(holds="the place")
            eventually(lambda held=holder: held.state, "IN_PROGRESS")
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    servers.app()
    yield servers
    servers.no_faults()
    eventually(lambda: left_over(servers), [], within_s=60)


KINDS = ("due", "look", "inflight", "waiting", "input_bytes")


def left_over(world: World) -> list[str]:
    """What is open, but for the two jobs that hold a place and the keys that stand for them."""
    kept = {f"{{runpod:{name}}}:{kind}" for name in HOLDERS for kind in KINDS}
    found = [key for key in world.open_jobs() if key not in kept]
    return [key for key in found if not (key.startswith(HELD) and key.endswith(" IN_PROGRESS"))]


@dataclass
class Flow:
    """A chord with a job, what follows it in a chain, and another member."""

    world: World
    mark: str
    head: str
    tail: str
    group: str
    body: AsyncResult

    def states(self) -> tuple[str, str, str]:
        return tuple(AsyncResult(one, app=app).state for one in (self.head, self.tail, self.body.id))  # type: ignore[return-value]

    def errors(self) -> list[str]:
        found: list[str] = self.world.redis.lrange(f"errors:{self.mark}", 0, -1)
        return found

    def at_runpod(self) -> list[str]:
        """The states of this flow's job there."""
        return self.world.statuses(self.mark)

    def is_over(self, at_runpod: list[str]) -> None:
        """Everything that hangs on the cancelled job has ended, once."""
        eventually(self.states, ("REVOKED", "REVOKED", "FAILURE"), within_s=45)
        eventually(self.at_runpod, at_runpod, within_s=45)
        eventually(self.errors, [f"JobCancelled {self.head}"])
        assert not self.world.redis.zcard("runpod:cancel_wishes")


def begin(world: World, name: str, **options: Any) -> Flow:
    mark = uuid.uuid4().hex
    job = world.endpoint(name).signature(({"mark": mark},), **options)
    job.set(link_error=note_error.s(key=f"errors:{mark}"), stamped_headers=["order"], order=mark)
    body = chord([chain(job, same.s()), world.endpoint("fast").s(n=2)], collect.s()).delay()
    tail = body.parent.results[0]
    return Flow(world, mark, tail.parent.id, tail.id, body.parent.id, body)


# Ways to cancel. Those of the first group reach one job, those of the second all that hangs together with it.


def twice(way: Callable[[], None]) -> None:
    way()
    way()


def by_shell(flow: Flow) -> None:
    command = [sys.executable, "-m", "celery", "-A", "tests.application", "-b", flow.world.redis_url]
    subprocess.run([*command, "control", "revoke", flow.head], check=True, cwd=ROOT, capture_output=True, timeout=60)


FLOWER_LOGIN = ("user", "password")


def by_flower(flow: Flow) -> None:
    port = free_port()
    world = flow.world
    flower = world.stack.start(
        "flower",
        [*cli("flower"), "--port", str(port)],
        env={"FLOWER_BASIC_AUTH": ":".join(FLOWER_LOGIN)},
        cwd=ROOT,
        ready=lambda _: _answers(f"http://127.0.0.1:{port}/api/workers"),
    )
    try:
        url = f"http://127.0.0.1:{port}/api/task/revoke/{flow.head}?terminate=true"
        assert requests.post(url, auth=FLOWER_LOGIN, timeout=10).status_code == 200
    finally:
        world.stack.remove(flower)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, auth=FLOWER_LOGIN, timeout=5).status_code == 200
    except requests.RequestException:
        return False


ONE: dict[str, Callable[[Flow], None]] = {
    "JobResult.cancel": lambda flow: JobResult(flow.head, app=app).cancel(),
    "JobResult.cancel, twice": lambda flow: twice(JobResult(flow.head, app=app).cancel),
    "AsyncResult.revoke": lambda flow: AsyncResult(flow.head, app=app).revoke(),
    "AsyncResult.revoke, terminate": lambda flow: AsyncResult(flow.head, app=app).revoke(terminate=True),
    "control.revoke of a list": lambda flow: app.control.revoke([flow.head, str(uuid.uuid4())]),
    "control.terminate": lambda flow: app.control.terminate(flow.head, signal="SIGKILL"),
    "by stamps": lambda flow: app.control.revoke_by_stamped_headers({"order": [flow.mark]}, terminate=True),
    "celery control revoke": by_shell,
    "Flower": by_flower,
}
TREE: dict[str, Callable[[Flow], None]] = {
    "cancel(job)": lambda flow: cancel(flow.head, app=app),
    "cancel(later step)": lambda flow: cancel(flow.tail, app=app),
    "cancel(group)": lambda flow: cancel(flow.group, app=app),
    "cancel(chord)": lambda flow: cancel(flow.body.id, app=app),
    "cancel(result)": lambda flow: cancel(flow.body.parent, app=app),
}
FEW = ("JobResult.cancel", "AsyncResult.revoke, terminate", "by stamps")


@pytest.mark.parametrize("way", [*ONE, *TREE])
def test_a_job_that_runs(world: World, way: str) -> None:
    flow = begin(world, "slow")
    eventually(lambda: AsyncResult(flow.head, app=app).state, "IN_PROGRESS")
    (ONE | TREE)[way](flow)
    flow.is_over(["CANCELLED"])


def waits_for(flow: Flow, state: str, reason: str | None = None) -> None:
    result = JobResult(flow.head, app=app)
    eventually(lambda: (result.state, result.reason), (state, reason))


def _record(flow: Flow, endpoint: str) -> str | None:
    found: str | None = flow.world.redis.hget(f"{{runpod:{endpoint}}}:job:{flow.head}", "state")
    return found


@pytest.mark.parametrize("way", FEW)
@pytest.mark.parametrize("where", ["queued there", "countdown", "max_in_flight", "paused", "slow POST", "lost answer"])
def test_a_job_that_does_not_run_yet(world: World, where: str, way: str) -> None:
    if where == "queued there":
        flow = begin(world, "queued")
        waits_for(flow, "IN_QUEUE")
        at_runpod = ["CANCELLED"]
    elif where == "countdown":
        flow = begin(world, "slow", countdown=600)
        waits_for(flow, "WAITING", "COUNTDOWN")
        at_runpod = []
    elif where == "max_in_flight":
        flow = begin(world, "one")
        waits_for(flow, "WAITING", "MAX_IN_FLIGHT")
        at_runpod = []
    elif where == "paused":
        world.fault(endpoint="paused", operation="run", kind="status", status=429, headers={"Retry-After": "600"})
        flow = begin(world, "paused")
        eventually(lambda: AsyncResult(flow.head, app=app).state, "WAITING")
        at_runpod = []
    elif where == "slow POST":
        world.fault(endpoint="late", operation="run", kind="delay", seconds=3)
        flow = begin(world, "late")
        eventually(lambda: _record(flow, "late"), "SUBMITTING")
        at_runpod = ["CANCELLED"]
    else:
        world.fault(endpoint="lost", operation="run", kind="drop_after")
        flow = begin(world, "lost")
        waits_for(flow, "SUBMITTING", "UNCONFIRMED")
        # Nobody knows RunPod's id of it.
        at_runpod = ["IN_PROGRESS"]
    ONE[way](flow)
    flow.is_over(at_runpod)
    world.redis.delete("{runpod:paused}:pause:run", "{runpod:lost}:pause:run")


def test_every_job_of_a_group(world: World) -> None:
    mark = uuid.uuid4().hex
    result = group(world.endpoint("slow").s(mark=mark, n=n) for n in range(4)).delay()
    eventually(lambda: {one.state for one in result.results}, {"IN_PROGRESS"})
    result.revoke()
    eventually(lambda: [one.state for one in result.results], ["REVOKED"] * 4)
    eventually(lambda: [job["status"] for job in world.jobs("slow") if job["input"]["mark"] == mark], ["CANCELLED"] * 4)


# Jobs that no worker has accepted


def restart(world: World) -> Callable[[], None]:
    """Stop the RunPod worker; answers what starts it again."""
    worker = next(server for server in world.stack.servers if server.name == "runpod0")
    world.stack.remove(worker)

    def start() -> None:
        worker.log.unlink()
        world.stack.worker("runpod0", concurrency=2, cwd=ROOT)

    return start


def test_calls_in_their_queue_while_no_worker_is_up(world: World) -> None:
    start = restart(world)
    try:
        flows = [begin(world, "slow") for _ in range(3)]
        JobResult(flows[0].head, app=app).cancel()
        # The user's own worker marks it REVOKED; no worker of ours hears of it.
        AsyncResult(flows[1].head, app=app).revoke(terminate=True)
        eventually(lambda: AsyncResult(flows[1].head, app=app).state, "REVOKED")
        cancel(flows[2].tail, app=app)
    finally:
        start()
    for flow in flows:
        flow.is_over([])


def test_a_running_job_while_no_worker_is_up(world: World) -> None:
    flow = begin(world, "slow")
    eventually(lambda: AsyncResult(flow.head, app=app).state, "IN_PROGRESS")
    start = restart(world)
    try:
        JobResult(flow.head, app=app).cancel()
        assert AsyncResult(flow.head, app=app).state == "IN_PROGRESS"
    finally:
        start()
    flow.is_over(["CANCELLED"])


def test_a_worker_that_learns_revoked_ids_from_another_one_discards_nothing(world: World) -> None:
    flow = begin(world, "slow")
    eventually(lambda: AsyncResult(flow.head, app=app).state, "IN_PROGRESS")
    start = restart(world)
    try:
        # Heard by the user's worker alone, which tells a worker that starts: it is no wish that the store knows.
        app.control.revoke(flow.head)
        eventually(lambda: flow.head in _revoked_by(world), True)
    finally:
        start()
    assert AsyncResult(flow.head, app=app).state == "IN_PROGRESS"
    JobResult(flow.head, app=app).cancel()
    flow.is_over(["CANCELLED"])


def _revoked_by(world: World) -> set[str]:
    found = app.control.inspect(timeout=1).revoked() or {}
    return {one for name, ids in found.items() if name.startswith("application") for one in ids}


def test_no_list_of_a_worker_of_ours_holds_what_was_revoked(world: World) -> None:
    flow = begin(world, "slow")
    eventually(lambda: AsyncResult(flow.head, app=app).state, "IN_PROGRESS")
    app.control.revoke(flow.head, terminate=True)
    flow.is_over(["CANCELLED"])
    found = app.control.inspect(timeout=2).revoked() or {}
    assert flow.head not in next(ids for name, ids in found.items() if name.startswith("runpod0"))


def test_a_later_step_of_a_chain_with_all_that_is_before_it(world: World) -> None:
    mark = uuid.uuid4().hex
    result = chain(world.endpoint("slow").s(mark=mark), world.endpoint("fast").s(step=2), same.s()).delay()
    second, first = result.parent, result.parent.parent
    eventually(lambda: first.state, "IN_PROGRESS")
    JobResult(second.id, app=app).cancel()
    eventually(lambda: {first.state, second.state, result.state}, {"REVOKED"})
    assert [job["endpoint"] for job in world.submits(mark)] == ["slow"]


@pytest.mark.parametrize("way", ["revoke", "stamps"])
def test_a_later_step_alone_is_not_submitted_when_its_turn_comes(world: World, way: str) -> None:
    mark = uuid.uuid4().hex
    step = world.endpoint("slow").s(step=2).set(stamped_headers=["order"], order=mark)
    result = chain(world.endpoint("brief").s(mark=mark), step, same.s()).delay()
    second, first = result.parent, result.parent.parent
    eventually(lambda: first.state, "IN_PROGRESS")
    if way == "revoke":
        app.control.revoke(second.id)
    else:
        app.control.revoke_by_stamped_headers({"order": mark})
    eventually(lambda: (first.state, second.state, result.state), ("SUCCESS", "REVOKED", "REVOKED"))
    assert [job["endpoint"] for job in world.submits(mark)] == ["brief"]


@pytest.mark.parametrize("how", ["cancel", "revoke"])
def test_the_cancel_of_a_job_that_was_delivered_changes_nothing(world: World, how: str) -> None:
    mark = uuid.uuid4().hex
    result = chain(
        world.endpoint("fast").s(mark=mark), world.endpoint("brief").s(), world.endpoint("fast").s(step=3)
    ).delay()
    second, first = result.parent, result.parent.parent
    eventually(lambda: (first.state, second.state), ("SUCCESS", "IN_PROGRESS"))
    if how == "cancel":
        JobResult(first.id, app=app).cancel()
    else:
        app.control.revoke(first.id)
    assert result.get(timeout=60) == {"mark": mark, "step": 3}
    assert first.state == "SUCCESS"


def test_one_of_two_calls_that_share_a_job(world: World) -> None:
    mark = uuid.uuid4().hex
    shared = world.endpoint("slow", idempotency_key=mark)
    one, other = shared.delay(mark=mark), shared.delay(mark=mark)
    eventually(lambda: {one.state, other.state}, {"IN_PROGRESS"})

    def there() -> list[str]:
        return [job["status"] for job in world.jobs("slow") if job["input"]["mark"] == mark]

    AsyncResult(one.id, app=app).revoke()
    eventually(lambda: one.state, "REVOKED")
    assert (other.state, there()) == ("IN_PROGRESS", ["IN_PROGRESS"])
    other.cancel()
    eventually(lambda: (other.state, there()), ("REVOKED", ["CANCELLED"]))


def test_a_time_limit_of_the_callers_ends_nothing(world: World) -> None:
    world.fault(endpoint="late", operation="run", kind="delay", seconds=3)
    result = world.endpoint("late").apply_async(({"a": 1},), time_limit=1, soft_time_limit=1)
    eventually(lambda: result.state, "IN_PROGRESS")
    result.cancel()
    eventually(lambda: result.state, "REVOKED")


def test_a_cancel_that_races_with_the_end(world: World) -> None:
    """Seeded: which cancels come in time differs, but each job has one end, for its caller and its record."""
    chance = random.Random(20)
    results = [world.endpoint("race").delay(mark="race", n=n) for n in range(40)]
    seen: dict[str, list[str]] = {result.id: [] for result in results}
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for result in results:
                state = AsyncResult(result.id, app=app).state
                if state in ("SUCCESS", "REVOKED", "FAILURE") and state not in seen[result.id]:
                    seen[result.id].append(state)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for result in chance.sample(results, len(results)):
            (result.cancel if chance.random() < 0.5 else AsyncResult(result.id, app=app).revoke)()
            time.sleep(chance.random() * 0.04)
        eventually(lambda: {AsyncResult(one.id, app=app).ready() for one in results}, {True}, within_s=60)
        eventually(lambda: left_over(world), [], within_s=60)
    finally:
        stop.set()
        watcher.join()
    for result in results:
        verdict = world.redis.hget(f"{{runpod:race}}:job:{result.id}", "verdict")
        expected = {"COMPLETED": "SUCCESS", "CANCELLED": "REVOKED"}[verdict]
        assert AsyncResult(result.id, app=app).state == expected
        assert seen[result.id] in ([], [expected])


def test_a_cancel_while_redis_restarts_is_kept_or_refused(world: World) -> None:
    flow = begin(world, "slow")
    eventually(lambda: AsyncResult(flow.head, app=app).state, "IN_PROGRESS")
    world.stop_redis()
    try:
        with pytest.raises(BrokerUnavailable):
            JobResult(flow.head, app=app).cancel()
    finally:
        world.start_redis()
        forget_connections()
    JobResult(flow.head, app=app).cancel()
    flow.is_over(["CANCELLED"])
