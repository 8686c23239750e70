"""Celery's result backend on Redis, which fails no chord because Redis or the broker is away.

The worker of a chord's last member joins the results and publishes the body. Where Redis or the broker goes away in
between, Celery's own ends the body with a ChordError, though every job succeeded, and forgets the chord. Here the error
is raised and the chord left as it was, so that `finish` goes back to its queue and joins the chord again
(`tasks/put_back.py`, `tasks/delivery.py`). A member that is the user's own task joins in the user's own worker.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from celery.backends.redis import RedisBackend

from tasks.services import AWAY


class ChordKeepingBackend(RedisBackend):
    """Celery's backend, but an error that passes does not end a chord."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._this_thread = threading.local()

    def on_chord_part_return(self, *args: Any, **kwargs: Any) -> Any:
        self._this_thread.keeps = False
        try:
            return super().on_chord_part_return(*args, **kwargs)
        finally:
            self._this_thread.keeps = False

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        """Called while the error that Celery takes for the chord's is handled.

        Raises:
            OSError, or one of `AWAY`: that error, because it passes.
        """
        cause = sys.exc_info()[1]
        if isinstance(cause, (OSError, *AWAY)):
            self._this_thread.keeps = True
            raise cause
        return super().chord_error_from_stack(callback, exc)

    @property
    def _keeps(self) -> bool:
        return bool(getattr(self._this_thread, "keeps", False))

    def _create_client(self, **params: Any) -> Any:
        """The group, whose `delete` keeps a chord that is joined again later. Celery's own deletes it."""
        client = super()._create_client(**params)
        delete = client.delete
        client.delete = lambda *names: 0 if self._keeps else delete(*names)
        return client

    @property
    def _chord_cleanup_script(self) -> Any:
        return (lambda **_: 1) if self._keeps else super()._chord_cleanup_script
