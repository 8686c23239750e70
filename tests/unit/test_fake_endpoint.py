"""Fake endpoints: what the caller sees, what is recorded, what is refused. No server is there: the app's broker and
result backend are on a port on which nothing listens."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod import Endpoint, JobResult, _stand_ins, ask, cancel, errors
from celery_runpod.testing import FakeCall, FakeEndpoint, RunPodEndpoints, fake_endpoint
from tests.waiting import eventually

NOWHERE = "redis://127.0.0.1:1/0"
sdxl = Endpoint("sdxl")
flux = Endpoint("flux")


@pytest.fixture(params=[True, False], ids=["eager", "not eager"])
def eager(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def app(eager: bool) -> Iterator[Celery]:
    made = Celery("shop", broker=NOWHERE, backend=NOWHERE)
    made.conf.update(task_always_eager=eager, broker_connection_retry=False)
    made.saved = []

    @made.task(name="shop.prompt", shared=False)
    def prompt(subject: Any) -> Any:
        return {"prompt": f"a {subject}"}

    @made.task(name="shop.save", shared=False)
    def save(output: Any) -> Any:
        made.saved.append(output)
        return {"saved": output}

    @made.task(name="shop.mark_failed", shared=False)
    def mark_failed(task_id: str) -> None:
        made.saved.append(JobResult(task_id).error)

    @made.task(name="shop.note_failure", shared=False)
    def note_failure(request: Any, exc: Exception, traceback: Any) -> None:
        made.saved.append((request.id, exc))

    @made.task(name="shop.create", shared=False)
    def create() -> str:
        return sdxl.delay(prompt="from a task").id

    @made.task(name="shop.create_flux", shared=False)
    def create_flux() -> str:
        return flux.delay().id

    made.set_current()
    made.set_default()
    yield made
    assert not _stand_ins.active() and not _stand_ins.names()
    assert made.conf.task_always_eager is eager


def task(app: Celery, name: str) -> Any:
    return app.tasks[f"shop.{name}"]


def call_and_catch(**fields: Any) -> None:
    """Code under test that lets nothing out."""
    try:
        sdxl.delay(**fields)
    except Exception:
        pass


# What the caller sees


def test_a_single_call(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"url": "x"}):
        result = sdxl.delay(prompt="a cat")
        assert isinstance(result, JobResult)
        assert (result.state, result.get(), result.error, result.reason) == ("SUCCESS", {"url": "x"}, None, None)
        assert result.job_id is not None and result.timings == {"delay_s": 0.0, "execution_s": 0.0}
        again = JobResult(result.id)
        assert (again.ready(), again.successful(), again.result) == (True, True, {"url": "x"})
        assert asyncio.run(again.aget()) == {"url": "x"}
    assert result.get() == {"url": "x"}


@pytest.mark.parametrize(
    "call",
    [
        lambda: sdxl.delay({"prompt": "a cat"}, steps=3),
        lambda: sdxl.apply_async(({"prompt": "a cat"},), {"steps": 3}, countdown=60, priority=3),
        lambda: sdxl.s({"prompt": "a cat"}, steps=3).delay(),
        lambda: sdxl.s({"prompt": "a cat"}).set(priority=1).apply_async(kwargs={"steps": 3}),
        lambda: sdxl.si({"prompt": "a cat"}, steps=3).apply_async(),
        lambda: sdxl.signature(({"prompt": "a cat"},), {"steps": 3}).apply(),
        lambda: sdxl.using(retries=2, labels=["x"]).delay(prompt="a cat", steps=3),
    ],
    ids=["delay", "apply_async", "s", "partial", "si", "apply", "using"],
)
def test_every_form_of_a_call(call: Any, app: Celery) -> None:
    with fake_endpoint("sdxl", output=lambda input: {"given": input}) as fake:
        assert call().get() == {"given": {"prompt": "a cat", "steps": 3}}
    fake.assert_called_once_with(prompt="a cat", steps=3)


def test_a_chain(app: Celery) -> None:
    with fake_endpoint("sdxl", output=lambda input: {"url": input["prompt"]}) as fake:
        flow = chain(task(app, "prompt").s("cat"), sdxl.s(steps=3), task(app, "save").s())
        assert flow.delay().get() == {"saved": {"url": "a cat"}}
    assert fake.calls[0].input == {"prompt": "a cat", "steps": 3}
    assert (fake.calls[0].args, fake.calls[0].fields) == (({"prompt": "a cat"},), {"steps": 3})


def test_a_chain_through_two_endpoints(app: Celery) -> None:
    with (
        fake_endpoint("sdxl", output={"image": "cat.png"}),
        fake_endpoint("flux", output=lambda input: {"upscaled": input["image"], "by": input["factor"]}),
    ):
        assert (sdxl.s(prompt="a cat") | flux.s(factor=4)).delay().get() == {"upscaled": "cat.png", "by": 4}
        assert (sdxl.s(prompt="a cat") | flux.si(image="b", factor=2)).delay().get() == {"upscaled": "b", "by": 2}


def test_a_group_a_chord_and_what_is_nested(app: Celery) -> None:
    save = task(app, "save")
    with fake_endpoint("sdxl", output=lambda input: input["n"] * 10):
        calls = [sdxl.s(n=n) for n in range(3)]
        assert group(calls).delay().get() == [0, 10, 20]
        assert chord(calls, save.s()).delay().get() == {"saved": [0, 10, 20]}
        assert chord([save.s(1)], sdxl.si(n=7)).delay().get() == 70
        nested = chain(group(sdxl.s(n=1) | save.s(), save.s(2)), save.s())
        assert nested.delay().get() == {"saved": [{"saved": 10}, {"saved": 2}]}


def test_every_step_of_a_flow_has_a_result(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"url": "x"}):
        last = chain(task(app, "prompt").s("cat"), sdxl.s(), task(app, "save").s()).delay()
        shown = [(one.state, one.get()) for one in map(JobResult, (last.parent.parent.id, last.parent.id, last.id))]
    assert shown == [
        ("SUCCESS", {"prompt": "a cat"}),
        ("SUCCESS", {"url": "x"}),
        ("SUCCESS", {"saved": {"url": "x"}}),
    ]


def test_ids_that_were_given_out_before_the_call(app: Celery) -> None:
    save = task(app, "save")
    with fake_endpoint("sdxl", output={"url": "x"}):
        flow = chain(sdxl.s(), save.s())
        frozen = flow.freeze()
        assert flow.delay().id == frozen.id
        assert [JobResult(one.id).get() for one in (frozen.parent, frozen)] == [{"url": "x"}, {"saved": {"url": "x"}}]
        assert chain(sdxl.s(), save.s()).apply_async(task_id="t1").id == "t1"
        assert JobResult("t1").get() == {"saved": {"url": "x"}}
        chord([sdxl.s(), sdxl.s()], save.s()).apply_async(task_id="t2")
        assert JobResult("t2").get() == {"saved": [{"url": "x"}, {"url": "x"}]}


def test_a_step_that_fails_shows_its_error(app: Celery) -> None:
    @app.task(name="shop.breaks", shared=False, bind=True)
    def breaks(self: Any, output: Any) -> None:
        app.saved.append(self.request.id)
        raise KeyError("url")

    with fake_endpoint("sdxl", output={"path": "x"}):
        (sdxl.s() | breaks.s()).delay()
        assert isinstance(JobResult(app.saved[0]).error, KeyError)


def test_links(app: Celery) -> None:
    with fake_endpoint("sdxl", output=lambda input: input), fake_endpoint("flux", output="up"):
        sdxl.apply_async(({"a": 1},), link=[task(app, "save").s(), flux.si() | task(app, "save").s()])
        task(app, "prompt").apply_async(("dog",), link=sdxl.s(steps=1) | task(app, "save").s())
    assert app.saved == [{"a": 1}, "up", {"prompt": "a dog", "steps": 1}]


def test_a_call_from_a_task_of_ones_own(app: Celery) -> None:
    with fake_endpoint("sdxl", output="done") as fake:
        task_id = task(app, "create").delay().get()
        assert JobResult(task_id).get() == "done"
    fake.assert_called_once_with(prompt="from a task")


def test_a_call_by_name(app: Celery) -> None:
    call = {"endpoint": "sdxl", "format": 1, "fields": {"a": 1}}
    with fake_endpoint("sdxl", output=1) as fake:
        assert app.send_task("runpod.run", ({"b": 2},), call, queue="runpod").get() == 1
        with pytest.raises(errors.EagerMode):
            app.send_task("runpod.run", kwargs={**call, "endpoint": "flux"})
    fake.assert_called_once_with(a=1, b=2)


def test_celerys_own_results_need_no_backend_either(app: Celery) -> None:
    @app.task(name="shop.slow", shared=False, bind=True)
    def slow(self: Any, output: Any) -> Any:
        self.update_state(state="PROGRESS", meta={"percent": 50})
        app.saved.append(app.AsyncResult(self.request.id).info)
        return output

    backend = app.backend
    with fake_endpoint("sdxl", output="x"):
        last = (sdxl.s() | slow.s()).delay()
        shown = [(one.state, one.get()) for one in map(AsyncResult, (last.id, last.parent.id))]
    assert shown == [("SUCCESS", "x"), ("SUCCESS", "x")] and app.saved == [{"percent": 50}]
    assert app.backend is backend


def test_a_task_that_is_replaced_by_a_call(app: Celery) -> None:
    @app.task(name="shop.replaced", shared=False, bind=True)
    def replaced(self: Any, subject: str) -> Any:
        return self.replace(sdxl.s(prompt=subject))

    with fake_endpoint("sdxl", output="x") as fake:
        assert (replaced.s("cat") | task(app, "save").s()).delay().get() == {"saved": "x"}
        assert replaced.delay("dog").get() == "x"
    assert [call.input for call in fake.calls] == [{"prompt": "cat"}, {"prompt": "dog"}]


def test_a_given_task_id_is_the_results(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1) as fake:
        assert sdxl.apply_async(task_id="t1").id == "t1"
        assert JobResult("t1").get() == 1
    assert fake.calls[0].task_id == "t1"


# Outputs


def test_the_output_is_what_json_makes_of_it(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"size": (1, 2), 3: None}):
        assert sdxl.delay().get() == {"size": [1, 2], "3": None}
    with fake_endpoint("sdxl"):
        assert sdxl.delay().get() is None


def test_an_output_belongs_to_its_caller(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"a": []}):
        (sdxl.s() | task(app, "save").s()).delay()
        app.saved[0]["a"].append(1)
        assert sdxl.delay().get() == {"a": []}


def test_a_function_gets_a_copy_of_the_input(app: Celery) -> None:
    with fake_endpoint("sdxl", output=lambda input: input.pop("a")) as fake:
        assert sdxl.delay(a=(1, 2)).get() == [1, 2]
    assert fake.calls[0].input == {"a": [1, 2]}


def test_a_generator_function_and_chunks_give_the_list(app: Celery) -> None:
    def words(input: Any) -> Iterator[str]:
        yield from input["text"].split()

    with fake_endpoint("sdxl", output=words), fake_endpoint("flux", chunks=["a", "cat"]):
        assert sdxl.delay(text="one two").get() == ["one", "two"]
        assert flux.delay().get() == ["a", "cat"]


def words(result: JobResult, after: str | None = None) -> list[Any]:
    return [chunk.output if chunk.event == "chunk" else chunk.event for chunk in result.stream(after, timeout=10)]


def test_chunks_are_streamed_to_every_reader(app: Celery) -> None:
    def generator(input: Any) -> Iterator[str]:
        yield from input["text"].split()

    with fake_endpoint("sdxl", output=generator), fake_endpoint("flux", chunks=["a", {"b": None}]):
        result = flux.using(stream=True).delay()
        assert words(result) == words(JobResult(result.id)) == ["a", {"b": None}]
        first = next(iter(result.stream()))
        assert (first.attempt, words(result, after=first.id)) == (1, [{"b": None}])
        assert words(sdxl.using(stream=True).delay(text="one two")) == ["one", "two"]


def test_a_stream_may_fail_after_some_chunks_and_begin_again(app: Celery) -> None:
    with fake_endpoint("sdxl", chunks=["a", "b"], error=errors.JobFailed("boom")):
        found = sdxl.using(stream=True, retries=1).delay().stream(timeout=10)
        assert [(one.event, one.output, one.attempt) for one in (next(found) for _ in range(5))] == [
            *[("chunk", "a", 1), ("chunk", "b", 1)],
            *[("retry", None, 2), ("chunk", "a", 2), ("chunk", "b", 2)],
        ]
        with pytest.raises(errors.JobFailed, match="boom"):
            next(found)


def test_a_call_that_does_not_stream_has_no_chunks_to_read(app: Celery) -> None:
    with fake_endpoint("sdxl", chunks=["a"]), pytest.raises(errors.InvalidOption, match="stream"):
        words(sdxl.delay())


def test_chunks_come_while_the_call_runs(app: Celery) -> None:
    async def read() -> list[Any]:
        found = JobResult("t1", app=app).astream(timeout=20)
        return [chunk.output async for chunk in found]

    with fake_endpoint("sdxl", chunks=["a", "b", "c"], delay=1.5):
        call = threading.Thread(target=lambda: sdxl.using(stream=True).apply_async((), {}, task_id="t1"))
        call.start()
        seen = JobResult("t1", app=app).stream(timeout=20)
        assert next(seen).output == "a"
        assert call.is_alive()
        assert [chunk.output for chunk in seen] == ["b", "c"]
        call.join()
        assert asyncio.run(read()) == ["a", "b", "c"]


def test_outputs_one_for_each_call(app: Celery) -> None:
    failed = errors.JobFailed("no face")
    with fake_endpoint("sdxl", outputs=[["a", "list"], failed, lambda input: input, ValueError("x")]):
        assert sdxl.delay().get() == ["a", "list"]
        assert sdxl.delay().error is not failed and str(sdxl.delay(a=1).get()) == "{'a': 1}"
        error = sdxl.delay().error
        assert isinstance(error, errors.JobFailed) and error.error_type == "ValueError"


def test_more_calls_than_outputs_fail_the_test_even_if_the_code_catches_it(app: Celery) -> None:
    fake = fake_endpoint("sdxl", outputs=[1]).__enter__()
    call_and_catch(a=1)
    call_and_catch(b=2)
    with pytest.raises(AssertionError, match=r"has 1 outputs, and a run number 2 .*'b': 2"):
        fake.__exit__(None, None, None)


def test_an_assertion_in_a_function_fails_the_test_even_if_the_code_catches_it(app: Celery) -> None:
    def handler(input: Any) -> None:
        assert input["steps"] == 30, "thirty steps"

    with pytest.raises(AssertionError, match="thirty steps"), fake_endpoint("sdxl", output=handler):
        call_and_catch(steps=1)


def test_the_tests_own_failure_is_the_one_that_is_seen(app: Celery) -> None:
    def failing_test() -> None:
        with fake_endpoint("sdxl", outputs=[]):
            call_and_catch()
            raise KeyError("the test's own")

    with pytest.raises(KeyError, match="the test's own"):
        failing_test()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"output": {"at": datetime.now(UTC)}}, "output.at is a datetime"),
        ({"outputs": [1, {"x": {1, 2}}]}, r"outputs\[1\].x is a set"),
        ({"chunks": [b"x"]}, r"chunks\[0\] is a bytes"),
        ({"progress": [float("nan")]}, r"progress\[0\] is nan"),
    ],
)
def test_what_no_handler_can_return_is_refused_at_once(given: Any, named: str) -> None:
    with pytest.raises(errors.InvalidInput, match=named):
        fake_endpoint("sdxl", **given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"output": 1, "error": "x"}, "output and error given; allowed: one"),
        ({"outputs": [1], "chunks": [1]}, "outputs and chunks given"),
        ({"outputs": "abc"}, "outputs is a str; allowed: a list"),
        ({"error": 5}, r"error is a int; .* outputs=\[...\]"),
        ({"error": ["x"]}, r"error is a list; .* outputs=\[...\]"),
        ({"error": errors.JobFailed}, "class JobFailed, which needs arguments"),
    ],
)
def test_wrong_arguments_are_refused_at_once(given: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        fake_endpoint("sdxl", **given)
    for name in ("", "a/b", 5):
        with pytest.raises(errors.InvalidInput, match="a name or RunPod's endpoint id"):
            fake_endpoint(name)  # type: ignore[arg-type]


def test_a_function_whose_output_is_not_json_fails_the_test(app: Celery) -> None:
    given = fake_endpoint("sdxl", output=lambda input: {"at": datetime.now(UTC)})
    with pytest.raises(errors.InvalidInput, match=r"output\.at is a datetime"), given:
        call_and_catch()


def test_an_async_function_is_refused(app: Celery) -> None:
    async def handler(input: Any) -> int:
        return 1

    with pytest.raises(TypeError, match="async function"), fake_endpoint("sdxl", output=handler):
        sdxl.delay()


# What RunPod and its SDK make of an output


def nested(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


def test_an_empty_dict_is_lost_as_at_runpod(app: Celery) -> None:
    with fake_endpoint("sdxl", output={}):
        assert isinstance(sdxl.delay().error, errors.OutputMissing)
        assert sdxl.using(allow_empty_output=True).delay().get() is None


def test_an_output_over_20_mb_is_lost_as_at_runpod(app: Celery) -> None:
    with fake_endpoint("sdxl", output="x" * 20_000_001):
        assert isinstance(sdxl.delay().error, errors.OutputMissing)


def test_an_output_that_is_too_deep_ends_as_at_a_worker(app: Celery) -> None:
    with fake_endpoint("sdxl", output=nested(65)):
        assert isinstance(sdxl.delay().error, errors.OutputTooDeep)
    with fake_endpoint("sdxl", output=nested(64)):
        assert sdxl.delay().get() == nested(64)


def test_an_error_in_the_output_is_a_failure_as_at_runpod(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"error": "no face", "seed": 3}):
        error = sdxl.delay().error
    assert isinstance(error, errors.JobFailed)
    assert (error.message, error.error, error.output) == ("no face", "no face", {"seed": 3})


# Errors


def test_a_text_is_what_the_handler_returns_as_its_error(app: Celery) -> None:
    with fake_endpoint("sdxl", error="CUDA out of memory"):
        result = sdxl.delay()
        with pytest.raises(errors.JobFailed) as caught:
            result.get()
    error = caught.value
    assert result.state == "FAILURE"
    assert (error.message, error.endpoint, error.task_id, error.job_id) == (
        "CUDA out of memory",
        "sdxl",
        result.id,
        result.job_id,
    )


@pytest.mark.parametrize("given", [ValueError("no face"), lambda input: {}["no face"]], ids=["error", "function"])
def test_an_exception_is_what_the_handler_raises(given: Any, app: Celery) -> None:
    options = {"output": given} if callable(given) else {"error": given}
    with fake_endpoint("sdxl", **options):
        error = sdxl.delay().error
    assert isinstance(error, errors.JobFailed)
    assert error.error_type in ("ValueError", "KeyError") and "no face" in error.message
    assert "Error: " in (error.traceback or "")


def test_an_error_of_ours_arrives_with_its_fields(app: Celery) -> None:
    given = errors.StartTimeout("no worker took it", start_timeout_s=60.0)
    with fake_endpoint("sdxl", error=given):
        result = sdxl.delay()
        error = result.error
    assert type(error) is errors.StartTimeout
    assert (error.start_timeout_s, error.endpoint, error.task_id) == (60.0, "sdxl", result.id)
    assert (given.endpoint, given.task_id) == (None, None)


def test_errors_of_the_call_itself_are_raised_by_it(app: Celery) -> None:
    down = errors.BrokerUnavailable("broker", "redis://r", "Connection refused")
    fake = fake_endpoint("sdxl", error=down)
    with fake, pytest.raises(errors.BrokerUnavailable, match="Connection refused"):
        sdxl.delay(a=1)
    assert fake.calls == []


def test_a_cancelled_job_is_revoked(app: Celery) -> None:
    with fake_endpoint("sdxl", error=errors.JobCancelled("by hand")):
        result = sdxl.apply_async(link_error=task(app, "note_failure").s())
        assert result.state == "REVOKED"
        with pytest.raises(TaskRevokedError):
            result.get()
        assert sdxl.s().delay().state == "REVOKED"
    assert [task_id for task_id, _ in app.saved] == [result.id]


def test_errbacks_of_both_forms(app: Celery) -> None:
    with fake_endpoint("sdxl", error="no face"):
        first = sdxl.apply_async(link_error=task(app, "mark_failed").s())
        second = sdxl.apply_async(link_error=task(app, "note_failure").s())
    assert isinstance(app.saved[0], errors.JobFailed) and app.saved[0].task_id == first.id
    assert app.saved[1][0] == second.id and isinstance(app.saved[1][1], errors.JobFailed)


def test_an_errback_with_arguments_of_its_own_gets_the_task_id_first_as_from_a_worker(app: Celery) -> None:
    @app.task(name="shop.fail_order", shared=False)
    def fail_order(task_id: str, order: int, *, why: str) -> None:
        app.saved.append((task_id, order, why))

    errback = fail_order.s(7, why="gpu")
    with fake_endpoint("sdxl", error="no face"):
        single = sdxl.apply_async(link_error=errback)
        (sdxl.s() | task(app, "save").s()).on_error(errback).delay()
    assert app.saved == [(single.id, 7, "gpu"), (app.saved[1][0], 7, "gpu")]


def test_a_failure_ends_the_chain_and_its_result_says_so(app: Celery) -> None:
    with fake_endpoint("sdxl", error="no face"):
        last = chain(task(app, "prompt").s("cat"), sdxl.s(a=1), task(app, "save").s()).delay()
        assert last.state == "FAILURE"
        with pytest.raises(errors.JobFailed, match="no face"):
            last.get()
        for task_id in (last.id, last.parent.id):
            assert isinstance(JobResult(task_id).error, errors.JobFailed)
        assert JobResult(last.parent.id).job_id is not None
    assert app.saved == []


def test_a_chord_that_fails_calls_the_errbacks_of_its_body(app: Celery) -> None:
    body = task(app, "save").s().on_error(task(app, "mark_failed").s())
    with fake_endpoint("sdxl", error="no face"):
        last = chord([sdxl.s(), sdxl.s()], body).delay()
        chord([sdxl.s()], task(app, "save").s().on_error(task(app, "note_failure").s())).apply_async(task_id="t1")
    assert isinstance(last.result, ChordError) and isinstance(app.saved[0], ChordError)
    assert app.saved[1][0] == "t1" and isinstance(app.saved[1][1], ChordError)


def test_a_failure_ends_a_chord(app: Celery) -> None:
    body = task(app, "save").s()
    flows = [
        chain(group(sdxl.s(), sdxl.s()), body),
        chord([sdxl.s(), sdxl.s()], body),
        chain(sdxl.s(), sdxl.s() | body),
    ]
    for flow, expected in zip(flows, (ChordError, ChordError, errors.JobFailed), strict=True):
        with fake_endpoint("sdxl", outputs=[{"a": 1}, ValueError("no face")]):
            last = flow.delay()
            assert isinstance(last.result, expected) and "no face" in str(last.result)
            assert JobResult(last.id).state == "FAILURE"
    assert app.saved == []


def test_a_chain_raises_with_eager_propagates(app: Celery) -> None:
    app.conf.task_eager_propagates = True
    with fake_endpoint("sdxl", error="no face"), pytest.raises(errors.JobFailed, match="no face"):
        chain(sdxl.s(a=1), task(app, "save").s()).delay()


def test_a_mistake_of_the_test_is_raised_by_a_chain(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1):
        for second in (flux.si(), task(app, "create_flux").si() | task(app, "save").s()):
            with pytest.raises(errors.EagerMode):
                (sdxl.s() | second).delay()


def test_eager_propagates_raises_at_the_call(app: Celery) -> None:
    app.conf.task_eager_propagates = True
    with fake_endpoint("sdxl", error="no face"), pytest.raises(errors.JobFailed, match="no face"):
        sdxl.apply_async(link_error=task(app, "mark_failed").s())
    assert app.saved == []  # Celery then calls no errbacks, of any task


def test_on_error_return_makes_it_the_result(app: Celery) -> None:
    with fake_endpoint("sdxl", outputs=[1, "x", errors.JobFailed("no face")]):
        careful = sdxl.using(on_error="return")
        results = group(careful.s(n=n) for n in range(3)).delay().get()
    assert results[:2] == [1, "x"]
    assert (results[2]["error"]["type"], set(results[2]["error"])) == ("JobFailed", {"type", "message", "job_id"})


def test_a_retry_runs_the_handler_again(app: Celery) -> None:
    with fake_endpoint("sdxl", outputs=[ValueError("1"), ValueError("2"), "third"]) as fake:
        assert sdxl.using(retries=2).delay().get() == "third"
    assert [call.attempts for call in fake.calls] == [3]
    with fake_endpoint("sdxl", error="always") as fake:
        assert isinstance(sdxl.using(retries=1).delay().error, errors.JobFailed)
    assert [call.attempts for call in fake.calls] == [2]
    with fake_endpoint("sdxl", error=errors.JobExpired("gone")) as fake:
        sdxl.using(retries=5).delay()
    assert [call.attempts for call in fake.calls] == [1]


# Idempotency keys


def test_calls_with_one_key_share_a_job(app: Celery) -> None:
    keyed = sdxl.using(idempotency_key="order-1")
    with fake_endpoint("sdxl", output=lambda input: str(uuid.uuid4())) as fake:
        first, second, other = keyed.delay(a=1), keyed.delay(a=1), sdxl.delay(a=1)
        assert first.get() == second.get() != other.get()
        assert first.job_id == second.job_id
        conflict = keyed.delay(a=2)
        assert isinstance(conflict.error, errors.IdempotencyConflict)
    assert [(call.attempts, call.joined) for call in fake.calls] == [(1, None), (0, first.id), (1, None)]


def test_a_job_that_failed_frees_its_key(app: Celery) -> None:
    keyed = sdxl.using(idempotency_key="order-1")
    with fake_endpoint("sdxl", outputs=[ValueError("x"), ValueError("y"), "third"]):
        assert isinstance(keyed.delay().error, errors.JobFailed)
        assert keyed.using(on_error="return").delay().get()["error"]["type"] == "JobFailed"
        assert keyed.delay().get() == "third"


# What a worker refuses


def test_what_the_real_call_refuses_is_refused(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1) as fake:
        for given in ({"a": {1}}, {"a": nested(65)}, {"a": float("inf")}):
            with pytest.raises(errors.InvalidInput):
                sdxl.delay(given)
        with pytest.raises(errors.PayloadTooLarge):
            sdxl.delay(a="x" * 10_000_001)
        with pytest.raises(errors.InvalidOption):
            sdxl.using(dead_line=3)
        with pytest.raises(errors.InvalidOption, match="link"):
            sdxl.apply_async(link="x")
        with pytest.raises(TypeError, match="list or tuple"):
            sdxl.apply_async({"a": 1})  # type: ignore[arg-type]
    assert fake.calls == []


@pytest.mark.parametrize(
    ("previous", "named"),
    [
        ("text", "cannot merge dict over str"),
        (nested(70), "deeper than 64"),
        ({"a": "x" * 10_000_001}, "10.0 MB"),
        ({"a": {1}}, "a is a set"),
    ],
    ids=["text", "deep", "large", "set"],
)
def test_a_previous_result_that_the_worker_refuses_ends_the_job(previous: Any, named: str, app: Celery) -> None:
    @app.task(name="shop.previous", shared=False)
    def made() -> Any:
        return previous

    step = sdxl.s() if named == "deeper than 64" else sdxl.s(steps=1)
    with fake_endpoint("sdxl", output=1) as fake:
        error = (made.s() | step).delay().result
        assert isinstance(error, errors.InvalidInput) and named in str(error)
    assert fake.calls == []


def test_arguments_that_the_task_does_not_have_end_the_job(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1):
        sent = app.tasks["runpod.run"].apply_async(kwargs={"endpoint": "sdxl", "prompt": "x"})
        assert isinstance(sent.result, errors.InvalidOption)


# Which calls


def test_an_endpoint_without_a_fake_is_refused(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1):
        for call in (flux.delay, flux.s().delay, flux.s().apply, (task(app, "prompt").s("x") | flux.s()).delay):
            with pytest.raises(errors.EagerMode, match=r"fakes of sdxl, and none of 'flux'.*fake_endpoint\('flux'"):
                call()


def test_after_the_fake_calls_are_refused_again_in_eager_mode(app: Celery, eager: bool) -> None:
    with fake_endpoint("sdxl", output=1):
        pass
    with pytest.raises(errors.EagerMode if eager else errors.BrokerUnavailable):
        sdxl.delay()


def test_an_eager_app_without_a_broker_is_refused_in_words_that_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    bare = Celery("bare")
    bare.conf.task_always_eager = True
    bare.set_current()
    with pytest.raises(errors.EagerMode, match=r"fake_endpoint\('sdxl', output=...\)"):
        sdxl.delay()
    monkeypatch.setenv("REDIS_URL", NOWHERE)
    with pytest.raises(errors.EagerMode):
        sdxl.delay()
    with fake_endpoint("sdxl", output=1):
        assert sdxl.delay().get() == 1


def test_the_inner_fake_of_one_endpoint_comes_first(app: Celery) -> None:
    with fake_endpoint("sdxl", output="outer") as outer:
        with fake_endpoint(sdxl, output="inner") as inner:
            assert sdxl.delay().get() == "inner"
        assert sdxl.delay().get() == "outer"
    assert (len(outer.calls), len(inner.calls)) == (1, 1)


def test_a_fake_serves_every_app_of_the_process(app: Celery) -> None:
    other = Celery("other", broker=NOWHERE, set_as_current=False)
    with fake_endpoint("sdxl", output=1):
        assert Endpoint("sdxl", app=other).delay().get() == 1
        late = Celery("late", broker=NOWHERE, set_as_current=False)
        assert Endpoint("sdxl", app=late).s().delay().get() == 1
    assert not other.conf.task_always_eager and not late.conf.task_always_eager


def test_what_a_fake_replaces_in_celery_comes_back(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[str] = []
    celerys = Celery.send_task

    def send_task(self: Celery, name: str, *args: Any, **options: Any) -> Any:
        traced.append(name)
        return celerys(self, name, *args, **options)

    monkeypatch.setattr(Celery, "send_task", send_task)
    before = [vars(kind)[name] for kind, name in _stand_ins._OURS]
    with fake_endpoint("sdxl"), fake_endpoint("flux"):
        assert [vars(kind)[name] for kind, name in _stand_ins._OURS] == list(_stand_ins._OURS.values())
    assert [vars(kind)[name] for kind, name in _stand_ins._OURS] == before and traced == []


def test_a_call_in_another_thread(app: Celery) -> None:
    seen: list[Any] = []
    with fake_endpoint("sdxl", output=lambda input: input["n"]) as fake:
        threads = [threading.Thread(target=lambda n=n: seen.append(sdxl.delay(n=n).get())) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == list(range(8)) and len(fake.calls) == 8


def test_nothing_else_is_sent_either(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1):
        result = sdxl.delay()
        for call in (sdxl.health, sdxl.purge_queue, sdxl.pause, lambda: sdxl.retry(result.id), lambda: ask("runpod.x")):
            with pytest.raises(errors.EagerMode, match="needs a RunPod worker"):
                call()
        result.cancel()
        sdxl.cancel(result.id)
        cancel(result.id)
        assert result.state == "SUCCESS"


# What was called


def test_calls_are_recorded(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1) as fake:
        sdxl.using(retries=2).apply_async(
            ({"a": 1},), {"b": (2,)}, priority=3, headers={"x": "y"}, countdown=timedelta(hours=1), task_id="t1"
        )
    [call] = fake.calls
    assert isinstance(call, FakeCall)
    assert (call.endpoint, call.input, call.task_id) == ("sdxl", {"a": 1, "b": [2]}, "t1")
    assert (call.args, call.fields, call.options.retries) == (({"a": 1},), {"b": [2]}, 2)
    assert call.celery_options["priority"] == 3 and call.celery_options["headers"] == {"x": "y"}
    assert call.not_before is not None and call.not_before > datetime.now(UTC) + timedelta(minutes=50)
    assert "idempotency_key" not in repr(call)
    fake.reset()
    assert fake.calls == []


def test_the_assertions_say_what_differs(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1) as fake:
        fake.assert_not_called()
        with pytest.raises(AssertionError, match="was called never, not once"):
            fake.assert_called_once_with()
        sdxl.delay(prompt="a cat", steps=3)
        fake.assert_called_once_with({"prompt": "a cat"}, steps=3)
        with pytest.raises(AssertionError) as caught:
            fake.assert_called_once_with(prompt="a dog", seed=1)
        assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
            "prompt: 'a cat' given, expected 'a dog'",
            "seed: missing, expected 1",
            "steps: 3 given, not expected",
        ]
        with pytest.raises(AssertionError, match=r"was called once, not never\n  1. {'prompt': 'a cat'"):
            fake.assert_not_called()
        sdxl.delay([1])
        with pytest.raises(AssertionError, match=r"called twice, not once\n  1. .*\n  2. \[1\]"):
            fake.assert_called_once_with([1])


# Open jobs


def test_progress_is_seen_from_another_thread(app: Celery) -> None:
    with fake_endpoint("sdxl", output="done", progress=[{"step": 1}], delay=timedelta(seconds=30)) as fake:
        thread = threading.Thread(target=lambda: sdxl.apply_async(task_id="t1"))
        thread.start()
        result = JobResult("t1")
        eventually(lambda: (result.state, result.progress), ("IN_PROGRESS", {"step": 1}))
        assert result.job_id is not None and result.reason is None
        fake._delay_s = 0.0
        fake._interrupt.set()
        thread.join()
        assert (result.get(timeout=30), result.progress) == ("done", None)


def test_a_cancel_from_another_thread_ends_a_call_that_runs(app: Celery) -> None:
    with fake_endpoint("sdxl", output="done", delay=30) as fake:
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.append(sdxl.apply_async(task_id="t1")))
        thread.start()
        eventually(lambda: JobResult("t1").state, "IN_PROGRESS")
        JobResult("t1").cancel()
        fake._interrupt.set()
        thread.join()
        assert JobResult("t1").state == "REVOKED"


def test_an_open_job_can_be_shown(app: Celery) -> None:
    with fake_endpoint("sdxl") as fake:
        fake.show("t1", "IN_QUEUE", reason="COLD_START")
        result = JobResult("t1")
        assert (result.state, result.reason, result.progress, result.ready()) == ("IN_QUEUE", "COLD_START", None, False)
        fake.show("t1", "IN_PROGRESS", progress=[1, (2,)])
        assert (result.state, result.reason, result.progress) == ("IN_PROGRESS", None, [1, [2]])
        with pytest.raises(errors.EagerMode, match="t1 is running"):
            result.get()
        result.cancel()
        assert result.state == "REVOKED"
        with pytest.raises(errors.InvalidOption, match="SUCCESS"):
            fake.show("t1", "SUCCESS")
    with pytest.raises(RuntimeError, match="not active"):
        fake.show("t1", "IN_QUEUE")


def test_a_result_that_never_comes_is_not_waited_for(app: Celery) -> None:
    with fake_endpoint("sdxl", output=1):
        result = JobResult("unknown")
        assert result.state == "PENDING"
        with pytest.raises(errors.EagerMode, match="captureOnCommitCallbacks"):
            result.get()
        ignored = sdxl.apply_async(ignore_result=True)
        assert ignored.state == "PENDING" and ignored.get() is None
        with pytest.raises(TypeError, match="keep its id"):
            pickle.dumps(result)


def _everything_public(one: Any) -> Iterator[str]:
    """Read each public property of a result's class, and call each method of its own without arguments."""
    for name, member in vars(type(one)).items():
        if name.startswith("_") or name == "revoke" or isinstance(member, staticmethod | classmethod):
            continue  # `revoke` is `cancel` with parameters that it ignores
        found = getattr(one, name)
        if inspect.isfunction(member):
            given = {"timeout": 0.2} if "timeout" in inspect.signature(member).parameters else {}
            found = found(**given)
        if inspect.isasyncgen(found):
            asyncio.run(anext(found))
        elif inspect.iscoroutine(found):
            asyncio.run(found)
        elif inspect.isgenerator(found):
            next(found)
        yield name


def test_nothing_of_a_result_asks_a_server(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def connect(self: Any) -> None:
        asked.append(repr(self))
        raise RedisConnectionError("a test connects to nothing")

    monkeypatch.setattr(AbstractConnection, "connect", connect)
    with fake_endpoint("sdxl", chunks=["done"]) as fake:
        assert {"reason", "progress", "aget", "cancel"} <= set(_everything_public(sdxl.using(stream=True).delay()))
        fake.show("t1", "IN_PROGRESS", progress=1)
        for name in ("reason", "progress", "job_id", "timings", "error"):
            getattr(JobResult("t1"), name)
    assert asked == []


# As a decorator


def test_as_a_decorator(app: Celery) -> None:
    fake = fake_endpoint("sdxl", output=1)

    @fake
    def test(n: int) -> Any:
        return sdxl.delay(n=n).get(), len(fake.calls)

    assert [test(1), test(n=2)] == [(1, 1), (1, 1)]
    assert fake.calls[0].input == {"n": 2}


def test_as_a_decorator_of_an_async_function(app: Celery) -> None:
    @fake_endpoint("sdxl", output=1)
    async def test() -> Any:
        await asyncio.sleep(0)
        return await sdxl.delay().aget()

    assert asyncio.run(test()) == 1


def test_as_a_decorator_of_a_class(app: Celery) -> None:
    @fake_endpoint("sdxl", output=1)
    class Tests:
        def test_one(self) -> Any:
            return sdxl.delay().get()

        def helper(self) -> bool:
            return _stand_ins.active()

    assert Tests().test_one() == 1 and not Tests().helper()


def test_one_fake_is_active_once(app: Celery) -> None:
    with fake_endpoint("sdxl") as fake:
        assert isinstance(fake, FakeEndpoint)
        with pytest.raises(RuntimeError, match="active already"), fake:
            pass
        assert sdxl.delay().get() is None


# The object behind the fixture


def test_fakes_until_the_end_of_a_test(app: Celery) -> None:
    with RunPodEndpoints() as endpoints:
        with pytest.raises(errors.EagerMode, match=r"the test has no fakes, and none of 'sdxl'"):
            sdxl.delay()
        one = endpoints.fake("sdxl", output=1)
        endpoints.fake(flux, output=2)
        assert (sdxl.delay(a=1).get(), flux.delay().get(), sdxl.delay(a=2).get()) == (1, 2, 1)
        assert [call.input for call in endpoints.calls] == [{"a": 1}, {"a": 2}, {}]
        assert len(one.calls) == 2


def test_a_mistake_in_a_fake_of_the_fixture_fails_the_test(app: Celery) -> None:
    endpoints = RunPodEndpoints().__enter__()
    endpoints.fake("sdxl", outputs=[])
    call_and_catch()
    with pytest.raises(AssertionError, match="has 0 outputs"):
        endpoints.__exit__(None, None, None)
