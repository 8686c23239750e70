"""Each chunk of a streamed job is kept once, or its loss is seen."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import tasks.check
from celery_runpod import Endpoint
from celery_runpod._store.states import State
from celery_runpod._store.streams import START, Entry
from celery_runpod.api import Job
from celery_runpod.errors import (
    BadAnswer,
    InvalidOption,
    JobFailed,
    RateLimited,
    StreamIncomplete,
    Unavailable,
    decode,
)
from celery_runpod.options import Options
from tests.builders import ENDPOINT, Bench

STREAMED = Options(deadline=600.0, stream=True)
RUNS = Job("r1", "IN_PROGRESS")
DONE = Job("r1", "COMPLETED", output=[], has_output=True)


def entries(bench: Bench, task_id: str = "t1") -> list[Entry]:
    return bench.store.streams.read([(ENDPOINT, task_id, START)]).get((ENDPOINT, task_id), [])


def kept(bench: Bench, task_id: str = "t1") -> list[str]:
    """What the readers see: the text of each chunk, and the kind of all else."""
    return [one.text or one.kind for one in entries(bench, task_id)]


def outcome(bench: Bench) -> Any:
    found = bench.record().outcome or {}
    return decode(found["error"]) if found.get("error") else found["output"]


def runs(bench: Bench) -> None:
    """From now on RunPod says IN_PROGRESS where the test says nothing else."""
    scripted = bench.runpod.status
    bench.runpod.status = lambda endpoint, job_id, **_: (  # type: ignore[method-assign]
        scripted(endpoint, job_id) if bench.runpod.script.get("status") else Job(job_id, "IN_PROGRESS")
    )


def running(bench: Bench, **options: Any) -> None:
    """A streamed job that has been seen in progress."""
    bench.accepted(options=Options.parse({**STREAMED.to_message(), **options}))
    runs(bench)
    bench.runpod.says("stream", (RUNS, []))
    bench.check(after_s=2)
    assert bench.record().state is State.IN_PROGRESS


def test_the_result_is_the_list_of_the_chunks() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (RUNS, ["Once", {"a": None}]))
    bench.check(after_s=2)
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), [" upon"]))
    bench.runpod.says("status", DONE)
    bench.check(after_s=3)
    assert outcome(bench) == ["Once", {"a": None}, " upon"]
    assert kept(bench) == ['"Once"', '{"a": null}', '" upon"']
    assert [(one.number, one.attempt) for one in entries(bench)] == [(1, 1), (2, 1), (3, 1)]


def test_runpods_own_whole_output_goes_first_also_after_a_gap() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", Unavailable("cut", "stream", ENDPOINT, sent=True))
    bench.check(after_s=2)
    assert kept(bench) == ["gap"]
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["b"]))
    bench.runpod.says("status", Job("r1", "COMPLETED", output=["a", "b"], has_output=True))
    bench.check(after_s=9)
    assert outcome(bench) == ["a", "b"]


@pytest.mark.parametrize(
    "lost",
    [Unavailable("cut", "stream", ENDPOINT, sent=True), BadAnswer("half", "stream", ENDPOINT, 200)],
    ids=["cut", "unreadable"],
)
def test_an_answer_that_may_have_held_chunks_is_a_gap_and_no_success(lost: Exception) -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (RUNS, ["a"]), lost)
    bench.check(after_s=2)
    bench.check(after_s=3)
    assert kept(bench) == ['"a"', "gap"]
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["c"]))
    bench.runpod.says("status", DONE)
    bench.check(after_s=12)
    error = outcome(bench)
    assert isinstance(error, StreamIncomplete) and "return_aggregate_stream" in str(error)
    assert bench.record().state is State.ENDED_HERE


@pytest.mark.parametrize(
    "refused",
    [RateLimited("429", "stream", ENDPOINT, 429), Unavailable("refused", "stream", ENDPOINT, sent=False)],
    ids=repr,
)
def test_a_request_that_runpod_has_not_taken_costs_no_chunk(refused: Exception) -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", refused)
    bench.check(after_s=2)
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["a", "b"]))
    bench.runpod.says("status", DONE)
    bench.check(after_s=30)
    assert outcome(bench) == ["a", "b"]


def test_a_look_that_died_with_its_process_is_a_gap_once_its_request_is_over() -> None:
    bench = Bench()
    running(bench)
    dead = bench.record()
    assert bench.store.streams.begin_look(dead, "dead", bench.now, bench.now + 12) == "begun"
    bench.check(after_s=3)
    assert kept(bench) == [] and bench.runpod.called("stream") == 1  # its answer may still be kept
    bench.runpod.says("stream", (RUNS, ["b"]))
    bench.check(after_s=10)
    assert kept(bench) == ["gap", '"b"']
    # The dead one was only slow.
    assert bench.store.streams.end_look(dead, "dead", ['"a"'], bench.now) == "refused"
    assert kept(bench) == ["gap", '"b"', "gap"]


def in_the_store(bench: Bench) -> dict[str, Any]:
    """What the store holds of the job, to be put back by `lost_since`."""
    keys = (bench.store.keys.job(ENDPOINT, "t1"), bench.store.keys.stream(ENDPOINT, "t1"))
    return {key: bench.redis.dump(key) for key in keys}


def lost_since(bench: Bench, then: dict[str, Any]) -> None:
    """Redis has lost its latest moment."""
    for key, held in then.items():
        bench.redis.delete(key)
        if held is not None:
            bench.redis.restore(key, 0, held)


def test_chunks_that_redis_has_lost_are_a_gap_to_the_process_that_kept_them() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (RUNS, ["a"]), (RUNS, ["b"]), (Job("r1", "COMPLETED"), ["c"]))
    bench.check(after_s=2)
    then = in_the_store(bench)
    bench.check(after_s=3)
    lost_since(bench, then)
    bench.runpod.says("status", DONE)
    bench.check(after_s=4)
    assert kept(bench) == ['"a"', "gap", '"c"'] and isinstance(outcome(bench), StreamIncomplete)


def test_the_last_chunks_that_redis_has_lost_make_no_success() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (RUNS, ["a"]), (Job("r1", "COMPLETED"), ["b"]))
    bench.check(after_s=2)
    then, end_by_answer = in_the_store(bench), tasks.check.end_by_answer

    def after_a_loss(services: Any, job: Any, answer: Job) -> str:
        lost_since(bench, then)
        return end_by_answer(services, job, answer)

    bench.runpod.says("status", DONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.check, "end_by_answer", after_a_loss)
        bench.check(after_s=3)
    assert isinstance(outcome(bench), StreamIncomplete)


def test_chunks_whose_look_redis_has_lost_are_a_gap() -> None:
    bench = Bench()
    running(bench)
    then = in_the_store(bench)

    def redis_fails_meanwhile() -> tuple[Job, list[Any]]:
        lost_since(bench, then)
        return RUNS, ["a"]

    bench.runpod.says("stream", redis_fails_meanwhile)
    bench.check(after_s=2)
    assert kept(bench) == ["gap"]


def test_a_look_that_is_ended_twice_is_ended_once() -> None:
    bench = Bench()
    running(bench)
    job = bench.record()
    assert bench.store.streams.begin_look(job, "look", bench.now, bench.now + 12) == "begun"
    words = [bench.store.streams.end_look(job, "look", ['"a"'], bench.now) for _ in range(2)]
    assert (words, kept(bench)) == (["kept", "kept"], ['"a"'])


def test_chunks_that_come_while_the_store_is_away_are_kept_when_it_is_back() -> None:
    bench = Bench()
    running(bench)
    end_look, failures = bench.store.streams.end_look, [RedisConnectionError("away")] * 5

    def away_for_a_while(*args: Any, **more: Any) -> str:
        if failures:
            raise failures.pop()
        return end_look(*args, **more)

    bench.store.streams.end_look = away_for_a_while  # type: ignore[method-assign]
    bench.runpod.says("stream", (RUNS, ["a"]))
    bench.check(after_s=2)
    assert kept(bench) == ['"a"']


def test_a_retry_opens_with_the_number_of_its_attempt() -> None:
    bench = Bench()
    running(bench, retries=1)
    bench.runpod.says("stream", (RUNS, ["a"]), (Job("r1", "FAILED"), ["b"]))
    bench.runpod.says("status", RUNS, Job("r1", "FAILED", error="boom"))
    bench.check(after_s=2)
    bench.check(after_s=3)
    assert bench.record().state is State.WAITING
    bench.check(after_s=2)
    bench.runpod.says("stream", (Job("r2", "COMPLETED"), ["A", "B"]))
    bench.runpod.says("status", Job("r2", "COMPLETED", output=[], has_output=True))
    bench.check(after_s=2)
    assert kept(bench) == ['"a"', '"b"', "retry", '"A"', '"B"']
    assert [one.attempt for one in entries(bench)] == [1, 1, 2, 2, 2]
    assert outcome(bench) == ["A", "B"]


def test_a_failure_comes_after_the_last_chunk() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (Job("r1", "FAILED"), ["a"]))
    bench.runpod.says("status", Job("r1", "FAILED", error="boom"))
    bench.check(after_s=2)
    assert kept(bench) == ['"a"'] and isinstance(outcome(bench), JobFailed)


def test_while_somebody_reads_a_check_follows_the_job_and_comes_back_at_once() -> None:
    bench = Bench()
    running(bench)
    bench.store.watches.note(ENDPOINT, "t1")
    bench.runpod.script["stream"] = [(RUNS, [n]) for n in range(100)]
    began = bench.now + 2
    bench.check(after_s=2)
    assert 0.5 <= bench.now - began < 1.0
    assert 3 < len(entries(bench)) < 10
    assert bench.due() == pytest.approx(0, abs=0.1)


def test_without_a_reader_a_look_is_one_request() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.script["stream"] = [(RUNS, [n]) for n in range(100)]
    asked = bench.runpod.called("stream")
    bench.check(after_s=2)
    assert bench.runpod.called("stream") == asked + 1
    assert (bench.due() or 0) > 0.2


def test_a_generator_in_a_call_without_stream_gives_its_chunks() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", DONE)
    bench.runpod.says("stream", (DONE, ["a", "b"]))
    bench.check(after_s=2)
    assert outcome(bench) == ["a", "b"]


@pytest.mark.parametrize("stream", [None, True])
def test_a_final_answer_may_hold_a_part_of_the_chunks(stream: bool | None) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, stream=stream))
    bench.runpod.says("status", DONE)
    bench.runpod.says("stream", (DONE, ["a"]), (DONE, ["b", "c"]), (DONE, []))
    bench.check(after_s=2)
    assert outcome(bench) == ["a", "b", "c"]


def test_an_empty_list_is_an_output_too() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", DONE)
    bench.runpod.says("stream", (DONE, []))
    bench.check(after_s=2)
    assert outcome(bench) == []


def test_an_empty_list_after_an_answer_that_was_lost_is_no_success() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", DONE, DONE)
    bench.runpod.says("stream", Unavailable("503", "stream", ENDPOINT, 503, sent=True), (DONE, []))
    bench.check(after_s=2)
    bench.check(after_s=12)
    error = outcome(bench)
    assert isinstance(error, StreamIncomplete) and "using(stream=False)" in str(error)


@pytest.mark.parametrize("sync", [False, True])
def test_a_handler_that_does_not_yield_is_not_asked_for_chunks(sync: bool) -> None:
    bench = Bench()
    bench.runpod.says("runsync", DONE)
    bench.accepted(options=Options.parse({"deadline": 600.0, "sync": sync, "stream": False}))
    bench.runpod.says("status", DONE)
    bench.runpod.says("stream", Unavailable("503", "stream", ENDPOINT, 503, sent=True))
    if not sync:
        bench.check(after_s=2)
    assert outcome(bench) == []
    assert bench.runpod.called("stream") == 0


def test_chunks_of_a_job_that_runpod_began_again_are_no_result() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["a", "b"]))
    bench.runpod.says("status", Job("r1", "COMPLETED", output=[], has_output=True, retries=1))
    bench.check(after_s=2)
    assert isinstance(outcome(bench), StreamIncomplete)


def test_a_sync_call_of_a_generator_gives_its_chunks() -> None:
    bench = Bench()
    bench.runpod.says("runsync", DONE)
    bench.accepted(options=Options(deadline=600.0, sync=True))
    bench.runpod.says("status", DONE)
    bench.runpod.says("stream", (DONE, ["a"]))
    bench.check(after_s=16)
    assert outcome(bench) == ["a"]
    assert bench.runpod.called("runsync") == 1


def test_a_stream_is_bounded_and_what_was_dropped_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_runpod._store.streams.MOST_CHUNKS", 3)
    monkeypatch.setattr("celery_runpod._store.streams.MOST_BYTES", 100)
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (RUNS, [1, 2, 3, 4, 5]))
    bench.check(after_s=2)
    assert kept(bench) == ["3", "4", "5"]
    assert not entries(bench)[0].follows(None) and entries(bench)[1].follows(entries(bench)[0])
    bench.runpod.says("stream", (RUNS, ["x" * 99, "y"]))
    bench.check(after_s=3)
    assert kept(bench) == ['"' + "x" * 99 + '"', '"y"']
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), []))
    bench.runpod.says("status", DONE)
    bench.check(after_s=6)
    assert isinstance(outcome(bench), StreamIncomplete)


def test_a_stream_expires_and_sooner_once_its_job_has_ended() -> None:
    bench = Bench()
    running(bench)
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["a"]))
    bench.runpod.says("status", DONE)
    bench.check(after_s=2)
    key = bench.store.keys.stream(ENDPOINT, "t1")
    assert bench.redis.ttl(key) > 3600
    bench.deliver()
    assert 0 < bench.redis.ttl(key) <= 3600
    assert bench.redis.hget(bench.store.keys.job(ENDPOINT, "t1"), "stream") == "1"


@pytest.mark.parametrize("other", [{"sync": True}, {"idempotency_key": "k"}])
def test_what_excludes_a_stream_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="'stream': True given; allowed: without"):
        Options.parse({"stream": True, **other})


def test_an_adopted_job_is_asked_for_its_chunks_before_its_end_counts() -> None:
    bench = Bench()
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted()
    assert bench.store.hint(ENDPOINT, "t1", 1, bench.now, "r9") in ("publish", "planned")
    done = Job("r9", "COMPLETED", output=[], has_output=True)
    bench.runpod.says("status", done, done)
    bench.runpod.says("stream", (done, ["a", "b"]))
    bench.check(after_s=1)
    assert bench.record().job_id == "r9" and not bench.record().ended
    bench.check(after_s=6)
    assert outcome(bench) == ["a", "b"]


def test_chunks_for_which_the_budget_has_no_request_wait_at_runpod(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    running(bench)
    take = bench.services.budget.take
    monkeypatch.setattr(
        bench.services.budget,
        "take",
        lambda e, operation, *n, **more: operation != "stream" and take(e, operation, *n, **more),
    )
    asked = bench.runpod.called("stream")
    bench.check(after_s=2)
    assert bench.runpod.called("stream") == asked and bench.due() == pytest.approx(1, abs=0.1)
    monkeypatch.undo()
    bench.runpod.says("stream", (Job("r1", "COMPLETED"), ["a"]))
    bench.runpod.says("status", DONE)
    bench.check(after_s=2)
    assert outcome(bench) == ["a"]


def test_a_sync_call_whose_chunks_cannot_be_asked_for_is_asked_again() -> None:
    bench = Bench()
    bench.runpod.says("runsync", DONE)
    bench.accepted(options=Options(deadline=600.0, sync=True))
    bench.runpod.script["status"] = [DONE] * 3
    bench.runpod.says("stream", RateLimited("429", "stream", ENDPOINT, 429))
    bench.check(after_s=2)
    assert not bench.record().ended
    bench.runpod.says("stream", (DONE, []))
    bench.check(after_s=16)
    assert outcome(bench) == []


def test_options_that_exclude_each_other_are_refused_also_one_by_one() -> None:
    with pytest.raises(InvalidOption):
        Endpoint("sdxl").using(stream=True).using(sync=True)


def looks_at_a_plain_job_beside(trouble: Exception | None) -> int:
    """How often a plain job is looked at in a minute, also if GET /stream of another fails."""
    bench = Bench()
    bench.accepted("plain", options=Options(deadline=600.0))
    if trouble:
        bench.accepted("streamed", options=STREAMED)
    seen: list[str] = []

    def status(_: str, job_id: str, **__: Any) -> Job:
        seen.append(job_id)
        return Job(job_id, "IN_PROGRESS")

    def take_chunks(*_: Any, **__: Any) -> Any:
        assert trouble
        raise trouble

    bench.runpod.status = status  # type: ignore[method-assign]
    bench.runpod.take_chunks = take_chunks  # type: ignore[method-assign]
    plain = str(bench.record("plain").job_id)
    for _ in range(60):
        bench.check(after_s=1)
    return seen.count(plain)


@pytest.mark.parametrize(
    "trouble",
    [
        RateLimited("429", "stream", ENDPOINT, 429, retry_after_s=60.0),
        Unavailable("503", "stream", ENDPOINT, 503, sent=True),
    ],
)
def test_trouble_on_stream_does_not_stop_the_looks_at_other_jobs(trouble: Exception) -> None:
    assert looks_at_a_plain_job_beside(trouble) >= looks_at_a_plain_job_beside(None) > 2


def in_an_outage(bench: Bench, monkeypatch: pytest.MonkeyPatch, ids: list[str]) -> list[str]:
    """Two minutes in which RunPod answers 503: what it was asked for."""
    asked: list[str] = []

    def away(operation: str) -> Any:
        def call(_: str, job_id: str, **__: Any) -> Any:
            asked.append(operation)
            raise Unavailable("503", operation, ENDPOINT, 503, sent=True)

        return call

    # One after the other: looks that are under way at the same time are lost together.
    in_order = lambda _, do, work, __: [do(one) for one in work]  # noqa: E731
    monkeypatch.setattr(type(bench.services), "side_by_side", in_order)
    bench.runpod.status = away("status")  # type: ignore[method-assign]
    bench.runpod.take_chunks = away("stream")  # type: ignore[method-assign]
    for _ in range(120):
        for task_id in ids:
            bench.store.watches.note(ENDPOINT, task_id)
        bench.check(after_s=1)
    assert asked.count("status") > 1
    return asked


IDS = [f"t{number}" for number in range(10)]


def test_an_outage_costs_the_chunks_of_one_stream_and_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for task_id in IDS:
        bench.accepted(task_id, options=STREAMED)
    runs(bench)
    bench.runpod.script["stream"] = [(RUNS, [])] * len(IDS)
    bench.check(after_s=2)
    asked = in_an_outage(bench, monkeypatch, IDS)
    assert asked.count("stream") == 1
    assert sum(kept(bench, one) == ["gap"] for one in IDS) == 1


def test_an_outage_costs_nothing_of_streams_in_the_queue_or_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for task_id in IDS:
        bench.accepted(task_id, options=STREAMED)
    assert "stream" not in in_an_outage(bench, monkeypatch, IDS)
    bench = Bench()
    for task_id in IDS:
        bench.accepted(task_id, options=STREAMED)
    runs(bench)
    bench.check(after_s=2)
    assert "stream" not in in_an_outage(bench, monkeypatch, [])


def test_chunks_are_not_asked_for_once_another_stream_has_met_trouble() -> None:
    bench = Bench()
    running(bench)
    bench.store.watches.note(ENDPOINT, "t1")

    def another_is_refused() -> tuple[Job, list[Any]]:
        bench.store.pauses.pause(ENDPOINT, "stream", bench.now, None, 0.5)
        return RUNS, ["a"]

    bench.runpod.says("stream", another_is_refused, (RUNS, ["b"]))
    asked = bench.runpod.called("stream")
    bench.check(after_s=2)
    assert (bench.runpod.called("stream") - asked, kept(bench)) == (1, ['"a"'])
    assert bench.store.pauses.paused_until(ENDPOINT, "stream") is not None


def test_a_streamed_job_past_its_deadline_ends_though_the_budget_has_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    running(bench)
    take = bench.services.budget.take

    def without_streams(endpoint: str, operation: str, number: int, **options: Any) -> int:
        return 0 if operation == "stream" else take(endpoint, operation, number, **options)

    monkeypatch.setattr(bench.services.budget, "take", without_streams)
    bench.now = bench.record().end_by or 0.0
    for _ in range(60):
        bench.check(after_s=1)
    assert type(outcome(bench)).__name__ == "DeadlineExceeded"
