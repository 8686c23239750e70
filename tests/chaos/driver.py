"""The chaos driver: a seeded load of every kind of canvas, while workers, Redis and RunPod's API break; then a verdict.

    with chaos_world(folder) as world:
        report = run(world, make_plan(7, jobs=300, rate=10, break_every_s=1.5))
    assert not report.verdict.findings, report.text()

Used by `test_mixed.py` and `test_mixed_with_webhooks.py` in CI, and by `benchmarks/chaos.py` for as long as one likes.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from celery_runpod._devstack.stack import cli, free_port
from tasks.call_message import NO_ENDPOINT
from tests.chaos import evidence, submits
from tests.chaos.conftest import SHORT_WAITS
from tests.chaos.evidence import Evidence, story_of
from tests.chaos.havoc import REDIS_ARGUMENTS, Havoc
from tests.chaos.noting import NOTES
from tests.chaos.plan import (
    BROKEN,
    CHUNKS,
    DEEP,
    EMPTY,
    ENDPOINTS,
    FAST,
    HANDLER,
    NARROW,
    OUTPUTS,
    PROFILES,
    QUEUED,
    SLOW,
    TALKERS,
    Load,
    Plan,
    make_plan,
)
from tests.chaos.sender import Sender
from tests.chaos.verifier import DOUBLE, LOST, WRONG, Judge, Verdict, every_id
from tests.servers import World, forget_connections

SETTLE_S = 240.0
"""Bounds hanging. The longest honest way: a claim of `finish` that lapses, and again, each with its message lost."""
WINDOW_S = float(SHORT_WAITS["RUNPOD_UNCONFIRMED_WINDOW_S"])
NOTED = "submits.log"
MOST_STORIES = 12
NAMES = (FAST, SLOW, BROKEN, NARROW, DEEP, EMPTY, QUEUED, *TALKERS, NO_ENDPOINT)
"""A call that was refused belongs to no endpoint, and its end may have to be delivered again too."""


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    world: World
    plan: Plan
    evidence: Evidence
    verdict: Verdict
    tally: dict[str, str]

    def text(self, most: int = MOST_STORIES) -> str:
        """The seed, the tally, and of each finding what is known."""
        lines = [f"CHAOS_SEED={self.plan.seed}", *(f"  {name:<18} {value}" for name, value in self.tally.items())]
        for finding in self.verdict.findings[:most]:
            lines.append(f"  {finding.kind}: {finding.task_id}: {finding.problem}")
            submits = self.evidence.submits.get(finding.task_id, [])
            lines.append(story_of(self.world, finding.task_id, submits))
        if more := len(self.verdict.findings) - most:
            lines += [f"  ... and {more} more"] if more > 0 else []
        return "\n".join(lines)


@contextmanager
def chaos_world(folder: Path, *, webhooks: bool = False, endpoints: Sequence[str] = ()) -> Iterator[World]:
    """Redis, the simulator and, with `webhooks`, the process that takes them; no worker yet. `endpoints` are others
    beside those of the plan."""
    port = free_port()
    hooks = {
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "a-secret-of-the-chaos",
        "RUNPOD_UNCONFIRMED_WINDOW_WEBHOOK_S": SHORT_WAITS["RUNPOD_UNCONFIRMED_WINDOW_S"],
    }
    folder.mkdir(parents=True, exist_ok=True)
    profiles = folder / "profiles.toml"
    profiles.write_text(PROFILES)
    files = {"RUNPOD_DIE_AT": str(folder / "die-at"), "RUNPOD_CONFIG": str(profiles), NOTES: str(folder / NOTED)}
    env = {**SHORT_WAITS, **(hooks if webhooks else {}), **files, "RUNPOD_IMPORTS": "tests.chaos.noting"}
    simulator = ("--webhook-retry-delay", "1")
    talkers = []
    for name, whole in TALKERS.items():
        handler = folder / f"{name}.py"
        handler.write_text(HANDLER.format(chunks=CHUNKS, whole=whole))
        talkers.append(f"{name}={handler},workers=1")
    every = (*ENDPOINTS, *talkers, *endpoints)
    with World(folder, endpoints=every, simulator=simulator, env=env, redis=REDIS_ARGUMENTS) as world:
        if webhooks:
            world.stack.start(
                "webhooks", [*cli("webhooks"), "--port", str(port)], ready=lambda server: " ready at " in server.text()
            )
        for endpoint, body in OUTPUTS.items():
            world.fault(operation="status", endpoint=endpoint, kind="body", body=body)
        yield world


def run_in_a_world(folder: Path, seed: int, *, webhooks: bool = False) -> Report:
    """The run that CI makes; it prints its report."""
    plan = make_plan(seed, jobs=240, rate=7, break_every_s=0.8, webhooks=webhooks)
    with chaos_world(folder, webhooks=webhooks) as world:
        report = run(world, plan)
        print(report.text())
    return report


def run(
    world: World,
    plan: Plan,
    *,
    workers: int = 2,
    settle_s: float = SETTLE_S,
    progress: Callable[[str], None] = lambda line: None,
    before_settling: Callable[[], None] = lambda: None,
    apart: frozenset[str] = frozenset(),
) -> Report:
    """Send the plan's loads while its breaks happen, wait until all is settled, and judge. The jobs of the endpoints that
    are `apart` are not the plan's: whoever opened them ends and judges them in `before_settling`."""
    gate = threading.RLock()
    havoc = Havoc(world, plan, gate, world.stack.folder / "die-at", workers=workers)
    sender = Sender(world, plan, gate)
    started = time.monotonic()
    last = started

    def look() -> None:
        nonlocal last
        if havoc.trouble is not None:
            raise havoc.trouble
        if time.monotonic() - last < 1:
            return
        last = time.monotonic()
        with gate:
            open_jobs = _open(world)
        progress(
            f"{last - started:5.0f} s  jobs sent {sender.jobs} of {plan.jobs}, open {open_jobs}, "
            f"broken {len(havoc.done)}, faults {havoc.faults.total()}"
        )

    havoc.begin(started)
    try:
        sender.run(started, look)
        havoc.finish()
    finally:
        havoc.end()
    load_s = time.monotonic() - started
    # Celery's backend keeps the members of a group until somebody asks for them; kept until the interpreter ends, they
    # would look for a Redis that is gone.
    forget_connections()
    gc.collect()
    before_settling()
    sent = time.monotonic()
    _settle(world, sender, sent + settle_s, progress)
    settled = time.monotonic()
    loads = sender.sent
    ids = list(every_id(loads))
    found = Evidence(
        ends=evidence.ends_of(world, ids),
        submits=evidence.submits_by_mark(world, apart),
        ran=evidence.runs_of(world),
        left=world.open_jobs(),
        unanswered=_unanswered(world, havoc, loads),
        cancelled=frozenset(sender.cancelled),
        deserters=havoc.deserters,
        streams=evidence.streams_of(world, [step.id for load in loads for step in load.steps if step.does in TALKERS]),
    )
    verdict = Judge(found).judge(loads)
    return Report(world, plan, found, verdict, _tally(sender, havoc, verdict, (load_s, settled - sent)))


def _unanswered(world: World, havoc: Havoc, loads: Sequence[Load]) -> dict[str, str]:
    with (world.stack.folder / NOTED).open() as lines:
        notes = submits.read(lines)
    killed = {**notes.died, **havoc.killed}
    why = submits.why_unanswered(notes.submits, killed, havoc.spoilings, window_s=WINDOW_S)
    # A shared job is known by the hash of its key.
    shared = [step for load in loads for step in load.steps if step.shares]
    marks = {sha256(step.options["idempotency_key"].encode()).hexdigest(): step.mark for step in shared}
    return {marks.get(job, job): reason for job, reason in why.items()}


def _open(world: World) -> int:
    keys = [f"{{{world.namespace}:{endpoint}}}:{name}" for endpoint in NAMES for name in _WAITING]
    # Where the message of a cancel was purged, its wish is published again after a minute.
    keys += [f"{world.namespace}:cancel_wishes", f"{{{world.namespace}}}:outbox"]
    with world.redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.zcard(key)
        return sum(pipe.execute())


_WAITING = ("due", "undelivered", "cancels")
"""What of an endpoint is empty once nothing is left to do."""


def _moving(world: World) -> int:
    """Messages that somebody has still to take, or to end."""
    queues = ("celery", world.namespace, f"{world.namespace}.status", f"{world.namespace}.deliver")
    held = ("unacked", f"{world.namespace}.unacked")
    with world.redis.pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(queue)
        for name in held:
            pipe.hlen(name)
        return sum(pipe.execute())


def _settle(world: World, sender: Sender, give_up: float, progress: Callable[[str], None]) -> None:
    """Until every id has its end and nothing is left that could do more, or the bound is reached."""
    pending = list(every_id(sender.sent))
    while True:
        ended = evidence.ends_of(world, pending)
        pending = [one for one in pending if one not in ended]
        left, moving = _open(world), _moving(world)
        progress(f"settling: {len(pending)} tasks without an end, {left} open in the store, {moving} messages")
        if not (pending or left or moving) or time.monotonic() > give_up:
            return
        time.sleep(0.5)


def _tally(sender: Sender, havoc: Havoc, verdict: Verdict, spent_s: tuple[float, float]) -> dict[str, str]:
    loads = Counter(load.kind for load in sender.sent)
    broken = Counter(one.name for one in havoc.done)
    return {
        "jobs": f"{sender.jobs} in {spent_s[0]:.0f} s, then {spent_s[1]:.0f} s to settle",
        "loads": _counted(loads),
        "cancels asked": str(len(sender.cancelled)),
        "sends refused": str(sender.refused),
        "kills": _counted(_some(broken, "kill")),
        "kills at steps": _counted(_some(broken, "at ")),
        "purges": f"{_counted(_some(broken, 'celery purge', 'purge at'))}; {havoc.purged} jobs removed",
        "garbage": str(broken["garbage"]),
        "Redis": _counted(_some(broken, "redis")),
        "faults": _counted(havoc.faults),
        "ends": _counted(verdict.ends),
        "streams": _counted(verdict.streams),
        "unconfirmed": _counted(verdict.unconfirmed),
        "user tasks twice": str(len(verdict.repeated)),
        **{kind: str(verdict.count(kind)) for kind in (LOST, DOUBLE, WRONG)},
    }


def _some(counter: Counter[str], *prefix: str) -> Counter[str]:
    return Counter({name: count for name, count in counter.items() if name.startswith(prefix)})


def _counted(counter: Counter[str]) -> str:
    each = ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
    return f"{counter.total()}: {each}" if counter else "0"
