"""What the work on one job raises keeps a check from no other job, and the job from no deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

import tasks.check
import tasks.delivery
import tasks.outstanding
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.api._large_answers import AT_ONCE, NoTurn, take_turn, turns
from celery_runpod.errors import ConfigurationError, DeadlineExceeded, decode
from celery_runpod.options import Options
from config.settings import load_settings
from tests.builders import ENDPOINT, NOW, Bench
from tests.unit.tasks.test_last_looks import shared


def failing(task_id: str, real: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    """A step that raises for one job only."""

    def step(services: Any, job: Any, *args: Any, **options: Any) -> Any:
        if job.task_id == task_id:
            raise error
        return real(services, job, *args, **options)

    return step


def bad_poll() -> Job:
    raise ZeroDivisionError("a handler's mad output")


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    for number in range(1, 6):
        made.accepted(f"t{number}")
    return made


def states(bench: Bench) -> list[str]:
    return [bench.record(f"t{number}").state for number in range(1, 6)]


def test_a_poll_that_raises_stops_no_other_one(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.runpod.says("status", bad_poll, *[Job(f"r{number}", "COMPLETED", has_output=True) for number in range(2, 6)])
    with caplog.at_level(logging.ERROR):
        bench.check(after_s=3)
    assert states(bench) == ["IN_QUEUE", *["COMPLETED"] * 4]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.__dict__["task_id"] == "t1"
    assert bench.count("runpod.status")  # the next check was planned


def test_an_end_that_raises_stops_no_other_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    step = failing("t3", tasks.check.end_by_answer, TypeError("mad"))
    monkeypatch.setattr(tasks.check, "end_by_answer", step)
    bench.runpod.says("status", *[Job(f"r{number}", "COMPLETED", has_output=True) for number in range(1, 6)])
    bench.check(after_s=3)
    assert states(bench) == ["COMPLETED", "COMPLETED", "IN_QUEUE", "COMPLETED", "COMPLETED"]


def test_a_submit_that_raises_stops_no_other_one_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for number in range(1, 6):
        job = bench.job(f"t{number}")
        bench.store.ids.index(job, (), ())
        bench.store.accept(job, bench.now)
    with monkeypatch.context() as broken:
        broken.setattr(tasks.check, "submit", failing("t1", tasks.check.submit, KeyError("profile")))
        bench.check()
    assert states(bench) == ["WAITING", *["IN_QUEUE"] * 4]
    bench.check(after_s=5)
    assert bench.record("t1").state is State.IN_QUEUE


def test_the_job_is_put_off_for_longer_each_time_and_a_good_look_ends_that() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=6000.0))
    bench.runpod.script["status"] = [bad_poll] * 8 + [Job("r1", "IN_PROGRESS"), bad_poll]
    bench.check(after_s=3)
    pauses = []
    for _ in range(8):
        pauses.append(bench.due())
        bench.check(after_s=bench.due() or 0.0)
    assert pauses == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300])
    assert (bench.record().failures, bench.record().state) == (0, State.IN_PROGRESS)
    bench.check(after_s=bench.due() or 0.0)
    assert bench.due() == pytest.approx(5)


def test_its_deadline_is_judged_without_what_raises() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.script["status"] = [bad_poll] * 20
    bench.check(after_s=3)
    while (due := bench.due()) is not None:
        bench.check(after_s=due)
    assert isinstance(decode(bench.record().outcome["error"]), DeadlineExceeded)
    assert bench.now == NOW + 60


def test_a_verdict_that_cannot_be_recorded_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    monkeypatch.setattr(tasks.check, "end_here", failing("t1", tasks.check.end_here, TypeError("mad")))
    bench.check(after_s=60)
    assert bench.due() == pytest.approx(5)


def test_a_store_that_is_away_ends_the_check_and_what_it_leased_is_due_again(bench: Bench) -> None:
    bench.runpod.says("status", RedisConnectionError("away"))
    with pytest.raises(RedisConnectionError):
        bench.check(after_s=3)
    assert bench.runpod.called("status") == 5
    bench.runpod.calls.clear()
    bench.check(after_s=bench.settings.check_lease_s)
    assert ("status", ENDPOINT, "r1") in bench.runpod.calls


def test_a_look_at_health_that_raises_stops_no_look(bench: Bench) -> None:
    bench.runpod.says("health", ZeroDivisionError("mad"))
    bench.check(after_s=10)
    assert bench.runpod.called("status") == 5


def test_a_check_keeps_the_turn_of_a_large_answer_until_it_is_recorded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[int] = []
    end = tasks.check.end_by_answer

    def left() -> int:
        taken = 0
        while turns().acquire(blocking=False):
            taken += 1
        for _ in range(taken):
            turns().release()
        return taken

    def ended(*given: Any) -> str:
        free.append(left())
        return end(*given)

    def large() -> Job:
        take_turn(60)
        return Job("r1", "COMPLETED", output=1)

    monkeypatch.setattr(tasks.check, "end_by_answer", ended)
    bench.runpod.says("status", *[large] * 5)
    bench.check(after_s=3)
    assert (free, left()) == ([AT_ONCE - 1] * 5, AT_ONCE)


def test_a_last_look_that_gets_no_turn_is_repeated_and_ends_no_job() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    for after_s in (60.0, 5.0, 15.0):
        bench.runpod.says("status", NoTurn())
        bench.check(after_s=after_s)
        assert (bench.record().state, bench.record().reason, bench.due()) == (State.IN_QUEUE, "", 1.0)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=1)
    assert bench.record().state is State.COMPLETED


def test_calls_that_share_a_job_end_though_one_of_them_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for deadline in (100.0, 200.0, 300.0):
        shared(bench, deadline)
    with monkeypatch.context() as broken:
        broken.setattr(tasks.delivery, "hand_over", failing("t200", tasks.delivery.hand_over, TypeError("mad")))
        bench.runpod.says("status", Job("r1", "COMPLETED", has_output=True))
        bench.check(after_s=3)
    found = {deadline: bench.record(f"t{deadline}").state for deadline in (100, 200, 300)}
    assert found == {100: "COMPLETED", 200: "JOINED", 300: "COMPLETED"}
    bench.check(after_s=40)
    assert bench.record("t200").state is State.COMPLETED


def test_a_cancel_that_raises_stops_no_other_one(bench: Bench) -> None:
    bench.store.cancels.request_cancels(ENDPOINT, ["t1", "t2", "t3"], {"reason": "revoked"}, bench.now, bench.now + 30)
    bench.runpod.says("cancel", ZeroDivisionError("mad"))
    bench.check(after_s=3)
    assert (bench.runpod.called("cancel"), bench.runpod.called("status")) == (3, 2)
    assert bench.count("runpod.status")


def test_an_outcome_that_cannot_be_published_stops_no_other_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.runpod.says("status", *[Job(f"r{number}", "COMPLETED", has_output=True) for number in range(1, 6)])
    bench.check(after_s=3)
    before = bench.count("runpod.deliver")
    monkeypatch.setattr(tasks.outstanding, "publish", failing("t1", tasks.outstanding.publish, TypeError("mad")))
    bench.check(after_s=31)
    assert bench.count("runpod.deliver") == before + 4


@pytest.mark.parametrize("name", [None, "blue"])
def test_a_key_file_that_is_no_text_names_its_variable(name: str | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xff\xfe\x00k")
    settings = load_settings({"RUNPOD_API_KEY_FILE": str(file), "RUNPOD_API_KEY_BLUE_FILE": str(file)})
    with pytest.raises(
        ConfigurationError, match="RUNPOD_API_KEY_BLUE_FILE" if name else "RUNPOD_API_KEY_FILE"
    ) as caught:
        settings.key(name)
    assert "UTF-8" in str(caught.value)
    assert caught.value.__context__ is None
