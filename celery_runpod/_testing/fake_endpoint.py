"""A fake in the place of an endpoint, in the test's own process: no Redis, no broker, no worker, no RunPod.

A fake takes the calls of its endpoint, records them, and ends each as its arguments say. What a worker checks is checked
here by the same functions; what RunPod and its SDK do with an output is in ``handler_ends.py``. Celery runs the canvas
around the calls in eager mode.

Not here: how a call finds its fake (``_stand_ins.py``); what a fake cannot show (docs/testing.md).
"""

from __future__ import annotations

import functools
import inspect
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

from celery import states
from celery.exceptions import TaskRevokedError
from kombu.utils.json import dumps, loads

from celery_runpod import _stand_ins
from celery_runpod._call_rules import check_message, merge_input, returned_error, unfolded
from celery_runpod._connect import client_app
from celery_runpod._plain_json import plain_json
from celery_runpod._stand_ins import Ending, Message, Show, StandIn
from celery_runpod._store.states import OPEN
from celery_runpod._testing.handler_ends import answer_failed, answer_raised, answer_with, as_json
from celery_runpod.api._answers import Job
from celery_runpod.api._depth import too_deep
from celery_runpod.api._durations import bounded
from celery_runpod.api._payload import check_input, encode
from celery_runpod.endpoint import Endpoint
from celery_runpod.errors import (
    BrokerUnavailable,
    ConfigurationError,
    ConfigurationMismatch,
    IdempotencyConflict,
    InvalidOption,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    OutputMissing,
    RunPodError,
    TooManyOpenJobs,
)
from celery_runpod.options import Options

UNGIVEN: Any = type("Ungiven", (), {"__repr__": lambda self: "..."})()
MOST_DELAY_S = 3600.0
AT_THE_CALLER = (BrokerUnavailable, ConfigurationError, ConfigurationMismatch, TooManyOpenJobs)
"""Errors that the call itself raises: nothing was enqueued."""
OWN_OPTIONS = frozenset({"queue", "serializer", "argsrepr", "kwargsrepr", "shadow", "ignore_result"})
"""Options of the message that `Endpoint` and Celery set themselves."""


@dataclass(frozen=True)
class FakeCall:
    """One call that a fake endpoint has taken.

    Args:
        endpoint: the name that the call was made with.
        input: what the handler is given: the previous result of a chain, the input and the fields, merged.
        task_id: the caller's task id, as `JobResult.id`.
        options: what `Endpoint.using` set; what it did not set is None.
        args: the positional values that were merged: the previous result of a chain, the input.
        fields: the keyword values that were merged over them.
        not_before: when the job may begin, from `countdown` or `eta`; None: at once.
        celery_options: what else was given to `apply_async`: `priority`, `headers`, ...
        attempts: how often the handler ran: more than once after a failure under `using(retries=...)`, and 0 if the call
            joined another one.
        joined: the task id of the call whose job this one shares by its `idempotency_key`, or None.
    """

    endpoint: str
    input: Any
    task_id: str
    options: Options = field(default_factory=Options, repr=False)
    args: tuple[Any, ...] = field(default=(), repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    not_before: datetime | None = None
    celery_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    attempts: int = 1
    joined: str | None = None


class _End(NamedTuple):
    """How a job ends, before it is known for which call."""

    answer: Job | None = None
    error: Exception | None = None


class FakeEndpoint:
    """The handle of a fake endpoint; `fake_endpoint` makes it. A context manager, and a decorator of functions, of
    `async` functions and of test classes."""

    def __init__(
        self,
        name: str,
        *,
        output: Any,
        error: Any,
        outputs: Iterable[Any] | None,
        progress: Iterable[Any],
        chunks: Iterable[Any] | None,
        delay: float | timedelta,
    ) -> None:
        self.name = name
        self._calls: list[FakeCall] = []
        self._mistakes: list[BaseException] = []
        self._shared: dict[str, tuple[str, str, Ending]] = {}
        self._used = 0
        self._stand_in: StandIn | None = None
        self._interrupt = threading.Event()  # our own tests end a delay by it
        self._lock = threading.RLock()
        self._one_at_a_time = threading.RLock()
        given = {"output": output is not UNGIVEN, "error": error is not None, "outputs": outputs is not None}
        given["chunks"] = chunks is not None
        if chunks is not None:
            given["error"] = False  # a handler may fail after some chunks
        if len(names := [one for one, is_given in given.items() if is_given]) > 1:
            raise TypeError(f"fake_endpoint({name!r}): {' and '.join(names)} given; allowed: one of them")
        self._error = None if error is None else _checked_error(error)
        self._output = None if output is UNGIVEN else _checked_output(output, "output")
        self._chunks: list[Any] = [] if chunks is None else as_json(list(chunks), "chunks")
        if chunks is not None and error is None:
            self._output = self._chunks
        self._outputs = None
        if outputs is not None:
            if isinstance(outputs, str | bytes | Mapping) or not isinstance(outputs, Iterable):
                raise TypeError(f"outputs is a {type(outputs).__name__}; allowed: a list, one entry for each run")
            self._outputs = [_checked_output(one, f"outputs[{index}]") for index, one in enumerate(outputs)]
        self._progress = as_json(list(progress), "progress")
        self._delay_s = bounded("delay", delay, 0.0, MOST_DELAY_S)

    def __repr__(self) -> str:
        return f"<fake endpoint {self.name!r}, {len(self.calls)} calls>"

    # While a test runs

    @property
    def calls(self) -> list[FakeCall]:
        """The calls so far, in their order; a copy. A call that a worker refuses, because its input is not JSON or too
        large, is not one of them: no job is run for it."""
        with self._lock:
            return list(self._calls)

    def reset(self) -> None:
        """Forget the calls, the idempotency keys, and how many of `outputs` were used."""
        with self._lock:
            self._calls.clear()
            self._mistakes.clear()
            self._shared.clear()
            self._used = 0

    def assert_called_once_with(self, input: Any = None, /, **fields: Any) -> None:
        """Assert that there was one call, with this input: as for `Endpoint.delay`, keywords are merged over the
        positional. The message shows every call, and what differs."""
        expected = as_json(merge_input([] if input is None else [input], fields, self.name), "expected")
        calls = self.calls
        if len(calls) != 1:
            raise AssertionError(f"endpoint {self.name!r} was called {_times(calls)}, not once{_listed(calls)}")
        if calls[0].input != expected:
            raise AssertionError(
                f"endpoint {self.name!r} was called with another input{_difference(calls[0].input, expected)}"
            )

    def assert_not_called(self) -> None:
        """Assert that there was no call. The message shows those that there were."""
        if calls := self.calls:
            raise AssertionError(f"endpoint {self.name!r} was called {_times(calls)}, not never{_listed(calls)}")

    def show(self, task_id: str, state: str, *, progress: Any = None, reason: str | None = None) -> None:
        """Let `JobResult(task_id)` show an open job, for the test of a page that watches one. `JobResult.cancel` then
        ends it as cancelled.

        Args:
            task_id: any id. No call need have been made.
            state: WAITING, JOINED (it shares another call's job), SUBMITTING, IN_QUEUE or IN_PROGRESS.
            progress: what the handler reported last.
            reason: why the job waits, as `JobResult.reason`.

        Raises:
            InvalidOption: another state. InvalidInput: the progress is not JSON. RuntimeError: the fake is not active.
        """
        if state not in OPEN:
            raise InvalidOption("state", state, f"one of {', '.join(OPEN)}; for an end make a call")
        if self._stand_in is None:
            raise RuntimeError(f"{self!r} is not active: use it as a context manager or a decorator")
        news = {"progress": as_json(progress, "progress"), "reason": reason, "job_id": f"fake-{task_id}"}
        shown = {"endpoint": self.name, **{name: one for name, one in news.items() if one is not None}}
        _stand_ins.results_of(client_app()).store_result(task_id, shown, state)

    # As a context manager and a decorator

    def __enter__(self) -> Self:
        with self._lock:
            if self._stand_in is not None:
                raise RuntimeError(
                    f"{self!r} is active already: make another one with fake_endpoint({self.name!r}, ...)"
                )
            self.reset()
            self._stand_in = StandIn(self.name, self._take)
        _stand_ins.begin()
        _stand_ins.add(self._stand_in)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._stand_in is not None:
            _stand_ins.remove(self._stand_in)
            _stand_ins.end()
            self._stand_in = None
        if error is None and self._mistakes:
            # The code under test may have caught it.
            raise self._mistakes[0]

    def __call__(self, decorated: Any) -> Any:
        if inspect.isclass(decorated):
            for name, method in list(vars(decorated).items()):
                if name.startswith("test") and inspect.isfunction(method):
                    setattr(decorated, name, self(method))
            return decorated
        if inspect.iscoroutinefunction(decorated):

            @functools.wraps(decorated)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await decorated(*args, **kwargs)

            return awaited

        @functools.wraps(decorated)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self:
                return decorated(*args, **kwargs)

        return called

    # Taking a call

    def _take(self, message: Message, show: Show) -> Ending:
        """Run one call to its end (``_stand_ins.py``)."""
        if isinstance(self._error, AT_THE_CALLER):
            raise replace(self._error)
        try:
            call = _read_call(self.name, message)
        except RunPodError as error:
            return _ending(error=error)
        key = call.options.idempotency_key
        if key is None:
            return _returned(self._run(call, show), call)
        digest = json.dumps(call.input, sort_keys=True)
        with self._one_at_a_time:
            if key not in self._shared:
                ending = self._run(call, show)
                if ending.error is None:  # a job that failed frees its key
                    self._shared[key] = (digest, call.task_id, ending)
                return _returned(ending, call)
            first_digest, first, ending = self._shared[key]
        if digest != first_digest:
            problem = f"idempotency_key {key!r} belongs to a job with another input"
            return _ending(error=IdempotencyConflict(problem, self.name, call.task_id))
        with self._lock:
            self._calls.append(replace(call, attempts=0, joined=first))
        return _returned(ending, call)

    def _run(self, call: FakeCall, show: Show) -> Ending:
        with self._lock:
            place = len(self._calls)
            self._calls.append(call)
        job_id = f"fake-{uuid.uuid4()}"
        for attempt in range(1, (call.options.retries or 0) + 2):
            with self._lock:
                self._calls[place] = replace(call, attempts=attempt)
            self._work(self._calls[place], job_id, show)
            with self._noting_mistakes():
                end = self._next_end(call, job_id)
            ending = _deliver(end, call, job_id)
            if not isinstance(ending.error, JobFailed | JobTimedOut):
                break
        return ending

    def _work(self, call: FakeCall, job_id: str, show: Show) -> None:
        """Show what the result of an open job shows, and yield its chunks, for as long as `delay` says."""
        yielded = _yielding(call)
        if call.options.stream:
            again = [None] if call.attempts > 1 else []
            _stand_ins.results_of(client_app()).add_chunks(call.task_id, *again)
        show("IN_PROGRESS", {"job_id": job_id})
        steps = max(1, len(self._progress), len(self._chunks))
        for step in range(steps):
            yielded(*_part(self._chunks, step, steps))
            for said in _part(self._progress, step, steps):
                show("IN_PROGRESS", {"job_id": job_id, "progress": said})
            self._interrupt.wait(self._delay_s / steps)

    def _next_end(self, call: FakeCall, job_id: str) -> _End:
        if self._outputs is None:
            given = self._output if self._error is None else self._error
            return _run_handler(given, call, job_id, is_error=self._error is not None)
        with self._lock:
            index, self._used = self._used, self._used + 1
        if index >= len(self._outputs):
            raise AssertionError(
                f"fake_endpoint({self.name!r}) has {len(self._outputs)} outputs, and a run number {index + 1} was asked "
                f"for, with the input {_shown(call.input)}: give outputs= one more entry"
            )
        return _run_handler(self._outputs[index], call, job_id)

    @contextmanager
    def _noting_mistakes(self) -> Iterator[None]:
        """A mistake of the test itself is raised again at the end of the fake, in case the code under test catches it."""
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._mistakes.append(error)
            raise


def fake_endpoint(
    name: str | Endpoint,
    *,
    output: Any = UNGIVEN,
    error: RunPodError | Exception | str | None = None,
    outputs: Iterable[Any] | None = None,
    progress: Iterable[Any] = (),
    chunks: Iterable[Any] | None = None,
    delay: float | timedelta = 0.0,
) -> FakeEndpoint:
    """Put a fake in the place of an endpoint, as a context manager or a decorator. No Redis, broker, worker or RunPod is
    needed. While a fake is active, Celery runs in eager mode in this process, so that a chain, group or chord runs
    through with your own tasks in it; and a call of an endpoint that is not faked is refused.

    >>> with fake_endpoint("sdxl", output={"url": "https://example.test/cat.png"}) as sdxl:
    ...     url = Endpoint("sdxl").delay(prompt="a cat").get()["url"]
    >>> sdxl.calls[0].input
    {'prompt': 'a cat'}

    A call ends as one of these says; without any the output is None.

    Args:
        name: the endpoint, or its name as the code under test gives it.
        output: what the handler returns: JSON, or a function of the input. What the function raises is what the handler
            raises; a generator function is a handler that yields.
        error: how every job fails: an error of `celery_runpod.errors` as the caller gets it (fields that are None are
            filled in), another exception as the handler raises it, or a text as the handler returns it under `error`.
            BrokerUnavailable, TooManyOpenJobs, ConfigurationMismatch and ConfigurationError are raised by the call.
        outputs: one entry for each run of the handler, in order: an output, a function or an exception.
        chunks: what a generator handler yields; the output is the list of them. With `error` it fails after the last one.
            `JobResult.stream` gives them for a call made with `using(stream=True)`.
        progress: what the handler reports. Each is shown on the result while the call runs.
        delay: how long each run takes, in seconds or as a `timedelta`. The call blocks for as long.

    Raises:
        InvalidInput: an output, a chunk or a progress is not JSON.
        InvalidOption: `delay` is out of its bounds.
        TypeError: arguments that exclude each other, or of a wrong type.
    """
    name = name.name if isinstance(name, Endpoint) else Endpoint(name).name
    return FakeEndpoint(
        name, output=output, error=error, outputs=outputs, progress=progress, chunks=chunks, delay=delay
    )


class RunPodEndpoints:
    """What the fixture `runpod_endpoints` gives: fakes until the end of the test, and no other calls."""

    def __init__(self) -> None:
        self._fakes: list[FakeEndpoint] = []

    def __enter__(self) -> Self:
        _stand_ins.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        mistakes = [mistake for fake in self._fakes for mistake in fake._mistakes]
        for fake in reversed(self._fakes):
            fake.__exit__(kind, error or next(iter(mistakes), None), tb)
        _stand_ins.end()
        if error is None and mistakes:
            raise mistakes[0]

    def fake(self, name: str | Endpoint, **options: Any) -> FakeEndpoint:
        """As `fake_endpoint`, until the end of the test."""
        fake = fake_endpoint(name, **options).__enter__()
        self._fakes.append(fake)
        return fake

    @property
    def calls(self) -> list[FakeCall]:
        """The calls of all fakes, endpoint by endpoint, in the order in which the fakes were made."""
        return [call for fake in self._fakes for call in fake.calls]


def _read_call(name: str, message: Message) -> FakeCall:
    """A call as a worker reads its message.

    Raises:
        RunPodError: what the worker would refuse it with.
    """
    inputs = _through_the_broker(message.args, name)
    arguments = unfolded(_through_the_broker(dict(message.kwargs), name))
    check_message(arguments)
    options = Options.parse(arguments.get("options") or {})
    fields_ = arguments.get("fields") or {}
    value = plain_json(merge_input(inputs, fields_, name))
    check_input(value, endpoint=name)
    not_before = arguments.get("not_before")
    return FakeCall(
        endpoint=name,
        input=as_json(value, "input"),
        task_id=message.task_id,
        options=options,
        args=tuple(inputs),
        fields=fields_,
        not_before=None if not_before is None else datetime.fromtimestamp(not_before, UTC),
        celery_options={
            name: one for name, one in message.options.items() if one is not None and name not in OWN_OPTIONS
        },
    )


def _through_the_broker(value: Any, endpoint: str) -> Any:
    """A value after its way through a message; Celery's JSON has also dates, decimals and UUIDs."""
    try:
        return loads(dumps(value))
    except (TypeError, ValueError, RecursionError):
        encode(value, endpoint=endpoint)  # its error names the place
        raise


def _part(items: Sequence[Any], step: int, steps: int) -> Sequence[Any]:
    """Those of the items whose turn it is, where all are spread over so many steps."""
    return items[step * len(items) // steps : (step + 1) * len(items) // steps]


def _yielding(call: FakeCall) -> Callable[..., None]:
    """What takes the chunks of a call that streams; of another call nobody reads them."""
    if not call.options.stream:
        return lambda *chunks: None
    results = _stand_ins.results_of(client_app())
    return lambda *chunks: results.add_chunks(call.task_id, *(json.dumps(as_json(one, "a chunk")) for one in chunks))


def _run_handler(given: Any, call: FakeCall, job_id: str, *, is_error: bool = False) -> _End:
    if callable(given):
        try:
            given = given(as_json(call.input, "input"))
            if inspect.isgenerator(given):
                given = _drained(given, _yielding(call))
        except AssertionError:
            raise  # of the test, not of the handler
        except Exception as error:
            given = error
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()
            raise TypeError("output is an async function; allowed: a plain function of the input")
    if isinstance(given, RunPodError):
        return _End(error=given)
    if isinstance(given, Exception):
        return _End(answer_raised(given, job_id), error=given)
    return _End(answer_failed(given, job_id) if is_error else answer_with(given, job_id))


def _drained(handler: Iterator[Any], yielded: Callable[..., None]) -> list[Any]:
    """The chunks of a generator, each shown as it comes."""
    chunks = []
    for chunk in handler:
        yielded(chunk)
        chunks.append(chunk)
    return chunks


def _deliver(end: _End, call: FakeCall, job_id: str) -> Ending:
    """The ending that the worker delivers."""
    notes = {"job_id": job_id, "delay_s": 0.0, "execution_s": 0.0}
    if end.answer is None:
        known = {"endpoint": call.endpoint, "task_id": call.task_id, "job_id": job_id}
        error = end.error
        if isinstance(error, JobCancelled):
            return Ending(error=TaskRevokedError("revoked"), state=states.REVOKED, notes=notes)
        assert isinstance(error, RunPodError)
        names = {one.name for one in fields(error)}
        unset = {name: value for name, value in known.items() if name in names and getattr(error, name) is None}
        return _ending(error=replace(error, **unset), notes=notes)
    answer = end.answer
    failure: RunPodError | None = answer.failure(call.endpoint, call.task_id)
    if answer.without_output and not call.options.allow_empty_output:
        failure = OutputMissing(OutputMissing.WHY, call.endpoint, call.task_id, job_id)
    if failure is None:
        return Ending(output=answer.output, notes=notes)
    failure.__cause__ = end.error
    if isinstance(failure, JobFailed) and failure.traceback:
        failure.add_note(failure.traceback)
    return _ending(error=failure, notes=notes)


def _ending(*, error: Exception, notes: Mapping[str, Any] | None = None) -> Ending:
    return Ending(error=error, state=states.FAILURE, notes=notes or {})


def _returned(ending: Ending, call: FakeCall) -> Ending:
    """With `on_error="return"` the error is the result."""
    if call.options.on_error != "return" or not isinstance(ending.error, RunPodError):
        return ending
    output = returned_error(ending.error, ending.notes.get("job_id"))
    return replace(ending, output=output, error=None, state=states.SUCCESS)


def _checked_error(error: Any) -> RunPodError | Exception | str:
    if isinstance(error, type) and issubclass(error, Exception):
        try:
            error = error()
        except TypeError as why:
            raise TypeError(f"error is the class {error.__name__}, which needs arguments: give an instance") from why
    if isinstance(error, str | Exception):
        return error
    raise TypeError(
        f"error is a {type(error).__name__}; allowed: an error of celery_runpod.errors, another exception, a text "
        "(for several calls use outputs=[...])"
    )


def _checked_output(output: Any, name: str) -> Any:
    """An output that a handler can return, a function, or an exception.

    Raises:
        InvalidInput: it is not JSON.
    """
    if isinstance(output, type) and issubclass(output, Exception):
        return _checked_error(output)
    if callable(output) or isinstance(output, Exception) or too_deep(output):
        return output
    return as_json(output, name)


def _times(calls: Sequence[FakeCall]) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(len(calls), f"{len(calls)} times")


def _listed(calls: Sequence[FakeCall]) -> str:
    return "".join(f"\n  {index + 1}. {_shown(call.input)}" for index, call in enumerate(calls))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:500]}..."


def _difference(given: Any, expected: Any) -> str:
    if not isinstance(given, dict) or not isinstance(expected, dict):
        return f":\n  given:    {_shown(given)}\n  expected: {_shown(expected)}"
    lines = []
    for name in [*expected, *(name for name in given if name not in expected)]:
        if name not in given:
            lines.append(f"{name}: missing, expected {_shown(expected[name])}")
        elif name not in expected:
            lines.append(f"{name}: {_shown(given[name])} given, not expected")
        elif given[name] != expected[name]:
            lines.append(f"{name}: {_shown(given[name])} given, expected {_shown(expected[name])}")
    return ":" + "".join(f"\n  {line}" for line in lines)
