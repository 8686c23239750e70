"""Nothing but a typed verdict may end the caller's task.

`run` and `finish` work under the caller's task id: an exception of another kind (the store away, the backend away)
would write FAILURE, fail the chord and call the errbacks while the GPU job runs on. So it goes back to its queue.

Next: ``services.py``.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Reject

from celery_runpod.errors import RunPodError

log = logging.getLogger(__name__)

REQUEUE_PAUSE_S = 1.0
"""A message that goes back comes again at once; without a pause a store that is away would be hammered."""


def nothing_but_verdicts(body: Callable[..., Any], pause: Callable[[float], None] = time.sleep) -> Callable[..., Any]:
    """Let a `RunPodError`, `Ignore` and `Reject` through; put the message of anything else back into its queue."""

    @functools.wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except (RunPodError, Ignore, Reject):
            raise
        except Exception as error:
            log.exception("task.requeued")
            reason = f"{type(error).__name__}: {error}"
        pause(REQUEUE_PAUSE_S)
        raise Reject(reason, requeue=True)

    return guarded
