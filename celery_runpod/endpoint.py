"""[1 of 8] Endpoint: a RunPod endpoint as a Celery task.

It builds signatures of the task `runpod.run` by name, so this process needs neither the worker's code nor the API key.
They are plain Celery signatures: chain, group, chord, link and beat take them.

Next: ``_protocol.py``, what the message holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn, Self
from uuid import UUID

from celery import Celery
from celery.canvas import Signature

from celery_runpod import _stand_ins
from celery_runpod._asking import DEFAULT_TIMEOUT_S, ask, health_from, pause, refuse_other_endpoint, resume, retry
from celery_runpod._call_rules import merge_input, not_before, task_id_from
from celery_runpod._connect import check_reachable, client_app
from celery_runpod._on_commit import on_commit
from celery_runpod._plain_json import plain_json
from celery_runpod._protocol import CALL, FORMAT, HEALTH, PURGE_QUEUE, RUN
from celery_runpod._publish.caller_task import check_arguments, client_task, options_of_a_call, refuse_wrong_options
from celery_runpod._publish.result_expiry import check_expiry
from celery_runpod.api._answers import Health
from celery_runpod.api._payload import check_depth, check_input
from celery_runpod.errors import InvalidInput, NotConfigured
from celery_runpod.options import Options
from celery_runpod.results import JobResult

__all__ = ["Endpoint"]


class Endpoint:
    """A RunPod Serverless endpoint, by a name from the worker's settings or by RunPod's endpoint id.

    >>> sdxl = Endpoint("sdxl")
    >>> signature = sdxl.s(prompt="an astronaut on a horse", steps=30)
    >>> signature.task
    'runpod.run'

    Args:
        name_or_id: a profile, the NAME of a variable `RUNPOD_ENDPOINT_<NAME>` in the worker, or RunPod's id.
        app: the Celery app to publish with; the current app by default, else one made from `REDIS_URL`.
    """

    def __init__(self, name_or_id: str, *, app: Celery | None = None, options: Options | None = None) -> None:
        if not isinstance(name_or_id, str) or not name_or_id or "/" in name_or_id:
            raise InvalidInput(f"endpoint {name_or_id!r}: a name or RunPod's endpoint id is needed")
        self.name = name_or_id
        self.options = options or Options()
        self._app = app

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and (self.name, self.options) == (other.name, other.options)

    def __hash__(self) -> int:
        return hash((self.name, repr(self.options)))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self!r} cannot be called: the job runs on RunPod; use .delay(...) or .s(...)")

    @property
    def app(self) -> Celery:
        return self._app if self._app is not None else client_app()

    def using(self, **options: Any) -> Self:
        """A copy of this endpoint with these options; options that were set before stay.

        Args:
            deadline: from acceptance (or from `countdown`/`eta`) to the end; 6 h by default. Durations are seconds or
                `timedelta`.
            start_timeout: within this time a RunPod worker must have taken the job.
            execution_timeout, ttl: RunPod's own limits (docs.runpod.io/serverless/endpoints/send-requests).
            low_priority: whether RunPod may let other jobs go first.
            retries: how often a job that ends FAILED or TIMED_OUT is submitted again, as a new job that is paid for. Not
                Celery's retries of a task.
            sync: whether the worker submits by /runsync, for fast inference. The call itself returns at once, as ever.
            backoff: a dict with any of first, factor, cap, jitter: when to look at the job.
            webhook: False keeps this call from using the configured webhook.
            api_key_name: which of the worker's API keys to use.
            labels: texts that `celery-runpod show` and Django's admin show of an open job.
            stream: what it yields can be read, not with sync or idempotency_key; False: it never yields.
            on_error: "raise", or "return": the error becomes the result, so that a fan-out survives it.
            idempotency_key: calls with one key (of one namespace and endpoint) and the same input share one job, also
                after its end, as long as its result is kept. A job that failed frees its key.
            allow_empty_output: a job that is COMPLETED without output gives None. By default it ends with OutputMissing:
                RunPod loses a result over about 20 MB, and drops an empty dict. A null is an output.

        Raises:
            InvalidOption: unknown, of a wrong type, out of bounds (as a bare number over a day), or excluded by another.
        """
        return type(self)(self.name, app=self._app, options=Options.parse(options).over(self.options).checked())

    def s(self, input: Any = None, /, **fields: Any) -> Signature:
        """A signature: the positional is the input, keywords are fields merged over it. In a chain the previous
        result is merged under what is given here.

        Raises:
            InvalidInput: what is given is not JSON, or a field was to be merged over something that is not a dict.
            PayloadTooLarge: it is over 10 MB.
        """
        return self.signature(() if input is None else (input,), fields)

    def si(self, input: Any = None, /, **fields: Any) -> Signature:
        """As `s`, but the previous result in a chain is not part of the input."""
        signature = self.s(input, **fields)
        signature.set(immutable=True)
        return signature

    def signature(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **celery_options: Any
    ) -> Signature:
        """As `s`, with the input in `args`, the fields in `kwargs`, and Celery's options.

        Raises:
            TypeError: `args` is no list or tuple.
            InvalidOption: a link is no signature, or an option belongs into `using`.
            ConfigurationError: the app's results, or chords, expire before the job's deadline.
        """
        check_arguments(args, {} if kwargs is None else kwargs)
        refuse_wrong_options(celery_options)
        fields = dict(kwargs or {})
        if CALL in fields:
            raise InvalidInput(f"a field cannot have the name {CALL!r}", self.name)
        if any(isinstance(one, Signature) for one in (*args, *fields.values())):
            raise InvalidInput("a signature is no input: chain(task.s(), endpoint.s()) gives its result", self.name)
        # Check also an input that a field replaces: the message carries it.
        for one in args:
            check_depth(one, "input", self.name)
        check_depth(fields, "fields", self.name)
        args, fields = tuple(plain_json(one) for one in args), plain_json(fields)
        check_input(merge_input(args, fields, self.name) if args or fields else {}, endpoint=self.name)
        arguments: dict[str, Any] = {"endpoint": self.name, "format": FORMAT}
        if options := self.options.to_message():
            arguments["options"] = options
        immutable = bool(celery_options.pop("immutable", False))
        # Redis would hand out a message with a long ETA again each time the visibility timeout passes.
        countdown, eta = celery_options.pop("countdown", None), celery_options.pop("eta", None)
        if (at := not_before(countdown, eta, lambda: self.app.timezone)) is not None:
            arguments["not_before"] = at
        options = {**options_of_a_call(self.name), **celery_options}
        # A chain publishes with the current app. If only REDIS_URL is set, `self.app` makes that app now.
        with contextlib.suppress(NotConfigured):
            check_expiry(self.app, self.name, self.options.deadline, arguments.get("not_before"))
        # Fields are keywords of the signature, so that a partial's keywords are merged over them as Celery does.
        kwargs = {CALL: arguments, **fields}
        return Signature(RUN, args=args, kwargs=kwargs, options=options, app=self._app, immutable=immutable)

    def delay(self, input: Any = None, /, **fields: Any) -> JobResult:
        """Enqueue a job; see `s` and `apply_async`."""
        return self.apply_async(() if input is None else (input,), fields)

    def apply_async(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **celery_options: Any
    ) -> JobResult:
        """Enqueue a job, with Celery's options: `countdown`, `eta`, `expires`, `priority`, `headers`, `link`, ...

        Raises:
            InvalidInput, PayloadTooLarge, InvalidOption: nothing was sent.
            NotConfigured: there is no Celery app, and none can be made from the environment.
            TypeError: `args` is no list or tuple.
            ConfigurationError: the app's results expire before the job's deadline.
            EagerMode: the app has `task_always_eager` on, and no `fake_endpoint` is active (docs/testing.md).
            ConfigurationMismatch: the app and the RunPod workers do not share broker, result backend or job store.
            TooManyOpenJobs: the namespace holds as many jobs, or bytes of input, as the workers allow.
            BrokerUnavailable: the broker or the result backend does not answer; nothing was enqueued, unless the error
                is `unconfirmed`: then repeat the call with the task id that it names.
        """
        app = self.app
        task_id = task_id_from(celery_options.pop("task_id", None))
        signature = self.signature(args, kwargs, **celery_options)
        client_task(app).apply_async(signature.args, signature.kwargs, **{**signature.options, "task_id": task_id})
        result = JobResult(task_id, app=app)
        result.ignored = bool(celery_options.get("ignore_result"))
        return result

    async def adelay(self, input: Any = None, /, **fields: Any) -> JobResult:
        """As `delay`, without blocking the event loop."""
        return await asyncio.to_thread(self.delay, input, **fields)

    async def aapply_async(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **celery_options: Any
    ) -> JobResult:
        """As `apply_async`, without blocking the event loop."""
        return await asyncio.to_thread(self.apply_async, args, kwargs, **celery_options)

    def delay_on_commit(self, input: Any = None, /, **fields: Any) -> str:
        """Enqueue once Django's current transaction has been committed, or at once if there is none; returns the task id
        at once. For another database see `apply_async_on_commit`, for a canvas `celery_runpod.on_commit`.

        Raises:
            as `apply_async`: a mistake in the call is raised here, not after the commit.
        """
        return self.apply_async_on_commit(() if input is None else (input,), fields)

    def apply_async_on_commit(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        **celery_options: Any,
    ) -> str:
        """As `delay_on_commit`, with Celery's options.

        Args:
            using: the alias of the database whose transaction is waited for; Django's default one without it.
        """
        return str(on_commit(self.signature(args, kwargs, **celery_options), using=using, app=self.app).id)

    def health(self, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S) -> Health:
        """How many jobs and workers the endpoint has. A celery-runpod worker asks RunPod, so no API key is needed here.

        Args:
            timeout: how long to wait for the answer, in seconds or as a `timedelta`.

        Raises:
            ApiError: RunPod refused, or did not answer: EndpointNotFound, Unauthorized, Unavailable, ...
            NoAnswer: no celery-runpod worker answered in time. BrokerUnavailable: nothing was sent.
        """
        return health_from(self._ask(HEALTH, timeout))

    def purge_queue(self, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S) -> int:
        """Remove every job that waits in the endpoint's queue at RunPod, whoever submitted it; returns how many. Calls of
        this project among them end with JobPurged. Running jobs, and jobs that are not submitted yet, are not touched.

        Raises:
            PurgeRefused: jobs are being submitted just now; nothing was purged.
            ApiError, NoAnswer, BrokerUnavailable: as for `health`.
        """
        return int(self._ask(PURGE_QUEUE, timeout))

    def cancel(self, task_id: str | UUID) -> None:
        """Cancel a job of this endpoint, as `JobResult.cancel`.

        Raises:
            InvalidInput: it is a job of another endpoint. BrokerUnavailable: nothing was cancelled.
        """
        if not _stand_ins.active():
            check_reachable(self.app)
            refuse_other_endpoint(self.app, str(task_id), self.name)
        JobResult(task_id, app=self.app).cancel()

    def retry(
        self, task_id: str | UUID, *, force: bool = False, timeout: float | timedelta = DEFAULT_TIMEOUT_S
    ) -> JobResult:
        """Run a failed job of this endpoint again, under a new task id, with its chain and links; it is paid for again.
        Not Celery's `Task.retry`. `force=True` allows it also after `RUNPOD_MOST_RETRIES_BY_HAND` (3) retries by hand.

        Raises:
            RetryRefused: the job has not failed, is kept no longer (`RUNPOD_KEEP_FAILED_S`), is part of a group or
                chord, was run again already, or too often. Nothing was submitted.
            ApiError, NoAnswer, BrokerUnavailable: as for `health`.
        """
        return retry(task_id, endpoint=self.name, force=force, timeout=timeout, app=self.app)

    def pause(self, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S) -> None:
        """Submit no job of this endpoint until `resume`; as `celery_runpod.pause`."""
        pause(self.name, timeout=timeout, app=self.app)

    def resume(self, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S) -> bool:
        """Submit its jobs again; as `celery_runpod.resume`."""
        return resume(self.name, timeout=timeout, app=self.app)

    def _ask(self, task: str, timeout: float | timedelta) -> Any:
        arguments = {"api_key_name": self.options.api_key_name}
        return ask(task, (self.name,), arguments, timeout=timeout, app=self.app, endpoint=self.name)
