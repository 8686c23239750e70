"""Jobs and a worker's services for unit tests: fakeredis, an injected clock, a RunPod that answers by script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import fakeredis
from celery import Celery
from kombu.transport.memory import Channel

import tasks.cancel
import tasks.check
import tasks.delivery
import tasks.endpoint_tasks
import tasks.management_tasks
import tasks.retry
import tasks.run
from celery_runpod._connect import TEXT
from celery_runpod._protocol import FINISH, Queues
from celery_runpod._store.record import JobRecord
from celery_runpod._store.store import JobStore
from celery_runpod._store.store_part import Lives
from celery_runpod._store.submits import Post
from celery_runpod._worker_mark import mark_as_worker
from celery_runpod.api import Health, Job
from celery_runpod.options import Options
from config.profiles import Profile
from config.settings import Settings, load_settings
from tasks.budget import Budget
from tasks.check import Check
from tasks.publish_check import plan_check
from tasks.services import Services
from tasks.submit import submit

NOW = 1_790_000_000.25
ENDPOINT = "e1"


HOOKS = {"RUNPOD_WEBHOOK_URL": "https://x.test/hook", "RUNPOD_WEBHOOK_SECRET": "a-secret-of-the-tests"}
"""Settings of a worker that webhooks reach."""


def answered(store: JobStore, job: JobRecord, job_id: str, look_at: float, now: float) -> str:
    """RunPod has taken the latest attempt of a job as `job_id`."""
    post = Post(job.endpoint, "run", "token", 0.0, now + 25)
    return store.submits.answered(job, job_id, look_at, now, post, 0.1)[0]


class ScriptedRunPod:
    """Answers each call with what `script` says of it: an answer, an error to raise, or a function of the call."""

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.jobs = 0

    def says(self, operation: str, *answers: Any) -> None:
        self.script.setdefault(operation, []).extend(answers)

    def called(self, operation: str) -> int:
        return sum(call[0] == operation for call in self.calls)

    def run(self, endpoint: str, input: Any, **_: Any) -> Job:
        self.jobs += 1
        return self._answer("run", Job(f"r{self.jobs}", "IN_QUEUE"), endpoint, input)

    def run_sync(self, endpoint: str, input: Any, **_: Any) -> Job:
        self.jobs += 1
        return self._answer("runsync", Job(f"r{self.jobs}", "IN_QUEUE"), endpoint, input)

    def status(self, endpoint: str, job_id: str, **_: Any) -> Job:
        return self._answer("status", Job(job_id, "IN_QUEUE"), endpoint, job_id)

    def take_chunks(self, endpoint: str, job_id: str, **_: Any) -> tuple[Job, list[Any]]:
        return self._answer("stream", (Job(job_id, "IN_QUEUE"), []), endpoint, job_id)

    def cancel(self, endpoint: str, job_id: str, **_: Any) -> Job:
        return self._answer("cancel", Job(job_id, "CANCELLED"), endpoint, job_id)

    def health(self, endpoint: str, **_: Any) -> Health:
        return self._answer("health", Health(idle=1), endpoint)

    def purge_queue(self, endpoint: str, **_: Any) -> int:
        return self._answer("purge-queue", 0, endpoint)

    def _answer(self, operation: str, usual: Any, *call: Any) -> Any:
        self.calls.append((operation, *call))
        scripted = self.script.get(operation)
        answer = scripted.pop(0) if scripted else usual
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, type(usual))
        return answer


class Bench:
    """A worker's services without a worker. Time stands still unless a test moves `now`."""

    def __init__(self, profiles: Mapping[str, Profile] | None = None, **env: str) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.shown: list[tuple[str, str, dict[str, Any]]] = []
        self.runpod = ScriptedRunPod()
        self.management: Any = None
        self.redis: Any = fakeredis.FakeRedis(**TEXT)
        self.app = Celery("bench", broker="memory://bench", backend="cache+memory://", set_as_current=False)
        self.app.conf.broker_transport_options = {"polling_interval": 0}
        mark_as_worker(self.app)
        self.app.finalize()
        Channel.queues.clear()  # the memory of all apps
        self.settings: Settings = load_settings({"RUNPOD_API_KEY": "bench-key", **env})
        # Given, not read from a file: the property would read it.
        self.settings.__dict__["profiles"] = dict(profiles or {})
        store = JobStore(self.redis, "runpod", Lives(tombstone_s=3600, key_s=1800))
        self.services = Services(
            app=self.app,
            settings=self.settings,
            store=store,
            budget=Budget(store.scripts, lambda: self.now),
            pool=ThreadPoolExecutor(1),
            client=lambda _: self.runpod,  # type: ignore[arg-type, return-value]
            management=lambda _: self.management,  # type: ignore[arg-type, return-value]
            announce=lambda job, state, news: self.shown.append((job.task_id, state, dict(news))),
            clock=lambda: self.now,
            spread=lambda: 0.5,
            sleep=self._sleep,
        )
        self.app.runpod_services = lambda: self.services

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def store(self) -> JobStore:
        return self.services.store

    def job(self, task_id: str = "t1", **changes: Any) -> JobRecord:
        """A call that was read, and is in no store yet."""
        options = changes.pop("options", Options(deadline=600.0))
        made = JobRecord(
            task_id=task_id,
            endpoint=ENDPOINT,
            name=ENDPOINT,
            root_id=task_id,
            continuation=json.dumps(
                dict(self.app.tasks[FINISH].signature((), {}, task_id=task_id, queue=Queues.of("runpod").deliver))
            ),
            options=options,
            accepted_at=self.now,
            begun_at=self.now,
            not_before=self.now,
            end_by=self.now + (options.deadline or 600.0),
            start_by=None if options.start_timeout is None else self.now + options.start_timeout,
            input={"a": 1},
        )
        return replace(made, **changes)

    def accepted(self, task_id: str = "t1", **changes: Any) -> JobRecord:
        """A job in the store, submitted if it could be."""
        job = self.job(task_id, **changes)
        self.store.ids.index(job, (), ())
        assert self.store.accept(job, self.now) == "accepted"
        submit(self.services, job, self.now)
        plan_check(self.services, ENDPOINT, self.now)
        return self.record(task_id)

    def record(self, task_id: str = "t1") -> JobRecord:
        (found,) = self.store.jobs(ENDPOINT, [task_id])
        return found

    def check(self, after_s: float = 0.0) -> None:
        """Let a check run, so many seconds later. What it ends waits in a message: a delivered job leaves no record
        that a test could read (tests/unit/tasks/test_deliver_here.py lets it deliver)."""
        self.now += after_s
        made = Check(self.services, ENDPOINT)
        made.services = self.services
        made.run()

    def due(self, task_id: str = "t1") -> float | None:
        """When the job is worked on again, in seconds from now."""
        orders = (self.store.keys.due(ENDPOINT), self.store.keys.look(ENDPOINT))
        scores: list[Any] = [self.redis.zscore(order, task_id) for order in orders]
        return min((score - self.now for score in scores if score is not None), default=None)

    def deliver(self, task_id: str = "t1") -> None:
        """What `finish` leaves in the store."""
        tasks.delivery.mark_delivered(self.services, self.record(task_id))

    def count(self, queue: str) -> int:
        """Messages in a queue."""
        with self.app.connection_for_read() as connection:
            return int(connection.default_channel._size(queue))


def lease_due(
    store: JobStore, endpoint: str, token: str, now: float, lease_until: float, batch: int, max_checks: int
) -> tuple[list[str], bool] | None:
    """What a check takes where the budget grants every look: task ids, and whether more is due. None if it may not
    begin."""
    begun = store.begin_check(endpoint, token, now, lease_until, batch, max_checks)
    if begun is None:
        return None
    leased = store.lease_due(endpoint, now, lease_until, batch, looks=begun.looks)
    return [*leased.decided, *leased.looks], leased.more
