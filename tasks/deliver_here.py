"""A check delivers what it has ended in its own process: no message is published, fetched and acknowledged for it.

The threads of a check record outcomes; the thread that began them runs `finish` for each meanwhile, one after the other,
as a process of the pool runs tasks. `runpod.submit_sync` does so for its job. Nothing is delivered while a thread of the
check submits a job: a delivery that ends the process would leave the POST without its answer. Other outcomes are
published as messages: those recorded elsewhere (a call that is refused, a small cancel), those that may take long or
would wait for others, the first that could not be delivered, and all after it. If the process dies, the store has the
outcome, and a later check delivers it (``outstanding.py``).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from celery import Celery
from celery.app.trace import trace_task
from celery.exceptions import Reject
from kombu.utils.functional import maybe_list
from kombu.utils.json import loads

from celery_runpod._protocol import FINISH
from celery_runpod._store.record import JobRecord
from tasks.delivery import publish
from tasks.parking import no_parent_of_its_own
from tasks.services import Services

log = logging.getLogger(__name__)

ALIVE_EVERY_S = 2.0
MOST_WAIT_S = 1.0
"""What would wait here for longer is published, because other processes may be free: of 200 jobs that end together the
last would wait for 4 s where Redis is 4 ms away."""
MOST_CONTINUATION = 16_384
"""Characters. What follows is published in the thread of the check, which meanwhile plans no other looks."""
MOST_JOINED = 100
"""Members of a chord: the last one reads the results of all."""


class Outcomes:
    """What the threads of one check have recorded, or its own thread. `alive` is called every `ALIVE_EVERY_S` while it is
    delivered."""

    def __init__(self, services: Services, alive: Callable[[], None] = lambda: None) -> None:
        self._services, self._alive = services, alive
        self._taken: deque[tuple[JobRecord, Any]] = deque()
        self._news: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
        """A thread that is done, or None: something was taken."""
        self._delivers, self._took_s = True, 0.0
        self._turn = threading.Condition()
        """Whoever has it may deliver an outcome, or begin a submit."""
        self._submits, self._patience_s = 0, MOST_WAIT_S

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is delivered here meanwhile: for a thread that submits a job."""
        with self._turn:
            self._submits += 1
        try:
            yield
        finally:
            with self._turn:
                self._submits -= 1
                self._turn.notify()

    def take(self, job: JobRecord) -> bool:
        """Whether this outcome will be delivered here; if not, the thread that recorded it must publish it."""
        if not self._delivers or job.shares or len(job.continuation) > MOST_CONTINUATION:
            return False
        try:
            signature = loads(job.continuation)
            # Raises, if this is no signature.
            signature["options"].get("chord")
        except Exception:
            # `publish` ends the task of a continuation that cannot be read.
            return False
        self._taken.append((job, signature))
        self._news.put(None)
        return True

    def deliver_until_done(self, begun: Sequence[Future[Any]] = ()) -> None:
        """Deliver what was taken, until all threads are done that have begun."""
        for each in begun:
            each.add_done_callback(self._news.put)
        services, left = self._services, len(begun)
        alive_at = services.clock() + ALIVE_EVERY_S
        while left or not self._news.empty():
            with contextlib.suppress(queue.Empty):
                if self._news.get(timeout=max(0.0, alive_at - services.clock())) is not None:
                    left -= 1
                elif not self._deliver(*(taken := self._taken.popleft())):
                    services.pool.submit(publish, services, taken[0]).add_done_callback(self._news.put)
                    left += 1
            if services.clock() >= alive_at:
                self._alive()
                alive_at = services.clock() + ALIVE_EVERY_S

    def _deliver(self, job: JobRecord, signature: Any) -> bool:
        """Deliver one outcome; False: it must be published."""
        wait_s = self._took_s * len(self._taken)
        try:
            if not self._delivers or wait_s > MOST_WAIT_S or self._joins_many(signature["options"]):
                return False
            with self._turn:
                if not self._turn.wait_for(lambda: not self._submits, self._patience_s):
                    # Those behind it must not wait as long again.
                    self._patience_s = 0.0
                    return False
                self._patience_s, began = MOST_WAIT_S, self._services.clock()
                self._delivers = resume(self._services.app, signature, job.endpoint, job.task_id, job.attempt)
                self._took_s = self._services.clock() - began
        except Exception:
            log.exception("finish.not_delivered", extra={"task_id": job.task_id})
            self._delivers = False
        return self._delivers

    def _joins_many(self, options: Any) -> bool:
        """Whether this is a member of a chord of many. The size is not in the message (Celery 5.7)."""
        backend, group = self._services.app.backend, options.get("group_id")
        if not options.get("chord") or not group:
            return False
        return int(backend.get(backend.get_key_for_group(group, ".s")) or 0) > MOST_JOINED


def resume(app: Celery, continuation: Any, endpoint: str, task_id: str, attempt: int) -> bool:
    """Run `finish` in this thread, as a worker does that gets the message of `parking.unpark`. `continuation`: the
    signature itself, not its text. Returns False if it was put back: it must be published."""
    finish, options = app.tasks[FINISH], dict(continuation["options"])
    given = options.pop("headers", None) or {}
    links = {"callbacks": options.pop("link", None), "errbacks": options.pop("link_error", None)}
    message = app.amqp.as_task_v2(
        name=FINISH,
        args=(endpoint, task_id, attempt),
        **{name: maybe_list(value) for name, value in links.items()},
        **{"ignore_result": finish.ignore_result, **options},
    )
    no_parent_of_its_own(message.headers)
    args, kwargs, follows = message.body
    worker = app.current_worker_task
    about = {
        # By it Flower knows the worker that sends an event.
        "hostname": worker.request.hostname if worker else None,
        "delivery_info": {"priority": options.get("priority")},
    }
    try:
        traced = trace_task(
            finish,
            task_id,
            args,
            kwargs,
            {**message.headers, **given, **message.properties, **follows, **about},
            app=app,
        )
    except Reject:
        return False
    return traced.info is None or not isinstance(traced.info.retval, Reject)
