"""Rows that are jobs, and the signal `job_ended`, in a project's own worker: real servers, SQLite and PostgreSQL."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import chain, group
from django.db import transaction

from celery_runpod import Endpoint, on_commit
from celery_runpod.errors import JobCancelled, JobFailed
from tests import django_project
from tests.django_database import database_of
from tests.django_shop.models import Heard, Picture
from tests.django_shop.worker import app, fail, same
from tests.rabbitmq import rabbitmq_server
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

ENDPOINTS = [
    "fast=synthetic:duration=0.2",
    "slow=synthetic:duration=60",
    "failing=synthetic:duration=0.2,failures=1",
]


class Shop:
    """The project: this process is its web process, and its own worker can be killed."""

    def __init__(self, world: World, database: dict[str, Any], folder: Path) -> None:
        self.world = world
        self.dies_once, self.runpod_dies_at = folder / "dies-once", folder / "die-at"
        self._env = {
            "DJANGO_SETTINGS_MODULE": "tests.django_shop.settings",
            "SHOP_DATABASE": json.dumps(database),
            "SHOP_DIES_ONCE": str(self.dies_once),
        }
        self.start_worker()

    def start_worker(self) -> None:
        self.worker = self.world.stack.application(
            "tests.django_shop.worker", "shop", concurrency=1, env=self._env, cwd=ROOT
        )

    def kill_worker(self) -> None:
        self.worker.kill(signal.SIGKILL)
        self.worker.process.wait()
        self.world.stack.remove(self.worker)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(request.param, tmp_path_factory.mktemp("shop")) as made:
        yield made


@contextmanager
def open_shop(kind: str, folder: Path, broker: str = "redis") -> Iterator[Shop]:
    env = {"RUNPOD_DIE_AT": str(folder / "die-at"), "RUNPOD_CLAIM_LEASE_S": "22"}
    with (
        database_of(kind, folder) as database,
        World(folder, endpoints=ENDPOINTS, env=env, broker=broker) as world,
    ):
        world.start(application=None)
        app.conf.update(broker_url=world.broker_url, result_backend=world.redis_url)
        forget_connections()
        app._pool = app.amqp._producer_pool = app._backend_cache = None
        app._local.__dict__.pop("backend", None)
        app.set_current()
        app.set_default()
        with django_project.listening():
            yield Shop(world, database, folder)


def endpoint(name: str) -> Endpoint:
    return Endpoint(name, app=app).using(backoff={"first": 0.2, "cap": 0.5})


def state_of(picture: Picture) -> tuple[str, int]:
    found = Picture.objects.get(pk=picture.pk)
    return found.job_state, found.handled


def heard(task_id: str) -> list[tuple[str, str]]:
    return [(one.state, one.error.partition(":")[0]) for one in Heard.objects.filter(task_id=task_id)]


def test_a_row_gets_its_output(shop: Shop) -> None:
    with transaction.atomic():
        picture = Picture.objects.create(prompt="a cat")
        result = picture.start_job(endpoint("fast").s(prompt="a cat"))
    eventually(lambda: state_of(picture), ("SUCCESS", 1), within_s=60)
    picture.refresh_from_db()
    assert picture.job_result == {"prompt": "a cat"} == result.get(timeout=10)
    assert heard(result.id) == [("SUCCESS", "")]
    [one] = Heard.objects.filter(task_id=result.id)
    assert (one.endpoint, one.result) == ("fast", {"prompt": "a cat"})


def test_a_row_gets_its_error(shop: Shop) -> None:
    picture = Picture.objects.create()
    picture.start_job(endpoint("failing").s())
    eventually(lambda: state_of(picture), ("FAILURE", 1), within_s=60)
    picture.refresh_from_db()
    assert isinstance(picture.job_exception, JobFailed) and picture.job_exception.endpoint == "failing"


def test_an_ignored_result_arrives_too(shop: Shop) -> None:
    picture = Picture.objects.create()
    picture.start_job(endpoint("fast").signature((), {"n": 1}, ignore_result=True))
    eventually(lambda: state_of(picture), ("SUCCESS", 1), within_s=60)
    picture.refresh_from_db()
    assert picture.job_result == {"n": 1}


def test_a_refused_call_ends_its_row(shop: Shop) -> None:
    picture = Picture.objects.create()
    picture.start_job(endpoint("fast").using(api_key_name="unknown").s(n=1))
    eventually(lambda: state_of(picture), ("FAILURE", 1), within_s=60)


def test_a_cancel_of_a_chain_ends_the_rows_of_all_its_calls(shop: Shop) -> None:
    first, last = Picture.objects.create(), Picture.objects.create()

    def with_the_last(job: Any) -> Any:
        behind = endpoint("fast").s(n=1)
        behind.set(task_id=f"behind-{job.options['task_id']}")
        last.task_id = behind.options["task_id"]
        last.save()
        return chain(job, same.s(), behind)

    result = first.start_job(endpoint("slow").s(), within=with_the_last)
    eventually(lambda: result.state, "IN_PROGRESS", within_s=60)
    assert first.job is not None
    first.job.cancel()
    eventually(lambda: (state_of(first), state_of(last)), (("REVOKED", 1), ("REVOKED", 1)), within_s=60)
    last.refresh_from_db()
    assert isinstance(last.job_exception, JobCancelled)


def test_an_own_task_that_fails_ends_the_calls_behind_it(shop: Shop) -> None:
    last = Picture.objects.create()
    behind = endpoint("fast").s(n=1)
    behind.set(task_id="behind-an-own-task")
    last.task_id = "behind-an-own-task"
    last.save()
    on_commit(chain(endpoint("fast").s(n=1), fail.s(), behind), app=app)
    eventually(lambda: state_of(last), ("FAILURE", 1), within_s=60)
    last.refresh_from_db()
    assert "ValueError: it never works" in last.job_error["message"]


def test_many_rows_of_a_group(shop: Shop) -> None:
    results = on_commit(group(endpoint("fast").s(n=n) for n in range(20)), app=app)
    ids = [one.id for one in results.results]
    # Saved afterwards: some have ended before.
    for n, task_id in enumerate(ids):
        Picture.objects.create(prompt=f"of {n}", task_id=task_id)
    rows = Picture.objects.filter(task_id__in=ids)
    eventually(lambda: {(one.job_state, one.handled) for one in rows.all()}, {("SUCCESS", 1)}, within_s=60)
    assert {one.prompt: one.job_result for one in rows} == {f"of {n}": {"n": n} for n in range(20)}


def test_an_own_workers_child_that_is_killed_while_it_handles_the_end(shop: Shop) -> None:
    shop.dies_once.write_text("")
    picture = Picture.objects.create()
    result = picture.start_job(endpoint("fast").s(n=1))
    eventually(lambda: state_of(picture), ("SUCCESS", 1), within_s=60)
    assert not shop.dies_once.exists()
    assert heard(result.id) == [("SUCCESS", "")] * len(heard(result.id))


# The RunPod worker knows no database. What three of the steps have claimed is free again when the claim lapses, after
# RUNPOD_CLAIM_LEASE_S: all three in the same time.
@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "steps", [["finish.4.delivered"], ["outcome.1.recorded", "finish.2.claimed", "finish.3.stored"]], ids=", ".join
)
def test_a_runpod_worker_that_is_killed_on_the_way(shop: Shop, steps: list[str]) -> None:
    pictures = []
    for step in steps:
        shop.runpod_dies_at.write_text(step)
        pictures.append(Picture.objects.create())
        pictures[-1].start_job(endpoint("fast").s(n=1))
        eventually(shop.runpod_dies_at.exists, False, within_s=60)
    eventually(lambda: [state_of(one) for one in pictures], [("SUCCESS", 1)] * len(steps), within_s=120)


def test_what_a_killed_worker_had_popped_is_saved_by_the_next_one(shop: Shop) -> None:
    shop.kill_worker()
    picture = Picture.objects.create()
    picture.start_job(endpoint("fast").s(n=1))
    eventually(lambda: shop.world.redis.llen("shop"), 1, within_s=60)
    # As kombu does: the message is taken from its queue, and nobody has noted it.
    assert "runpod.job_ended" in shop.world.redis.lpop("shop")
    shop.start_worker()
    eventually(lambda: state_of(picture), ("SUCCESS", 1), within_s=60)


def test_nothing_is_left(shop: Shop) -> None:
    eventually(shop.world.open_jobs, [], within_s=60)
    assert shop.world.redis.llen("shop") == 0


@pytest.mark.skipif(rabbitmq_server() is None, reason="no rabbitmq-server is installed")
def test_on_rabbitmq_the_end_of_a_job_arrives_and_waits_for_a_worker(tmp_path: Path) -> None:
    with open_shop("sqlite", tmp_path, broker="rabbitmq") as rabbits:
        picture = Picture.objects.create()
        picture.start_job(endpoint("fast").s(n=1))
        eventually(lambda: state_of(picture), ("SUCCESS", 1), within_s=60)
        rabbits.kill_worker()
        failed = Picture.objects.create()
        failed.start_job(endpoint("failing").s(n=1))
        eventually(lambda: rabbits.world.rabbit.waiting("shop"), 1, within_s=60)
        rabbits.start_worker()
        eventually(lambda: state_of(failed), ("FAILURE", 1), within_s=60)
