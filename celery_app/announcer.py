"""Shows the state of an open job on its AsyncResult and in Flower.

A script writes the result, unless it is SUCCESS, FAILURE or REVOKED; Celery's own check has a race, and does not protect
a FAILURE. The event types `task-in_queue` and `task-in_progress` are custom; Flower shows them in upper case. Celery
ranks custom states above REVOKED, so a job that ends as REVOKED is also sent as `task-cancelled` (`tasks/job_events.py`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._protocol import RUN
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.keys import Keys
from celery_runpod._store.record import JobRecord
from celery_runpod._store.scripts import Scripts
from tasks.job_events import open_fields

log = logging.getLogger(__name__)


class Announcer:
    """Writes states. If one cannot be shown, that is logged, and the job is not affected."""

    def __init__(self, app: Celery, hostname: str | None) -> None:
        self._app = app
        # The worker's name: by default Celery would show each process of the pool as one more worker.
        self._hostname = hostname
        self._scripts: Scripts | None = None

    def announce(self, job: JobRecord, state: str, news: Mapping[str, Any]) -> None:
        """Show the state of an open job. `news` are fields such as progress, reason, delay_s."""
        shown = {"job_id": job.job_id, "endpoint": job.name, "attempt": job.attempt, **news}
        small = {name: value for name, value in shown.items() if name != "progress"}
        # A job that works may show progress at each look: that is no line of the log.
        log.log(
            logging.DEBUG if "progress" in news else logging.INFO,
            "job.%s",
            state.lower(),
            extra={"task_id": job.task_id, **small},
        )
        try:
            if not job.ignore_result:
                self._write(job, state, shown)
            with self._app.events.default_dispatcher(self._hostname) as dispatcher:
                small |= open_fields(job, news)
                # The name, because Flower may have been started after the task was received.
                name = f"{RUN}[{job.name}]"
                dispatcher.send(f"task-{state.lower()}", uuid=job.task_id, name=name, retry=False, **small)
        except (RedisError, *NOT_PUBLISHED) as error:
            log.warning("state.not_shown", extra={"task_id": job.task_id, "state": state, "error": str(error)})

    def _write(self, job: JobRecord, state: str, shown: Mapping[str, Any]) -> None:
        backend = self._app.backend
        meta = backend._get_result_meta(dict(shown), state, None, None)
        meta["task_id"] = job.task_id
        if self._scripts is None:
            self._scripts = Scripts(backend.client, Keys(""))
        # A state is written only when it changes, so it must last as long as the job.
        expires = int(backend.expires or 86_400) + math.ceil(job.end_by - job.accepted_at)
        self._scripts.run(
            "show_state",
            result_key=backend.get_key_for_task(job.task_id),
            meta=backend.encode(meta),
            expires=expires,
        )
