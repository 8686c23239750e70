"""What a worker does with a call that cannot be taken as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery.app.trace import build_tracer

from celery_runpod._protocol import BEGUN_AT, FORMAT, ISSUED_AT, REFUSED, REPUBLISHED, RUN, UNCONFIRMED
from celery_runpod._store.scripts import loaded
from celery_runpod.api import Job
from config.profiles import Profile
from tasks import put_back
from tasks.call_message import NO_ENDPOINT
from tests.builders import ENDPOINT, Bench


def run(bench: Bench, *inputs: Any, arguments: Any = None, **request: Any) -> Any:
    """Run `runpod.run` as a worker's child does."""
    task = bench.app.tasks[RUN]
    tracer = build_tracer(RUN, task, app=bench.app)
    given = {"endpoint": ENDPOINT, **(arguments or {})}
    message = {"id": "t1", "delivery_info": {}, "args": inputs, "kwargs": given, **request}
    return tracer("t1", inputs, given, request=message)


def outcome(bench: Bench, endpoint: str = ENDPOINT) -> Any:
    [job] = bench.store.jobs(endpoint, ["t1"])
    return (job.outcome or {})["error"]


def deep(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("embed", "named"),
    [
        ({"callbacks": "x"}, "link holds a str"),
        ({"callbacks": [{"task": RUN, "options": 7}]}, "link holds a dict"),
        ({"errbacks": [7]}, "link_error holds a int"),
        ({"chain": [None]}, "chain holds a NoneType"),
        ({"chord": [1]}, "chord is a list"),
    ],
)
def test_a_link_that_is_no_signature_is_refused_and_dropped(embed: Any, named: str) -> None:
    bench = Bench()
    run(bench, {"a": 1}, **embed)
    error = outcome(bench, "_")
    assert error["type"] == "InvalidInput" and named in error["args"][0]
    [job] = bench.store.jobs("_", ["t1"])
    options = json.loads(job.continuation)["options"]
    assert not any(options.get(name) for name in ("link", "link_error", "chain", "chord"))
    assert bench.count("runpod.deliver") == 1 and bench.runpod.calls == []


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"stamped_headers": ["a", "a"], "stamps": {"a": 1}}, "stamped_headers"),
        ({"stamped_headers": ["a"], "stamps": {}}, "stamped_headers"),
        ({"stamped_headers": "a", "stamps": {"a": 1}}, "stamped_headers"),
        ({"stamped_headers": ["a"], "stamps": 3}, "stamped_headers"),
    ],
)
def test_what_celery_cannot_send_on_is_refused_before_it_costs(headers: Any, named: str) -> None:
    bench = Bench()
    run(bench, {"a": 1}, **headers)
    error = outcome(bench, "_")
    assert error["type"] == "InvalidInput" and named in error["args"][0]
    assert bench.count("runpod.deliver") == 1 and bench.runpod.calls == []


@pytest.mark.parametrize("priority", [float("inf"), float("nan")])
def test_a_priority_that_is_no_number_is_not_sent_on(priority: float) -> None:
    bench = Bench()
    run(bench, {"a": 1}, delivery_info={"priority": priority})
    assert json.loads(bench.record().continuation)["options"].get("priority") is None


@pytest.mark.parametrize("again", [{"delivery_info": {"redelivered": True}}, {REPUBLISHED: "swallowed"}], ids=str)
def test_a_call_that_comes_again_after_its_profile_has_another_id_is_not_accepted_twice(again: Any) -> None:
    bench = Bench(profiles={"sdxl": Profile("e1")})
    run(bench, {"a": 1}, arguments={"endpoint": "sdxl"})
    bench.settings.__dict__["profiles"] = {"sdxl": Profile("e2")}
    run(bench, {"a": 1}, arguments={"endpoint": "sdxl"}, **again)
    assert [job.task_id for job in bench.store.jobs("e1", ["t1"])] == ["t1"]
    assert bench.store.jobs("e2", ["t1"]) == []


@pytest.mark.parametrize("moment", [10**400, float("nan"), float("-inf"), -1.0, "x", True])
def test_a_time_that_is_none_counts_as_missing(moment: Any) -> None:
    bench = Bench()
    run(bench, {"a": 1}, **{ISSUED_AT: moment, BEGUN_AT: moment})
    assert bench.record().begun_at == bench.now


def test_an_input_that_was_cut_out_is_refused() -> None:
    bench = Bench()
    run(bench, None, **{REFUSED: "the input is nested deeper than 64 levels"})
    assert "nested deeper than 64 levels" in outcome(bench, "_")["args"][0]


@pytest.mark.parametrize(
    ("headers", "why"), [({ISSUED_AT: 1.0}, "h old"), ({REPUBLISHED: UNCONFIRMED}, "found in the outbox")]
)
def test_a_call_that_may_have_run_before_is_not_sent(headers: Any, why: str) -> None:
    bench = Bench()
    run(bench, {"a": 1}, **headers)
    error = outcome(bench, "_")
    assert error["type"] == "SubmissionUnconfirmed" and why in error["args"][0] and bench.runpod.calls == []


@pytest.mark.parametrize("given", [{"inputs": (deep(100),)}, {"fields": {"a": deep(100)}}])
def test_an_input_of_another_language_is_measured(given: Any) -> None:
    bench = Bench()
    run(bench, *given.get("inputs", ()), arguments={"fields": given.get("fields")})
    assert "nested deeper than 64 levels" in outcome(bench, "_")["args"][0]


def test_a_message_of_a_newer_format_goes_back_after_a_pause() -> None:
    bench = Bench()
    run(bench, {"a": 1}, arguments={"format": FORMAT + 1})
    assert bench.slept == [put_back.REQUEUE_PAUSE_S] and bench.store.jobs(ENDPOINT, ["t1"]) == []


def test_an_error_that_comes_each_time_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def broken(*_: Any, **__: Any) -> None:
        raise AttributeError("of another age")

    monkeypatch.setattr(bench.store, "enter", broken)
    for _ in range(put_back.MOST_TRIES):
        run(bench, {"a": 1})
        assert bench.app.AsyncResult("t1").state == "PENDING"
    assert len(bench.slept) == put_back.MOST_TRIES
    run(bench, {"a": 1})
    told = bench.app.backend.get_task_meta("t1", cache=False)
    assert (told["status"], type(told["result"]).__name__) == ("FAILURE", "JobUndeliverable")


def test_a_refused_call_is_delivered_though_redis_had_forgotten_some_of_the_scripts() -> None:
    """Another process was loading them: the call was accepted, and what stood before it in the pipeline was repeated."""
    bench = Bench()
    bench.redis.script_flush()
    bench.redis.script_load(loaded()["accept"][1])
    run(bench, None, **{REFUSED: "the input is nested deeper than 64 levels"})
    assert bench.count("runpod.deliver") == 1


@pytest.mark.parametrize("then", ["runs", "is delivered"])
def test_a_refused_repeat_of_a_call_that_was_accepted_changes_nothing(then: str) -> None:
    """A copy that was published before this worker knew better, or that newer settings refuse."""
    bench = Bench()
    run(bench, {"a": 1})
    bench.check()
    if then == "is delivered":
        bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
        bench.check(after_s=2)
        bench.deliver()
    before, published = bench.store.ids.job("t1"), bench.count("runpod.deliver")
    run(bench, {"a": 1}, **{REPUBLISHED: UNCONFIRMED})
    run(bench, {"a": 1}, arguments={"options": {"nope": 1}})
    assert before is not None and bench.store.ids.job("t1") == before
    assert (bench.store.ids.endpoint_of("t1"), bench.count("runpod.deliver")) == (ENDPOINT, published)
    assert bench.store.jobs(NO_ENDPOINT, ["t1"]) == []


def test_a_refused_copy_that_comes_between_the_index_and_the_record_of_the_other_is_not_a_second_call() -> None:
    bench = Bench()
    bench.store.ids.index(bench.job(), (), ())
    run(bench, {"a": 1}, **{REPUBLISHED: UNCONFIRMED})
    run(bench, {"a": 1})
    bench.check()
    assert bench.runpod.called("run") == 0
    assert bench.store.ids.endpoint_of("t1") == ENDPOINT
    assert outcome(bench)["type"] == "SubmissionUnconfirmed"
