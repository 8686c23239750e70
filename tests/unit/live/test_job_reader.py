"""How a job stands, from its record and its result: what is asked, and what it means."""

from __future__ import annotations

import json
from typing import Any

import fakeredis
import pytest
from celery import states
from celery.exceptions import TaskRevokedError
from redis.exceptions import NoPermissionError

from celery_app.watchdog.overdue_checks import heal
from celery_runpod._live import job_reader
from celery_runpod._live.job_reader import MOST_STEPS, NOTE_EVERY_S, Notes
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.store import CheckTimes
from celery_runpod._store.watches import WATCHED_S
from celery_runpod.errors import JobCancelled, JobFailed
from celery_runpod.options import Options
from tasks.idempotency import join
from tasks.submit import submit
from tests.builders import NOW
from tests.unit.live.looks import ENDPOINT, Scene, store


@pytest.fixture
def scene() -> Scene:
    return Scene()


def observed(scene: Scene, job: JobRecord, **seen: Any) -> None:
    """What a check writes after a look at RunPod."""
    score: Any = scene.bench.redis.zscore(scene.store.keys.look(ENDPOINT), job.task_id)
    assert scene.store.observe(job, score, score, decide_at=job.end_by, **seen) == "changed"


def test_a_call_that_no_worker_has_accepted_is_pending(scene: Scene) -> None:
    scene.store.outbox.keep_message("t1", NOW - 3.0, "{}", "{}")
    update = scene.look()
    assert (update.state, update.ended, update.seconds) == ("PENDING", False, 3.0)
    assert (update.reason, update.error, update.step) == (None, None, None)


def test_an_open_job_says_where_it_stands(scene: Scene) -> None:
    job = scene.bench.accepted()
    observed(scene, job, state=State.IN_PROGRESS, progress=json.dumps({"step": 3}))
    scene.bench.now += 7.0
    update = scene.look()
    assert (update.state, update.progress, update.job_id) == ("IN_PROGRESS", {"step": 3}, "r1")
    assert (update.seconds, update.ended) == (7.0, False)


def test_an_open_job_costs_one_round_trip(scene: Scene) -> None:
    scene.bench.accepted()
    scene.look()
    trips = scene.trips()
    scene.bench.now += NOTE_EVERY_S
    scene.look()
    assert trips == [["ZCOUNT", "HMGET", "SET"]]


def test_hundreds_of_jobs_cost_one_round_trip(scene: Scene) -> None:
    ids = [f"t{number}" for number in range(300)]
    for task_id in ids:
        scene.bench.accepted(task_id)
    scene.look(*ids)
    trips = scene.trips()
    assert {update.state for update in scene.look(*ids).values()} == {"IN_QUEUE"}
    assert len(trips) == 1 and trips[0].count("HMGET") == 300


def joined(scene: Scene, task_id: str) -> JobRecord:
    """A call with an idempotency key; returns the job that it shares, which is at RunPod."""
    bench = scene.bench
    call = bench.job(task_id, options=Options(deadline=600.0, idempotency_key="k"))
    scene.store.ids.index(call, (), ())
    _, waiter, shared = join(bench.services, call, bench.now)
    if shared is not None:
        submit(bench.services, shared, bench.now)
    return next(iter(scene.store.jobs(ENDPOINT, [waiter.joined])))


def test_a_call_that_shares_its_job_stands_as_that_job_does(scene: Scene) -> None:
    shared = joined(scene, "t1")
    joined(scene, "t2")
    observed(scene, shared, state=State.IN_PROGRESS, progress=json.dumps({"step": 3}))
    scene.bench.now += 7.0
    for update in scene.look("t1", "t2").values():
        assert (update.state, update.progress, update.job_id) == ("IN_PROGRESS", {"step": 3}, "r1")
        assert (update.seconds, update.ended) == (7.0, False)
    redis, keys = scene.bench.redis, scene.store.keys
    assert redis.exists(keys.watched(ENDPOINT, shared.task_id)) == 1, "workers ask for that of the shared job"
    trips = scene.trips()
    scene.bench.now += NOTE_EVERY_S
    assert scene.look().state == "IN_PROGRESS"
    assert trips == [["ZCOUNT", "HMGET", "HMGET", "SET"]]
    redis.hset(keys.job(ENDPOINT, shared.task_id), mapping={"state": "DELIVERED", "verdict": "COMPLETED"})
    assert (scene.look().state, scene.look().ended) == ("COMPLETED", False)
    redis.delete(keys.job(ENDPOINT, shared.task_id))
    assert scene.look().state == "JOINED"
    redis.hset(keys.job(ENDPOINT, "t1"), mapping={"state": "DELIVERED", "verdict": "COMPLETED"})
    assert (scene.look().state, scene.look().ended) == ("SUCCESS", True)
    assert "t1" not in scene.job_reader.shared


def test_an_earlier_step_that_shares_its_job_stands_as_that_job_does(scene: Scene) -> None:
    shared = joined(scene, "t1")
    scene.bench.redis.sadd(scene.store.keys.root("later"), "t1")
    observed(scene, shared, state=State.IN_PROGRESS, progress="1")
    step = scene.look("later").step
    assert (step.state, step.progress) == ("IN_PROGRESS", 1)


def test_no_worker_is_the_reason_before_all_others(scene: Scene) -> None:
    scene.bench.accepted()
    scene.store.workers.heartbeat("runpod@host", scene.bench.now, 0.0)
    assert scene.look().reason == "NO_WORKER"
    assert scene.look("unknown").reason == "NO_WORKER"


def test_the_end_brings_the_result(scene: Scene) -> None:
    scene.bench.accepted()
    assert not scene.look().ended
    scene.app.backend.store_result("t1", {"image": "x"}, states.SUCCESS)
    scene.store.record_outcome(scene.bench.record(), State.COMPLETED, {"output": {"image": "x"}}, NOW + 4.0, NOW + 60)
    scene.bench.deliver()
    scene.bench.now += 100.0
    update = scene.look()
    assert (update.state, update.ended, update.result, update.error) == ("SUCCESS", True, {"image": "x"}, None)
    assert update.job_id == "r1" and update.progress is None


def test_a_verdict_is_no_end_before_its_result_is_stored(scene: Scene) -> None:
    scene.bench.accepted()
    scene.store.record_outcome(scene.bench.record(), State.COMPLETED, {"output": 1}, NOW, NOW + 60)
    assert (scene.look().state, scene.look().ended) == ("COMPLETED", False)
    scene.app.backend.store_result("t1", 1, states.SUCCESS)
    assert (scene.look().state, scene.look().ended, scene.look().result) == ("SUCCESS", True, 1)


def test_an_error_arrives_typed(scene: Scene) -> None:
    scene.app.backend.store_result("t1", JobFailed("no memory", "sdxl", "t1", "r1", "OSError"), states.FAILURE)
    update = scene.look()
    assert (update.state, update.ended, update.result) == ("FAILURE", True, None)
    assert isinstance(update.error, JobFailed) and update.error.error_type == "OSError"


def test_a_cancelled_job_has_a_typed_error(scene: Scene) -> None:
    scene.app.backend.store_result("t1", TaskRevokedError("expired"), states.REVOKED)
    error = scene.look().error
    assert isinstance(error, JobCancelled) and isinstance(error, TaskRevokedError)
    assert (error.message, error.task_id) == ("expired", "t1")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (State.COMPLETED, "SUCCESS"),
        (State.CANCELLED, "REVOKED"),
        (State.FAILED, "FAILURE"),
        (State.ENDED_HERE, "FAILURE"),
    ],
)
def test_without_a_kept_result_the_tombstone_says_how_it_ended(scene: Scene, verdict: State, state: str) -> None:
    scene.bench.accepted(ignore_result=True)
    scene.store.record_outcome(scene.bench.record(), verdict, {}, NOW, NOW + 60)
    scene.bench.deliver()
    update = scene.look()
    assert (update.state, update.ended, update.result) == (state, True, None)


def test_a_result_that_cannot_be_read_ends_this_job_alone(scene: Scene) -> None:
    scene.job_reader.one_redis = True
    scene.app.backend.get_key_for_task = lambda task_id: f"celery-task-meta-{task_id}"
    scene.bench.redis.set("celery-task-meta-broken", "{")
    scene.bench.redis.set("celery-task-meta-t1", json.dumps({"status": "SUCCESS", "result": 1, "task_id": "t1"}))
    found = scene.look("broken", "t1")
    assert (found["broken"].state, found["t1"].result) == ("FAILURE", 1)
    assert isinstance(found["broken"].error, Exception)


def test_a_result_that_was_read_before_its_record_is_read_again(scene: Scene) -> None:
    """A job that ends between two reads of one look must not count as one whose result is not kept."""
    scene.job_reader.one_redis = True
    scene.app.backend.get_key_for_task = lambda task_id: f"celery-task-meta-{task_id}"
    scene.bench.accepted()
    scene.store.record_outcome(scene.bench.record(), State.COMPLETED, {"output": 5}, NOW, NOW + 60)
    scene.bench.deliver()
    redis: Any = scene.bench.redis
    original, trips = redis.pipeline, []

    def pipeline(**options: Any) -> Any:
        trips.append(1)
        if len(trips) == 2:
            redis.set("celery-task-meta-t1", json.dumps({"status": "SUCCESS", "result": 5, "task_id": "t1"}))
        return original(**options)

    redis.pipeline = pipeline
    assert (scene.look().state, scene.look().result) == ("SUCCESS", 5)


def test_results_in_another_redis_are_read_in_a_round_trip_of_their_own(scene: Scene) -> None:
    elsewhere: Any = fakeredis.FakeRedis()
    scene.job_reader.results_in_redis = True
    scene.app.backend.client = elsewhere
    scene.app.backend.get_key_for_task = lambda task_id: f"celery-task-meta-{task_id}"
    scene.bench.accepted("open")
    for task_id in ("t1", "t2"):
        meta = {"status": "SUCCESS", "result": task_id, "task_id": task_id}
        elsewhere.set(f"celery-task-meta-{task_id}", json.dumps(meta))
    asked: list[list[str]] = []
    mget = elsewhere.mget
    elsewhere.mget = lambda keys: asked.append(keys) or mget(keys)
    found = scene.look("open", "t1", "t2", "unknown")
    assert {one: (update.state, update.result) for one, update in found.items()} == {
        "open": ("IN_QUEUE", None),
        "t1": ("SUCCESS", "t1"),
        "t2": ("SUCCESS", "t2"),
        "unknown": ("PENDING", None),
    }
    assert [len(keys) for keys in asked] == [3]


def test_what_a_looker_remembers_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_reader, "MOST_REMEMBERED", 2)
    for task_id in ("t1", "t2", "t3"):
        scene.bench.accepted(task_id)
    scene.look("t1", "t2", "t3")
    assert scene.look("t1").state == "IN_QUEUE" and set(scene.job_reader.endpoints) == {"t1"}
    scene.job_reader.forget("t1")
    assert scene.job_reader.endpoints == scene.job_reader.begun == {}


def test_a_later_step_names_the_step_that_it_waits_for(scene: Scene) -> None:
    for task_id in ("first", "second"):
        job = scene.bench.job(task_id, root_id="first", group_ids=("last",))
        scene.store.ids.index(job, ("last",), ("last",))
        assert scene.store.accept(job, NOW) == "accepted"
    observed_job = scene.bench.accepted("third", root_id="first")
    scene.store.ids.index(observed_job, ("last",), ("last",))
    update = scene.look("last")
    assert (update.state, update.reason, update.ended) == ("PENDING", "EARLIER_STEP", False)
    assert update.step is not None and (update.step.task_id, update.step.state) == ("third", "IN_QUEUE")
    assert update.seconds == 0.0
    assert "third" in scene.store.watches.among(ENDPOINT, ["third"])


def test_of_thousands_of_earlier_steps_a_few_are_read(scene: Scene) -> None:
    for number in range(MOST_STEPS + 20):
        job = scene.bench.job(f"m{number}", group_ids=("body",))
        scene.store.ids.index(job, ("body",), ("body",))
        scene.store.accept(job, NOW)
    trips = scene.trips()
    assert scene.look("body").reason == "EARLIER_STEP"
    assert sum(trip.count("HMGET") for trip in trips) == MOST_STEPS


def test_a_damaged_record_keeps_nobody_from_the_others(scene: Scene) -> None:
    for task_id in ("t1", "broken", "lost"):
        scene.bench.accepted(task_id)
    keys = scene.store.keys
    damaged = {"progress": "{", "begun_at": "yesterday", "state": "OF_TOMORROW"}
    scene.bench.redis.hset(keys.job(ENDPOINT, "broken"), mapping=damaged)
    scene.bench.redis.set(keys.task("lost"), "[1]")
    scene.bench.redis.set(keys.task("also lost"), "{")
    found = scene.look("t1", "broken", "lost", "also lost")
    assert {one: update.state for one, update in found.items()} == {
        "t1": "IN_QUEUE",
        "broken": "OF_TOMORROW",
        "lost": "PENDING",
        "also lost": "PENDING",
    }
    assert found["broken"].progress is None


def test_a_root_does_not_wait_for_what_follows_it(scene: Scene) -> None:
    for task_id in ("root", "other"):
        job = scene.bench.job(task_id, root_id="root")
        scene.store.ids.index(job, (), ())
        scene.store.accept(job, NOW)
    update = scene.look("root")
    assert (update.state, update.reason, update.step) == ("WAITING", None, None)


def test_the_own_task_of_a_user_shows_its_custom_state(scene: Scene) -> None:
    scene.app.backend.store_result("own", {"progress": 40}, "RESIZING")
    update = scene.look("own")
    assert (update.state, update.progress, update.ended) == ("RESIZING", 40, False)


def test_only_the_time_is_no_news(scene: Scene) -> None:
    scene.bench.accepted()
    before = scene.look()
    scene.bench.now += 9.0
    assert not scene.look().differs(before) and scene.look().seconds != before.seconds


# Watched


def test_watched_jobs_are_found_in_one_round_trip() -> None:
    one = store()
    one.watches.note("e1", "t1")
    one.watches.note("e2", "t2")
    assert one.watches.among("e1", ["t1", "t2", "t3"]) == {"t1"}
    assert one.watches.among("e2", ["t1", "t2"]) == {"t2"}
    assert one.watches.among("e1", []) == set()
    left: Any = one.redis.ttl(one.keys.watched("e1", "t1"))
    assert 0 < left <= WATCHED_S


def test_a_look_notes_the_job_as_watched_once_in_two_seconds(scene: Scene) -> None:
    scene.bench.accepted()
    scene.look()
    assert scene.store.watches.among(ENDPOINT, ["t1"]) == {"t1"}
    trips = scene.trips()
    for _ in range(8):
        scene.bench.now += NOTE_EVERY_S / 4
        scene.another().read(["t1"], scene.bench.now)
    assert sum(trip.count("SET") for trip in trips) == 2


def test_a_clock_that_was_set_back_does_not_stop_the_notes() -> None:
    noted = Notes()
    assert noted.due("t1", NOW) and not noted.due("t1", NOW + 1)
    assert noted.due("t1", NOW - 3600)


def test_a_user_of_redis_without_the_right_to_note_reads_all_the_same(scene: Scene) -> None:
    scene.bench.accepted()
    redis: Any = scene.bench.redis
    original = redis.pipeline

    def pipeline(**options: Any) -> Any:
        pipe = original(**options)
        execute = pipe.execute

        def refused(**given: Any) -> Any:
            names = [command[0][0] for command in pipe.command_stack]
            answers = execute(**given)
            return [NoPermissionError("no") if n == "SET" else a for n, a in zip(names, answers, strict=True)]

        pipe.execute = refused
        return pipe

    redis.pipeline = pipeline
    assert scene.look().state == "IN_QUEUE"


def test_who_begins_to_watch_has_the_job_looked_at_soon(scene: Scene) -> None:
    bench, keys = scene.bench, scene.store.keys
    job = bench.accepted()
    bench.redis.zadd(keys.look(ENDPOINT), {job.task_id: bench.now + 299})
    bench.redis.delete(keys.next_check_at(ENDPOINT))
    scene.store.plan_check(ENDPOINT, bench.now + 299, bench.now, CheckTimes(cap_s=600.0))
    bench.redis.zadd(keys.endpoints(), {ENDPOINT: bench.now + 60})
    assert heal(bench.services) == []
    scene.look()
    assert heal(bench.services) == [ENDPOINT]
    bench.check()
    # As long as somebody watches, the looks follow by themselves.
    bench.redis.zadd(keys.look(ENDPOINT), {job.task_id: bench.now + 299})
    bench.now += NOTE_EVERY_S
    scene.look()
    assert bench.redis.zscore(keys.look(ENDPOINT), job.task_id) > bench.now
