"""Celery's result backend on Redis, changed so that a chord does not fail while Redis or the broker is away.

The worker of a chord's last member joins the results and publishes the body. If Redis or the broker goes away in between,
Celery ends the body with a ChordError, though every job succeeded, and deletes the chord. Here the error is raised and
the chord is kept, so that `finish` goes back to its queue and joins the chord again (`tasks/put_back.py`,
`tasks/delivery.py`). If the last member is a task of the user, it joins in the user's own worker, with Celery's backend.

A member may be the last step of a chain that fails before it. Celery stores that failure first and adds it to the chord
then. At a repeat it takes a step whose failure is stored for one that was added, so a delivery that dies between the two
leaves a chord that waits for ever. Here it is added again: a chord counts each member once.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.canvas import group

from tasks.services import AWAY


class ThisThread(threading.local):
    """What holds in a thread while it is in a call of the backend."""

    keeps = False
    """A chord that is joined again later is not deleted."""
    adds_again = False
    """A failure that is stored already is added to its chord."""


class ChordKeepingBackend(RedisBackend):
    """Celery's backend; an error of a server that is away does not end a chord."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._this_thread = ThisThread()

    def on_chord_part_return(self, *args: Any, **kwargs: Any) -> Any:
        self._this_thread.keeps = False
        try:
            return super().on_chord_part_return(*args, **kwargs)
        finally:
            self._this_thread.keeps = False

    def _fail_chain(self, *args: Any, **kwargs: Any) -> Any:
        before = self._this_thread.adds_again
        self._this_thread.adds_again = True
        try:
            return super()._fail_chain(*args, **kwargs)
        finally:
            self._this_thread.adds_again = before

    def get_state(self, task_id: str) -> str:
        """`_fail_chain` asks it whether a failure was added to its chord."""
        return states.PENDING if self._this_thread.adds_again else str(super().get_state(task_id))

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        """Called by Celery while it handles the error that ends the chord.

        Raises:
            OSError, or one of `AWAY`: that error, if a server is away.
        """
        cause = sys.exc_info()[1]
        if isinstance(cause, (OSError, *AWAY)):
            self._this_thread.keeps = True
            raise cause
        error = cause if exc is None else exc
        if error is not None and callback.id and not isinstance(callback, group):
            # Celery publishes the errbacks first, and an errback that gets the task id alone reads the error there.
            text = traceback.format_exception(type(error), error, None if cause is None else cause.__traceback__)
            self.mark_as_failure(callback.id, error, "".join(text))
        return super().chord_error_from_stack(callback, exc)

    def _create_client(self, **params: Any) -> Any:
        """A client whose `delete` keeps a chord that is joined again later."""
        client = super()._create_client(**params)
        delete = client.delete
        client.delete = lambda *names: 0 if self._this_thread.keeps else delete(*names)
        return client

    @property
    def _chord_cleanup_script(self) -> Any:
        return (lambda **_: 1) if self._this_thread.keeps else super()._chord_cleanup_script


class ChordKeepingSentinelBackend(ChordKeepingBackend, SentinelBackend):
    """The same behind Sentinel."""
