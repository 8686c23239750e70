"""What stands in for endpoints in this process while a test runs. In production there is nothing here.

`celery_runpod.testing` puts a stand-in here for each endpoint that it fakes. While a scope is open:

- every Celery app of the process runs in eager mode. A chain may begin with a task of the user's own; Celery would
  publish that task, and its worker the endpoint's call after it;
- `_publish/caller_task.py` hands each call to its endpoint's stand-in instead of publishing it, also one by
  `app.send_task("runpod.run")`;
- every app has `InMemoryResults` as its result backend, and a `JobResult` asks no job store;
- a chain or chord in which a task fails returns a failed result. Celery's own would raise from `delay()`, because in
  eager mode it needs each result at once; with `task_eager_propagates` it still does.

The scope belongs to the process, not to a thread: the view under test may run in the thread of a test server.

Not here: what a stand-in does (``_testing/``).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, Task, current_app, states
from celery._state import _get_active_apps, _set_task_join_will_block, task_join_will_block
from celery.app.task import Context
from celery.backends.base import KeyValueStoreBackend
from celery.canvas import Signature, _chain, _chord, signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import EagerResult, allow_join_result
from celery.signals import task_postrun
from celery.utils.functional import maybe_list
from kombu.exceptions import EncodeError

from celery_runpod._call_rules import takes_celerys_arguments, unfolded
from celery_runpod._protocol import RUN
from celery_runpod._worker_mark import is_worker
from celery_runpod.errors import EagerMode

UNASKABLE = (
    "{what} needs a RunPod worker, and in a test with fake endpoints there is none: nothing was sent. Replace the call, "
    "or test against `celery_runpod.testing.local_worker` (docs/testing.md)"
)

NEVER_COMES = (
    "no call with the task id {task_id} is running at a fake endpoint, so its result never comes. A call by "
    "delay_on_commit is made when the transaction is committed: in Django's TestCase use "
    "captureOnCommitCallbacks(execute=True). A call with ignore_result=True has no result"
)


@dataclass(frozen=True)
class Message:
    """A call as the client task gets it: the message's arguments, and Celery's options."""

    task_id: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Ending:
    """How a call ends for its caller. `state` is Celery's: SUCCESS, FAILURE or REVOKED. `notes` is what the job store
    would hold of an ended job: `job_id`, `delay_s`, `execution_s`."""

    output: Any = None
    error: Exception | None = None
    state: str = states.SUCCESS
    notes: Mapping[str, Any] = field(default_factory=dict)


Show = Callable[[str, Mapping[str, Any]], None]
"""Shows the state of an open job on its result: the state, and fields such as `job_id` and `progress`."""


@dataclass(frozen=True, eq=False)
class StandIn:
    """Takes the calls of one endpoint. `take` runs a call to its end. What it raises goes to the caller as it is; a job's
    error is in the ending."""

    name: str
    take: Callable[[Message, Show], Ending]


class InMemoryResults(KeyValueStoreBackend):
    """Results of faked calls, in Celery's own form: errors pass through JSON, and are rebuilt from it."""

    def __init__(self, app: Celery, kept: dict[Any, Any]) -> None:
        super().__init__(app, serializer="json", accept=["json"])
        self._kept = kept

    def get(self, key: Any) -> Any:
        return self._kept.get(key)

    def mget(self, keys: Any) -> Any:
        return [self._kept.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        self._kept[key] = value

    def delete(self, key: Any) -> None:
        self._kept.pop(key, None)

    def wait_for(self, task_id: str, timeout: float | None = None, **options: Any) -> Any:
        """As Celery's, but it does not wait for ever for what nobody will send."""
        ended = self.get_task_meta(task_id)["status"] in states.READY_STATES
        if timeout is None and not ended and ("running", task_id) not in self._kept:
            raise EagerMode(NEVER_COMES.format(task_id=task_id))
        return super().wait_for(task_id, timeout=timeout, **options)

    def open(self, task_id: str) -> bool:
        """Whether a job shows a state, and has not ended."""
        return self.get_task_meta(task_id)["status"] not in (states.PENDING, *states.READY_STATES)

    def cancel(self, task_id: str) -> None:
        """End an open job as cancelled; no effect on another."""
        if self.open(task_id):
            self.store_result(task_id, TaskRevokedError("revoked"), states.REVOKED)

    def notes(self, task_id: str) -> dict[str, Any]:
        """What the job store would know of a job."""
        return dict(self._kept.get(("notes", task_id)) or {})

    def note(self, task_id: str, notes: Mapping[str, Any]) -> None:
        self._kept["notes", task_id] = dict(notes)

    def chunks(self, task_id: str) -> list[str | None] | None:
        """What the handler of a job has yielded so far, each as JSON, and None where it began again; None for a call that
        does not stream."""
        found = self._kept.get(("chunks", task_id))
        return None if found is None else list(found)

    def add_chunks(self, task_id: str, *texts: str | None) -> None:
        """The handler of a streamed job yields; without texts it is about to begin."""
        self._kept.setdefault(("chunks", task_id), []).extend(texts)

    def _ensure_not_eager(self) -> None:
        """Does not warn: these results are stored in eager mode."""

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        raise TypeError("the result of a fake endpoint stays in its process: keep its id, and make JobResult(id) of it")


_lock = threading.RLock()
_scopes = 0
_stand_ins: list[StandIn] = []
_kept: dict[Any, Any] = {}
_was_eager: dict[Celery, bool] = {}
_could_not_join = False
_failed: dict[int, tuple[Exception, str]] = {}
"""Id of an error that ended a task -> the error, the task's id."""
_endings: dict[str, Ending] = {}


def active() -> bool:
    """Whether a scope is open: nothing of an endpoint may reach a broker."""
    return _scopes > 0


def begin() -> None:
    """Open a scope. Scopes may be nested; the results of one are kept until the next outermost one begins."""
    global _scopes, _kept, _could_not_join
    with _lock:
        if not _scopes:
            _kept = {}
            _could_not_join = task_join_will_block()
            _failed.clear()
            task_postrun.connect(_keep)
            for (kind, name), ours in _OURS.items():
                # Read now: a tool that traces calls may have replaced it since the import.
                _CELERYS[kind, name] = vars(kind)[name]
                setattr(kind, name, ours)
            for app in {current_app._get_current_object(), *_get_active_apps()}:
                make_eager(app)
        _scopes += 1


def end() -> None:
    """Close a scope. With the last one each app gets its own `task_always_eager` back."""
    global _scopes
    with _lock:
        _scopes -= 1
        if not _scopes:
            task_postrun.disconnect(_keep)
            for (kind, name), celerys in _CELERYS.items():
                setattr(kind, name, celerys)
            for app, before in _was_eager.items():
                app.conf.task_always_eager = before
            _was_eager.clear()
            # Celery forbids `result.get()` while an eager task runs. It notes that for the whole process, so two threads
            # with eager tasks can leave it forbidden for ever.
            _set_task_join_will_block(_could_not_join)


def make_eager(app: Celery) -> None:
    """Put an app into eager mode for as long as a scope is open. A RunPod worker's app is left alone."""
    with _lock:
        if app in _was_eager or is_worker(app):
            return
        try:
            before = bool(app.conf.task_always_eager)
        except Exception:
            return  # an app of this process whose settings cannot be read is not the one under test
        _was_eager[app] = before
        app.conf.task_always_eager = True


def add(stand_in: StandIn) -> None:
    """From now on this stand-in takes its endpoint's calls; the last one that was added comes first."""
    with _lock:
        _stand_ins.append(stand_in)


def remove(stand_in: StandIn) -> None:
    """Take it away again; an earlier one of the same endpoint comes back."""
    with _lock:
        _stand_ins.remove(stand_in)


def names() -> list[str]:
    """The endpoints that have a stand-in."""
    with _lock:
        return sorted({one.name for one in _stand_ins})


def take(app: Celery, message: Message) -> Ending | None:
    """Have the endpoint's stand-in run a call, and keep the result; None if the endpoint has no stand-in."""
    name = unfolded(message.kwargs).get("endpoint")
    with _lock:
        found = next((one for one in reversed(_stand_ins) if one.name == name), None)
    if found is None:
        return None
    kept = _kept
    results = InMemoryResults(app, kept)
    keep = not message.options.get("ignore_result")

    def show(state: str, news: Mapping[str, Any]) -> None:
        if keep:
            results.store_result(message.task_id, {"endpoint": name, **news}, state)

    kept["running", message.task_id] = True
    try:
        ending = found.take(message, show)
    finally:
        del kept["running", message.task_id]
    if results.get_task_meta(message.task_id, cache=False)["status"] == states.REVOKED:
        # Another thread has cancelled it meanwhile.
        ending = Ending(error=TaskRevokedError("revoked"), state=states.REVOKED, notes=ending.notes)
    results.note(message.task_id, ending.notes)
    if keep:
        results.store_result(message.task_id, ending.output if ending.error is None else ending.error, ending.state)
    _endings[message.task_id] = ending
    return ending


def _keep(sender: Any, task_id: str, retval: Any, state: str, **_: Any) -> None:
    """Keep the result of a task of the user's own, so that a `JobResult` of any step of a flow shows it."""
    if isinstance(retval, Exception):
        _failed[id(retval)] = (retval, task_id)
    if sender.name == RUN or state not in states.READY_STATES or sender.request.ignore_result or sender.ignore_result:
        return
    try:
        results_of(sender.app).store_result(task_id, retval, state)
    except (EncodeError, TypeError, ValueError):
        pass  # not JSON, so a result backend could not have kept it either


def sort_errbacks(app: Celery, given: Any) -> tuple[list[Signature], list[Signature]]:
    """Errbacks that take the task id, as a RunPod worker calls them, and those that Celery calls in the caller's process
    with the request, the error and the traceback."""
    by_id: list[Signature] = []
    by_celery: list[Signature] = []
    for one in maybe_list(given) or ():
        errback = signature(one, app=app)
        (by_celery if takes_celerys_arguments(app, errback) else by_id).append(errback)
    return by_id, by_celery


def _apply_chain(self: Any, *args: Any, **options: Any) -> Any:
    """A chain's `apply_async` while a scope is open."""
    # A chain's id is its last task's. In eager mode Celery gives it to each task, in place of the task's own.
    task_id = options.pop("task_id", None) or self.options.get("task_id")
    self = self.clone()
    self.options.pop("task_id", None)
    if task_id:
        self.tasks[-1].set(task_id=task_id)
    try:
        return _CELERYS[_chain, "apply_async"](self, *args, **options)
    except Exception as error:
        if (failed_id := _ended_by(error, self.app)) is None:
            raise
        # A worker gives all later steps the error of the one that failed.
        return _failed_result(self.app, self.tasks[-1], error, EagerResult(failed_id, error, states.FAILURE))


def _apply_chord(self: Any, *args: Any, **options: Any) -> Any:
    """A chord's `apply_async` while a scope is open."""
    if task_id := options.get("task_id"):
        self.body.set(task_id=task_id)
    try:
        return _CELERYS[_chord, "apply_async"](self, *args, **options)
    except Exception as error:
        if (failed_id := _ended_by(error, self.app)) is None:
            raise
        chord_error = ChordError(f"Dependency {failed_id} raised {error!r}")  # Celery's own words
        result = _failed_result(self.app, self.body, chord_error, None)
        by_id, by_celery = sort_errbacks(self.app, self.body.options.get("link_error"))
        for errback in by_id:
            errback.apply_async((result.id,))
        for errback in by_celery:
            errback(Context(id=result.id, task=self.body.task), chord_error, None)
        return result


def _send_task(self: Celery, name: str, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
    """An app's `send_task` while a scope is open. Celery's publishes in eager mode too."""
    if name == RUN:
        return self.tasks[RUN].apply_async(args, kwargs, **options)
    return _CELERYS[Celery, "send_task"](self, name, args, kwargs, *more, **options)


def _on_replace(self: Task, sig: Any) -> Any:
    """A task's `on_replace` while a scope is open. Celery's gets a result there, and forbids that in eager mode."""
    with allow_join_result():
        return _CELERYS[Task, "on_replace"](self, sig)


def _ended_by(error: Exception, app: Celery) -> str | None:
    """The id of the task that ended with this error; None for an error that the caller is to see at once."""
    if app.conf.task_eager_propagates or isinstance(error, EagerMode | AssertionError):
        return None  # the last two are mistakes of the test
    return _failed.get(id(error), (error, None))[1]


def _failed_result(app: Celery, last: Any, error: Exception, parent: EagerResult | None) -> EagerResult:
    result = EagerResult(last.options.get("task_id") or str(uuid.uuid4()), error, states.FAILURE)
    result.parent = parent
    results_of(app).store_result(result.id, error, states.FAILURE)
    return result


def ending_of(task_id: str | None) -> Ending | None:
    """The ending of a call that is being delivered; each is given out once."""
    return _endings.pop(task_id, None) if task_id else None


def results_of(app: Celery) -> InMemoryResults:
    """The results of the scope, as a backend of an app."""
    return InMemoryResults(app, _kept)


def refuse(what: str) -> None:
    """Raises EagerMode while a scope is open: there is no worker to ask."""
    if active():
        raise EagerMode(UNASKABLE.format(what=what))


_OURS: dict[tuple[type, str], Any] = {
    (Celery, "backend"): property(results_of),
    (Celery, "send_task"): _send_task,
    (Task, "on_replace"): _on_replace,
    (_chain, "apply_async"): _apply_chain,
    (_chord, "apply_async"): _apply_chord,
}
"""What of Celery is replaced while a scope is open."""
_CELERYS: dict[tuple[type, str], Any] = {}
"""What stood there before."""
