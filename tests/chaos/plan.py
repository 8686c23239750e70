"""What a run of chaos sends, and what it breaks meanwhile: all of it drawn from one seed, before anything is started.

    Plan
    ├── Load    a canvas: lanes of steps side by side, with a body or without; maybe cancelled later
    │   └── Step    one task, the user's or an endpoint's, under an id that is its mark everywhere
    └── Break   something that goes wrong at a time: a kill, a pause, a restart, a fault of the simulator

Pure: the same seed, jobs and rate are the same plan. How threads interleave is not in it, so a run is repeated in its
events, not to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tasks.crash_points import Step as DeathStep

DEATHS = tuple(step for step in DeathStep if not step.startswith("sync."))
"""No load of the mixed runs uses /runsync: `test_kills.py` has those steps."""

USER = "user"
FAST, SLOW, BROKEN, NARROW = "fast", "slow", "broken", "narrow"
DEEP, EMPTY, QUEUED = "deep", "empty", "queued"
TALK, KEPT_TALK = "talk", "kept-talk"
POISON = "poison"
SLOW_S = 60.0
ENDPOINTS = (
    f"{FAST}=synthetic:duration=0.3,jitter=0.4",
    f"{SLOW}=synthetic:duration={SLOW_S:g}",
    f"{BROKEN}=synthetic:duration=0.2,failures=1",
    f"{NARROW}=synthetic:duration=0.3",
    f"{DEEP}=synthetic:duration=0.3",
    f"{EMPTY}=synthetic:duration=0.3",
    f"{QUEUED}=synthetic:duration=0.8,workers=1",
)
"""`slow` outlasts every cancel, so that a job of it that is COMPLETED was not cancelled; jobs of `queued` wait at RunPod,
where a purge finds them."""
CHUNKS = 8
HANDLER = """
import asyncio, runpod


async def handler(job):
    for number in range({chunks}):
        await asyncio.sleep(0.15)
        yield {{"mark": job["input"]["mark"], "number": number}}


runpod.serverless.start(
    {{"handler": handler, "return_aggregate_stream": {whole}, "concurrency_modifier": lambda current: 20}}
)
"""
TALKERS: Mapping[str, bool] = {TALK: False, KEPT_TALK: True}
"""Endpoints whose handler yields its chunks -> whether RunPod keeps the whole of them too."""
OUTPUTS: Mapping[str, str] = {
    DEEP: f'{{"status": "COMPLETED", "output": {"[" * 600}{"]" * 600}}}',
    EMPTY: '{"status": "COMPLETED"}',
}
"""Endpoint -> what /status says of every job of it."""
POISONS: Mapping[str, Mapping[str, Any]] = {
    "deeper than allowed": {"input": 70},
    "deeper than a pool can hand on": {"input": 500},
    "an unknown option": {"options": {"nope": 1}},
    "an unknown argument": {"nope": 1},
    "fields that are none": {"fields": 3},
}
"""Messages that other programs send by name; `input` is how many levels their input has."""
PROFILES = f"""
[endpoints.{NARROW}]
id = "{NARROW}"
max_in_flight = 3
"""


@dataclass(frozen=True)
class Step:
    """One task. `does` is an endpoint's name, USER or POISON; `options` are those of `Endpoint.using`, or for POISON the
    name of one of `POISONS`; `link` and `errback` are the ids of tasks to link to it. The mark of a job is its id, unless
    several calls share the job: then `shares`."""

    id: str
    does: str
    options: Mapping[str, Any] = field(default_factory=dict)
    link: str | None = None
    errback: str | None = None
    shares: str | None = None

    @property
    def mark(self) -> str:
        return self.shares or self.id

    @property
    def submits(self) -> int:
        """How many submits are right, at most."""
        return 0 if self.does == POISON else 1 + int(self.options.get("retries", 0))


@dataclass(frozen=True)
class Load:
    """Sent at once at `at_s`. Lanes run side by side, the steps of a lane one after the other. With `cancel_after_s`
    the last step of the first lane is cancelled so long after the send; times are seconds from the start of the run."""

    kind: str
    at_s: float
    lanes: tuple[tuple[Step, ...], ...]
    body: Step | None = None
    cancel_after_s: float | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every task that must have an end: all but links and errbacks, which run in one case alone."""
        return (*(step for lane in self.lanes for step in lane), *([self.body] if self.body else []))

    @property
    def jobs(self) -> int:
        return sum(step.does not in (USER, POISON) for step in self.steps)


@dataclass(frozen=True)
class Break:
    """`pick` (0 to 1) chooses among processes; `lasts_s` is how long a pause, an outage or a fault lasts."""

    kind: str
    at_s: float
    pick: float
    lasts_s: float
    fault: Mapping[str, Any] = field(default_factory=dict)
    step: DeathStep | None = None

    @property
    def name(self) -> str:
        """The kind, and for a fault or a step which one."""
        if self.fault:
            what = self.fault.get("status", "")
            return f"{self.fault['operation']} {self.fault['kind']} {what}".strip()
        return f"at {self.step}" if self.step else self.kind


@dataclass(frozen=True)
class Plan:
    seed: int
    loads: tuple[Load, ...]
    breaks: tuple[Break, ...]

    @property
    def jobs(self) -> int:
        return sum(load.jobs for load in self.loads)


LOADS: Mapping[str, int] = {
    "single": 6,
    "chain": 4,
    "group": 2,
    "chord": 3,
    "chord_of_chains": 2,
    "chord_with_failure": 1,
    "chord_that_survives": 1,
    "linked": 2,
    "failing": 1,
    "returned": 1,
    "retried": 1,
    "shared": 1,
    "crowd": 1,
    "cancelled": 2,
    "cancelled_somewhere": 2,
    "poison": 2,
    "too_deep": 1,
    "no_output": 1,
    "queue": 2,
    "stream": 3,
    "kept_stream": 1,
}
"""Kind of load -> how many of them are in one deck."""

BREAKS: Mapping[str, int] = {
    "kill child": 3,
    "kill worker": 1,
    "kill frozen worker": 1,
    "redis terminated": 1,
    "redis killed": 1,
    "redis stopped": 1,
    "redis client pause": 1,
    "step": 5,
    "fault": 8,
    "garbage": 1,
    "celery purge": 1,
    "purge at RunPod": 2,
}

TAKES_S: Mapping[str, float] = {
    "kill worker": 3.0,
    "kill frozen worker": 4.0,
    "redis terminated": 6.0,
    "redis killed": 6.0,
    "redis stopped": 1.5,
    "redis client pause": 1.5,
    "purge at RunPod": 1.0,
}
"""About how long a break keeps the one thread that breaks things: until another worker is up, or Redis is back."""

QUEUES_S = 2.0
"""So long after its send the jobs of a load "queue" have been submitted, and most of them wait at RunPod."""

HTML = "<html><body>Bad gateway</body></html>"
OUTAGES: tuple[Mapping[str, Any], ...] = (
    {"operation": "run", "kind": "status", "status": 503, "body": HTML, "times": 20},
    {"operation": "run", "kind": "delay", "seconds": 6, "times": 20},
)
"""They spoil the POSTs under way at their onset and the probes after it. With two happenings they would be over before
the first probe."""
FAULTS: tuple[Mapping[str, Any], ...] = (
    # RunPod has certainly nothing: the job goes again.
    {"operation": "run", "kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 20},
    {"operation": "run", "kind": "status", "status": 429, "body": HTML, "times": 20},
    {"operation": "run", "kind": "delay", "seconds": 0.7, "probability": 0.5},
    # Nobody can know whether RunPod has it: few, or nothing else would be seen.
    {"operation": "run", "kind": "status", "status": 502, "body": HTML, "times": 2},
    {"operation": "run", "kind": "drop_before", "times": 2},
    {"operation": "run", "kind": "drop_after", "times": 2},
    {"operation": "run", "kind": "truncate", "times": 2},
    {"operation": "run", "kind": "body", "body": HTML, "times": 1},
    {"operation": "run", "kind": "delay", "seconds": 4, "times": 2},
    # Whatever is sent meanwhile may be lost, so nothing but a probe is.
    *OUTAGES,
    {"operation": "health", "kind": "status", "status": 503, "body": HTML, "times": 30},
    # No word on a job is no word on a job.
    {"operation": "status", "kind": "status", "status": 429, "body": HTML, "times": 30},
    {"operation": "status", "kind": "status", "status": 503, "body": HTML, "times": 30},
    {"operation": "status", "kind": "body", "body": HTML, "probability": 0.5},
    {"operation": "status", "kind": "body", "body": "[]", "probability": 0.5},
    {"operation": "status", "kind": "truncate", "probability": 0.5},
    {"operation": "status", "kind": "drop_before", "probability": 0.5},
    {"operation": "status", "kind": "drop_after", "probability": 0.5},
    {"operation": "status", "kind": "delay", "seconds": 3, "probability": 0.3},
    {"operation": "status", "kind": "status", "status": 404, "body": '{"error": "job not found"}', "times": 1},
    # RunPod gives a chunk once: what is lost is a gap.
    {"operation": "stream", "kind": "status", "status": 429, "body": HTML, "times": 10},
    {"operation": "stream", "kind": "status", "status": 503, "body": HTML, "times": 3},
    {"operation": "stream", "kind": "truncate", "times": 2},
    {"operation": "stream", "kind": "drop_after", "times": 2},
    {"operation": "stream", "kind": "delay", "seconds": 1, "probability": 0.3},
    {"operation": "stream", "kind": "part", "times": 20},
    # A cancel is owed until RunPod has said that there is nothing left to cancel.
    {"operation": "cancel", "kind": "status", "status": 429, "times": 5},
    {"operation": "cancel", "kind": "status", "status": 500, "body": HTML, "times": 5},
    {"operation": "cancel", "kind": "drop_before", "times": 5},
    {"operation": "cancel", "kind": "drop_after", "times": 5},
)
WEBHOOK_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"operation": "webhook", "kind": "drop_before", "probability": 0.5},
    {"operation": "webhook", "kind": "drop_after", "probability": 0.5},
    {"operation": "webhook", "kind": "duplicate", "probability": 0.7},
    {"operation": "webhook", "kind": "late", "seconds": 4, "probability": 0.5},
    {"operation": "webhook", "kind": "early", "seconds": 0.5, "probability": 0.5},
    {"operation": "webhook", "kind": "reorder", "seconds": 2, "probability": 0.5},
    {"operation": "webhook", "kind": "truncate", "probability": 0.5},
    {"operation": "webhook", "kind": "status", "status": 500, "probability": 0.5},
)


def loses_answers(fault: Mapping[str, Any], submit_timeout_s: float) -> bool:
    """Whether such a fault leaves a POST /run without an answer that can be read."""
    if fault["operation"] != "run" or fault.get("status") == 429:
        return False
    return fault["kind"] != "delay" or fault["seconds"] > submit_timeout_s


def make_plan(seed: int, *, jobs: int, rate: float, break_every_s: float, webhooks: bool = False) -> Plan:
    """Loads of at least `jobs` jobs, `rate` of them a second, with something broken about every `break_every_s`
    seconds."""
    random = Random(seed)
    loads: list[Load] = []
    kinds = _deck(random, LOADS)
    sent = 0
    while sent < jobs:
        load = _load(random, next(kinds), f"{seed}-{len(loads):05d}", sent / rate)
        loads.append(load)
        sent += load.jobs
    faults = _deck(random, dict.fromkeys(range(len(FAULTS)), 1) if not webhooks else _with_webhooks())
    deaths = _deck(random, dict.fromkeys(DEATHS, 1))
    breaks: list[Break] = []
    at_s = break_every_s
    for kind in _deck(random, BREAKS):
        if at_s >= sent / rate:
            break
        one = _break(random, kind, at_s, faults, deaths)
        if kind == "purge at RunPod":
            one = _when_jobs_wait(one, loads)
        breaks.append(one)
        at_s += break_every_s * random.uniform(0.5, 1.5) + TAKES_S.get(kind, 0.0)
    return Plan(seed, tuple(loads), tuple(sorted(breaks, key=lambda one: one.at_s)))


def _when_jobs_wait(one: Break, loads: Sequence[Load]) -> Break:
    """A purge of an empty queue is none: it comes after the next load that fills it, where there is one."""
    last_s = loads[-1].at_s
    times = (load.at_s + QUEUES_S for load in loads if load.kind == "queue" and load.at_s >= one.at_s)
    return replace(one, at_s=next((at_s for at_s in times if at_s < last_s), one.at_s))


def _with_webhooks() -> dict[int, int]:
    return dict.fromkeys(range(len(FAULTS) + len(WEBHOOK_FAULTS)), 1)


def _deck(random: Random, cards: Mapping[Any, int]) -> Iterator[Any]:
    """The cards in a random order, shuffled again when all were drawn: a short run sees every kind too."""
    deck = [card for card, count in cards.items() for _ in range(count)]
    while True:
        random.shuffle(deck)
        yield from deck


def _load(random: Random, kind: str, name: str, at_s: float) -> Load:
    numbers = iter(range(100))

    def step(does: str, **more: Any) -> Step:
        return Step(f"{name}-{next(numbers):02d}", does, **more)

    def lanes(*each: Sequence[str]) -> tuple[tuple[Step, ...], ...]:
        return tuple(tuple(step(does) for does in lane) for lane in each)

    many = random.randint(2, 6)
    chain = (USER, FAST, USER, FAST, USER)
    match kind:
        case "single":
            return Load(kind, at_s, lanes([FAST]))
        case "chain":
            return Load(kind, at_s, lanes(chain))
        case "group":
            return Load(kind, at_s, lanes(*[[FAST]] * many))
        case "chord":
            return Load(kind, at_s, lanes(*[[FAST]] * many), step(USER))
        case "chord_of_chains":
            return Load(
                kind, at_s, lanes(*random.choices([[USER, FAST], [FAST, USER], [FAST, FAST]], k=many)), step(USER)
            )
        case "chord_with_failure":
            return Load(kind, at_s, lanes([FAST], [BROKEN], [FAST, USER]), step(USER))
        case "chord_that_survives":
            survivor = (step(BROKEN, options={"on_error": "return"}),)
            return Load(kind, at_s, (survivor, *lanes([FAST], [FAST])), step(USER))
        case "linked":
            return Load(kind, at_s, ((step(FAST, link=f"{name}-link", errback=f"{name}-errback"),),))
        case "failing":
            return Load(kind, at_s, ((step(BROKEN, link=f"{name}-link", errback=f"{name}-errback"), step(USER)),))
        case "returned":
            return Load(kind, at_s, ((step(BROKEN, options={"on_error": "return"}),),))
        case "retried":
            return Load(kind, at_s, ((step(BROKEN, options={"retries": random.randint(1, 2)}),),))
        case "shared":
            options, mark = {"idempotency_key": name}, f"{name}-shared"
            return Load(kind, at_s, tuple((step(FAST, options=options, shares=mark),) for _ in range(many)))
        case "crowd":
            return Load(kind, at_s, lanes(*[[NARROW]] * 8))
        case "cancelled":
            return Load(kind, at_s, lanes([SLOW]), cancel_after_s=random.uniform(0, 4))
        case "poison":
            kinds = random.sample(sorted(POISONS), k=2)
            return Load(kind, at_s, tuple((step(POISON, options={"poison": one}),) for one in kinds))
        case "too_deep":
            return Load(kind, at_s, lanes([DEEP, USER], [FAST]), step(USER))
        case "no_output":
            return Load(kind, at_s, lanes([EMPTY, USER]))
        case "stream":
            return Load(kind, at_s, ((step(TALK, options={"stream": True}),),))
        case "kept_stream":
            return Load(kind, at_s, ((step(KEPT_TALK, options={"stream": True}),),))
        case "queue":
            return Load(kind, at_s, lanes(*[[QUEUED]] * 8))
        case "cancelled_somewhere":
            return Load(kind, at_s, lanes(random.choice([[FAST], chain])), cancel_after_s=random.uniform(0, 3))
    raise ValueError(f"no load of kind {kind!r}")


def _break(random: Random, kind: str, at_s: float, faults: Iterator[int], deaths: Iterator[DeathStep]) -> Break:
    pick, lasts_s = random.random(), random.uniform(0.3, 2.5)
    if kind == "fault":
        rule = (*FAULTS, *WEBHOOK_FAULTS)[next(faults)]
        return Break(kind, at_s, pick, lasts_s * 2, fault={**rule, "seed": random.randrange(2**31)})
    return Break(kind, at_s, pick, lasts_s, step=next(deaths) if kind == "step" else None)
