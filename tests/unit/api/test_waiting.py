"""Waiting for a job, and taking its chunks: with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from celery_runpod.api import Job, RunPodClient
from celery_runpod.api._waiting import stream_until_final
from celery_runpod.errors import (
    BadAnswer,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    RateLimited,
    Unauthorized,
    Unavailable,
    WaitTimeout,
)

from .conftest import KEY, MakeClient, Serve
from .servers import Request, answer

Scene = Sequence[Job | Exception]


class Time:
    """A clock that only sleeping moves, and that remembers the sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


def told_by(scenes: Sequence[Any], last: Any = None) -> Callable[..., Any]:
    """A function that answers one scene after the other, then always the last one."""
    rest = iter(scenes)

    def tell(*_: Any, **__: Any) -> Any:
        scene = next(rest, last if last is not None else scenes[-1])
        if isinstance(scene, Exception):
            raise scene
        return scene

    return tell


def wait(monkeypatch: pytest.MonkeyPatch, scenes: Scene, timeout_s: float, time: Time) -> Job:
    client = RunPodClient(KEY)
    monkeypatch.setattr(client, "status", told_by(scenes))
    return client.wait("sdxl", "a", timeout=timeout_s, clock=time.clock, sleep=time.sleep)


QUEUED, WORKING, DONE = Job("a", "IN_QUEUE"), Job("a", "IN_PROGRESS"), Job("a", "COMPLETED", output=1)


def test_each_look_comes_half_as_late_again_up_to_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    assert wait(monkeypatch, [QUEUED] * 11 + [DONE], 3600, time) is DONE
    assert time.slept == [1.0, 1.5, 2.25, 3.375, 5.062, 7.594, 11.391, 17.086, 25.629, 30.0, 30.0]


def test_a_job_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    assert wait(monkeypatch, [DONE], 0, time) is DONE
    assert time.slept == []


def test_a_failed_job_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, [Job("a", "FAILED", error="no")], 10, Time()).state == "FAILED"


def test_the_wait_ends_at_its_time_with_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    with pytest.raises(WaitTimeout) as caught:
        wait(monkeypatch, [QUEUED, WORKING], 4, time)
    assert sum(time.slept) == 4
    assert (caught.value.last_state, caught.value.waited_s, caught.value.job_id) == ("IN_PROGRESS", 4, "a")


def test_trouble_with_the_api_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble: Scene = [Unavailable("down"), RateLimited("slow", retry_after_s=20.0), BadAnswer("?"), QUEUED]
    time = Time()
    assert wait(monkeypatch, [*trouble, DONE], 3600, time) is DONE
    assert time.slept == [1.0, 20.0, 2.25, 3.375]


def test_an_api_that_stays_away_is_not_waited_for_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WaitTimeout, match="UNKNOWN"):
        wait(monkeypatch, [Unavailable("down")], 60, Time())


@pytest.mark.parametrize("error", [JobNotFound("gone"), Unauthorized("no")])
def test_what_waiting_does_not_help_is_raised_at_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    time = Time()
    with pytest.raises(type(error)):
        wait(monkeypatch, [QUEUED, error], 60, time)
    assert time.slept == [1.0]


def test_a_look_takes_no_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    time, given = Time(), []
    client = RunPodClient(KEY, total_timeout=3)

    def status(endpoint: str, job_id: str, *, timeout: float) -> Job:
        given.append(timeout)
        return QUEUED

    monkeypatch.setattr(client, "status", status)
    with pytest.raises(WaitTimeout):
        client.wait("sdxl", "a", timeout=4, clock=time.clock, sleep=time.sleep)
    assert given == [3, 3, 1.5, 1.0]


# Streams


def stream(scenes: list[Any], time: Time, status: Any = None) -> Iterator[Any]:
    ask = told_by([status if status is not None else Job("a", "FAILED")])
    return stream_until_final(told_by(scenes), ask, "sdxl", time.clock, time.sleep)


def test_chunks_come_until_the_job_has_ended() -> None:
    scenes = [(QUEUED, []), (WORKING, ["Once", " upon"]), (WORKING, [" a"]), (DONE, [" time"]), (DONE, [])]
    assert list(stream(scenes, Time())) == ["Once", " upon", " a", " time"]


def test_a_final_answer_may_hold_a_part_of_the_chunks() -> None:
    time = Time()
    assert list(stream([(WORKING, ["a"]), (DONE, ["b"]), (DONE, ["c", "d"]), (DONE, [])], time)) == list("abcd")
    assert time.slept == []


@pytest.mark.parametrize(("state", "kind"), [("CANCELLED", JobCancelled), ("TIMED_OUT", JobTimedOut)])
def test_a_stream_of_a_job_that_was_ended_ends_too(state: str, kind: type[Exception]) -> None:
    chunks = stream([(WORKING, ["a"]), (Job("a", state), ["b"]), (Job("a", state), [])], Time())
    assert [next(chunks), next(chunks)] == ["a", "b"]
    with pytest.raises(kind):
        next(chunks)


def test_what_is_left_of_a_failed_job_comes_before_its_error() -> None:
    why = Job("a", "FAILED", error="handler: no seed \ntraceback: ...")
    chunks = stream([(Job("a", "FAILED"), ["last words"]), (Job("a", "FAILED"), [])], Time(), status=why)
    assert next(chunks) == "last words"
    with pytest.raises(JobFailed, match="no seed"):
        next(chunks)


@pytest.mark.parametrize("status", [JobNotFound("gone"), Unavailable("down"), DONE])
def test_a_failed_job_has_failed_even_if_why_is_not_to_be_had(status: Any) -> None:
    with pytest.raises(JobFailed, match="neither an error nor an output"):
        list(stream([(Job("a", "FAILED"), [])], Time(), status=status))


def test_a_server_that_does_not_hold_the_request_is_not_hammered() -> None:
    time = Time()
    list(stream([(WORKING, [])] * 8 + [(WORKING, ["x"]), (WORKING, []), (DONE, [])], time))
    assert time.slept == [0.5, 0.75, 1.125, 1.688, 2.531, 3.797, 5.0, 5.0, 0.5]


def test_a_server_that_holds_the_request_is_asked_again_at_once() -> None:
    time, rest = Time(), iter([(WORKING, []), (DONE, ["x"]), (DONE, [])])

    def take() -> tuple[Job, list[Any]]:
        time.now += 10
        return next(rest)

    assert list(stream_until_final(take, lambda: DONE, "sdxl", time.clock, time.sleep)) == ["x"]
    assert time.slept == []


def test_what_was_not_taken_is_asked_again() -> None:
    time = Time()
    scenes = [RateLimited("slow", retry_after_s=9.0), Unavailable("refused", sent=False), (DONE, ["x"]), (DONE, [])]
    assert list(stream(scenes, time)) == ["x"]
    assert time.slept == [9.0, 0.75]


def test_but_not_for_ever() -> None:
    time = Time()
    with pytest.raises(Unavailable):
        list(stream([Unavailable("refused", sent=False)], time))
    assert 60 <= sum(time.slept) < 70


def test_a_lost_answer_may_have_held_chunks_and_is_told() -> None:
    time = Time()
    with pytest.raises(Unavailable):
        list(stream([Unavailable("cut", sent=True), (DONE, [])], time))
    assert time.slept == []


def test_a_stream_over_http(serve: Serve, client_of: MakeClient) -> None:
    rest = iter(
        [
            {"status": "IN_PROGRESS", "stream": [{"output": "a"}]},
            {"status": "FAILED", "stream": [{"output": "b"}]},
            {"status": "FAILED", "stream": []},
        ]
    )

    def told(request: Request) -> bytes:
        return answer({"id": "j", "status": "FAILED", "error": "no"} if "/status/" in request.path else next(rest))

    server = serve(told)
    chunks = client_of(server).stream("sdxl", "j", wait=2)
    assert server.requests == [], "a stream begins with its first chunk"
    assert [next(chunks), next(chunks)] == ["a", "b"]
    with pytest.raises(JobFailed, match="no") as caught:
        next(chunks)
    assert caught.value.endpoint == "sdxl"
    assert [request.path for request in server.requests] == [
        "/v2/sdxl/stream/j?wait=2000",
        "/v2/sdxl/stream/j?wait=2000",
        "/v2/sdxl/stream/j?wait=2000",
        "/v2/sdxl/status/j",
    ]
