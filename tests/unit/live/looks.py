"""A job store and results for the tests of this folder."""

from __future__ import annotations

from typing import Any

import fakeredis
from celery import Celery

from celery_runpod._live.job_reader import JobReader, Notes
from celery_runpod._store.store import JobStore
from tests.builders import NOW, Bench

ENDPOINT = "e1"


class Scene:
    """A bench whose jobs are looked at, with a worker that is up."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.store: JobStore = self.bench.store
        self.app: Celery = self.bench.app
        self.store.workers.heartbeat("runpod@host", NOW, 3600.0)
        self.noted = Notes()
        self.job_reader = self.another()

    def another(self) -> JobReader:
        return JobReader(self.app, self.store, self.noted)

    def look(self, *ids: str) -> Any:
        found = self.job_reader.read(ids or ("t1",), self.bench.now)
        return found if len(ids) > 1 else found[ids[0] if ids else "t1"]

    def trips(self) -> list[list[str]]:
        """From now on, the names of the commands of each round trip to the store."""
        made: list[list[str]] = []
        redis: Any = self.bench.redis
        original = redis.pipeline

        def pipeline(**options: Any) -> Any:
            pipe = original(**options)
            execute = pipe.execute

            def counted(**given: Any) -> Any:
                made.append([str(command[0][0]) for command in pipe.command_stack])
                return execute(**given)

            pipe.execute = counted
            return pipe

        redis.pipeline = pipeline
        return made


def store() -> JobStore:
    return JobStore(fakeredis.FakeRedis(decode_responses=True), "runpod")
