"""The caller's side of the task `runpod.run`: it checks every call of this process before it is published.

Importing `celery_runpod` registers it in each Celery app of the process, except the RunPod worker's, which has the task
itself (`tasks/run.py`). A chain, a group, a chord, a link and a single call all publish through `Task.apply_async`, so
the checks are there. They cannot be in a signal of Celery's, which ignores the errors of its receivers.

Not here: checks of the input (``endpoint.py``); what is written into the message (``routes.py``). A bare
`app.send_task("runpod.run")` does not use this task and is not checked.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from celery import Celery, Task, states
from celery.app import amqp
from celery.exceptions import TaskRevokedError
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._call_rules import task_id_from, unfolded
from celery_runpod._connect import broker_of, check_reachable, client_settings, mask_url
from celery_runpod._plain_json import plain_json
from celery_runpod._protocol import HIDDEN, RUN, Queues
from celery_runpod._publish.agreement import refuse_mismatch, refuse_other_priorities
from celery_runpod._publish.client_tasks import ClientSideTask, in_every_app
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._publish.job_ends import End, tell_here
from celery_runpod._publish.open_job_bounds import refuse_over_bounds
from celery_runpod._publish.outbox_copies import forget
from celery_runpod._publish.routes import signatures_after
from celery_runpod._store.store import store_of
from celery_runpod._worker_mark import is_worker
from celery_runpod.errors import (
    BrokerUnavailable,
    ConfigurationError,
    EagerMode,
    InvalidOption,
    JobCancelled,
    RunPodError,
)
from celery_runpod.options import Options

_FOLLOWING: ContextVar[bool] = getattr(amqp, "_callback_publish_retry", ContextVar("never", default=False))
"""True while a Celery worker publishes what follows a task (Celery 5.7.0)."""

EAGER = (
    "{what}, and an endpoint's job runs on RunPod, where it is paid for: nothing was published. In a test put a fake in "
    "the endpoint's place: `with celery_runpod.testing.fake_endpoint({endpoint!r}, output=...)` (docs/testing.md)"
)


def refuse(app: Celery, args: Any, kwargs: Any, options: Mapping[str, Any]) -> None:
    """All checks of a call before it is published, the cheapest first. Not used for a later step of a chain, which a
    worker publishes.

    Raises:
        TypeError: `args` is not a list or tuple, or `kwargs` not a mapping; the text is Celery's.
        InvalidOption: a link is not a signature; or an option belongs into `Endpoint.using`.
        EagerMode: the app runs tasks in the caller's process.
        BrokerUnavailable: broker or result backend does not answer.
        ConfigurationMismatch: the app and the RunPod workers do not share what they must.
        TooManyOpenJobs: the namespace holds as much as the workers allow.
    """
    check_arguments(args, kwargs)
    refuse_wrong_options(options)
    refuse_eager(app, unfolded(kwargs).get("endpoint"))
    check_reachable(app)
    if not is_worker(app):
        signature = {"task": RUN, "options": dict(options)}
        refuse_other_priorities(app, itertools.chain((signature,), signatures_after(signature)))
        refuse_mismatch(app, ignore_result=bool(options.get("ignore_result")))
        refuse_over_bounds(app)


def refuse_eager(app: Celery, endpoint: Any) -> None:
    """Refuse what would run in the caller's process, unless a fake stands in for the endpoint.

    Raises:
        EagerMode: the app has `task_always_eager` on, or the test has fakes, but none of this endpoint.
    """
    if _stand_ins.active():
        if endpoint not in (faked := _stand_ins.names()):
            what = f"the test has {'fakes of ' + ', '.join(faked) if faked else 'no fakes'}, and none of {endpoint!r}"
            raise EagerMode(EAGER.format(what=what, endpoint=endpoint))
    elif app.conf.task_always_eager:
        raise EagerMode(EAGER.format(what="the Celery app has task_always_eager on", endpoint=endpoint))


def check_arguments(args: Any, kwargs: Any) -> None:
    """Raises TypeError as Celery does, but before a dict or a text in `args` is read as a list."""
    if not isinstance(args, list | tuple):
        raise TypeError("task args must be a list or tuple")
    if not isinstance(kwargs, Mapping):
        raise TypeError("task keyword arguments must be a mapping")


def refuse_wrong_options(options: Mapping[str, Any], task: str = RUN) -> None:
    """Refuse a link that is not a signature, at which Celery would raise after the job has ended and is paid for; and an
    option of `Endpoint.using`, or a wrong task id, among those of a call. What follows the signature is checked too.

    Raises:
        InvalidOption: names the option, and what was given.
    """
    signature = {"task": task, "options": dict(options)}
    for one in (signature, *signatures_after(signature)):
        given = one.get("options") or {}
        if one["task"] == RUN:
            Options.refuse_among_celerys(given)
            task_id_from(given.get("task_id"), in_canvas=one is not signature)
        for name in ("link", "link_error"):
            for link in _listed(given.get(name)):
                if not isinstance(link, Mapping) or not isinstance(link.get("task"), str):
                    allowed = "a signature (`task.s(...)`), or a list of signatures"
                    raise InvalidOption(name, f"a value of type {type(link).__name__}", allowed)


def options_of_a_call(endpoint: Any) -> dict[str, Any]:
    """The Celery options of a call that the caller has not set."""
    own = {
        "queue": Queues.of(client_settings().namespace).run,
        # JSON, whatever the app's own serializer is. The input is hidden from logs, events and Flower.
        "serializer": "json",
        "argsrepr": HIDDEN,
        "kwargsrepr": HIDDEN,
    }
    return {**own, "shadow": f"{RUN}[{endpoint}]"} if isinstance(endpoint, str) else own


def _listed(value: Any) -> Iterator[Any]:
    if value is not None:
        yield from value if isinstance(value, list | tuple) else (value,)


class ClientTask(ClientSideTask):
    """`runpod.run` in an app that calls it."""

    abstract = True
    throws = (RunPodError, TaskRevokedError)
    """A job's error, which a fake raises here, is no fault of the task: Celery logs it as such."""

    def _get_exec_options(self) -> dict[str, Any]:
        """None: the options of a call come from its signature alone."""
        return {}

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Publish a call.

        Raises:
            as `refuse` and `task_id_from`; and BrokerUnavailable: the message was not published or, if `unconfirmed`,
                may have been.
        """
        app: Celery = self.app
        args, kwargs = () if args is None else args, {} if kwargs is None else kwargs
        # When a worker publishes what follows its task, Celery retries by the error's class: raise it as it is.
        follows = _FOLLOWING.get()
        in_canvas = not follows and any(options.get(name) for name in ("chain", "chord", "group_id"))
        task_id = options["task_id"] = task_id_from(options.get("task_id"), in_canvas=in_canvas)
        if _stand_ins.active():
            check_arguments(args, kwargs)
            refuse_wrong_options(options)
            _stand_ins.make_eager(app)
            # Not by Celery's `apply_async`: in eager mode it forbids `result.get()` to all threads meanwhile.
            return self.apply(args, kwargs, **options)
        # A call by name, as of beat, has none of them.
        given = {name: value for name, value in options.items() if value is not None}
        options = {**options_of_a_call(unfolded(kwargs).get("endpoint")), **given}
        if not follows:
            refuse(app, args, kwargs, options)
        try:
            # A partial's arguments, and a previous result, were in no signature of `Endpoint`.
            return app.send_task(RUN, plain_json(args), plain_json(kwargs), **options)
        except (*NOT_PUBLISHED, RedisError, RuntimeError) as error:
            if follows:
                raise
            raise _unavailable(app, task_id, options, error, begun=forget(task_id)) from error
        finally:
            forget(task_id)

    def apply(self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any) -> Any:
        """Run a call by its endpoint's fake, in this process, as Celery's `apply` runs a task. Under eager mode every
        canvas comes here.

        Raises:
            EagerMode: nothing stands in for the endpoint.
        """
        app: Celery = self.app
        args, kwargs = tuple(plain_json(list(args or ()))), plain_json(dict(kwargs or {}))
        refuse_eager(app, endpoint := unfolded(kwargs).get("endpoint"))
        task_id = task_id or str(uuid.uuid4())
        ending = _stand_ins.take(app, _stand_ins.Message(task_id, args, kwargs, options))
        if ending is None:
            raise EagerMode(EAGER.format(what="apply() runs a task in this process", endpoint=endpoint))
        by_id, by_celery = _stand_ins.sort_errbacks(app, options.pop("link_error", None))
        try:
            result = super().apply(args, kwargs, task_id=task_id, link_error=by_celery, **options)
        finally:
            _stand_ins.ending_of(task_id)
        if ending.error is not None:
            for errback in by_id:
                errback.apply_async((task_id,))
        if ending.state == states.REVOKED:
            result.revoke()
        tell_here(task_id, endpoint, _end_of(ending, task_id))
        return result


def _unavailable(
    app: Celery, task_id: str, options: Mapping[str, Any], error: Exception, *, begun: bool
) -> BrokerUnavailable:
    """The error of a failed publish. Once it had `begun`, the message may have arrived."""
    # Celery's Redis backend raises RuntimeError before the publish begins.
    if isinstance(error, RuntimeError) and not begun:
        role, url = "result backend", str(app.conf.result_backend)
    else:
        role, url = "broker", broker_of(app)
    reason = f"task {task_id}: {str(error) or type(error).__name__}"
    member, group_id = options.get("group_index"), options.get("group_id")
    return BrokerUnavailable(role, mask_url(url), reason, begun, task_id, group_id, member if group_id else None)


def _end_of(ending: _stand_ins.Ending, task_id: str) -> End:
    """How a fake has ended a call, as a RunPod worker would publish it."""
    error = ending.error
    if error is not None and not isinstance(error, RunPodError):
        error = JobCancelled(str(error), task_id=task_id)
    return End(ending.state, ending.output if error is None else None, error)


def _run_here(self: Any, *args: Any, **kwargs: Any) -> Any:
    """The body of the task: delivers how a fake ended the call. Without one it runs only if a worker of the caller's own
    app consumes the queue of the RunPod workers."""
    if ending := _stand_ins.ending_of(self.request.id):
        if ending.error is not None:
            raise ending.error
        return ending.output
    if not self.request.id:
        raise TypeError("a call of an endpoint cannot be run here: the job runs on RunPod; use .delay(...)")
    # Drop the copy, or the RunPod workers would publish and run a call that has ended with this error.
    store_of(self.app).outbox.drop_message(self.request.id)
    raise ConfigurationError(
        f"{RUN} must be run by a RunPod worker (`celery-runpod worker`), but a worker took it of the Celery app "
        f"{self.app.main or 'without a name'!r}: send it to the queue of the RunPod workers (RUNPOD_NAMESPACE, by "
        "default `runpod`), and keep that queue out of the -Q of this worker. Nothing was sent to RunPod"
    )


@in_every_app
def register(app: Celery) -> None:
    """Register the client task in an app."""
    if isinstance(app._tasks.get(RUN), ClientTask):
        return
    # If this process has also imported the worker's tasks, Celery may have registered `tasks.run` in the app.
    app._tasks.pop(RUN, None)
    app.task(name=RUN, base=ClientTask, bind=True, shared=False, lazy=False)(_run_here)
    if _stand_ins.active():
        _stand_ins.make_eager(app)


def client_task(app: Celery) -> Task:
    """The client task of an app. For the RunPod worker's app, whose tasks of RUNPOD_IMPORTS may call endpoints, one that
    is not registered."""
    task = app.tasks.get(RUN)
    if isinstance(task, ClientTask):
        return task
    made: Task = type("ClientTask", (ClientTask,), {"name": RUN, "app": app, "__module__": __name__})()
    return made
