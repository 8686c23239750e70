"""Counts what the namespace holds, some endpoints at a time: callers are refused by the sum
(`celery_runpod/_publish/open_job_bounds.py`).

Each pass counts one page of the index, so that it costs the same with 50 endpoints and with 5,000. An endpoint that is
idle in two counts leaves the index. Records that were put aside are tried again here.

Not here: what is overdue (``overdue_checks.py``).
"""

from __future__ import annotations

from celery_runpod._store.open_jobs import Count
from tasks.services import Services


class EndpointCounts:
    """One for each worker's watchdog: the latest count of each endpoint, while this worker leads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.forget()

    def forget(self) -> None:
        """Another worker counts from now on."""
        self._cursor = 0
        self._latest: dict[str, Count] = {}
        self._round: set[str] = set()
        self._whole = False

    def count_some(self) -> None:
        """Count the next page. Once every endpoint was counted, write the sum down after each page."""
        store, settings = self._services.store, self._services.settings
        self._cursor, endpoints = store.endpoints.page(self._cursor)
        now = self._services.clock()
        for endpoint, count in store.open_jobs.count(endpoints).items():
            if count.aside:
                # After a rolling upgrade this version may read what another one wrote.
                store.aside.take_back_readable(endpoint, now)
            before = self._latest.get(endpoint)
            if count.idle and before is not None and before.idle:
                store.open_jobs.forget(endpoint, now)
            self._latest[endpoint] = count
            self._round.add(endpoint)
        if not self._cursor:
            self._latest = {endpoint: self._latest[endpoint] for endpoint in self._round}
            self._round, self._whole = set(), True
        if self._whole:
            store.open_jobs.note_totals(
                sum(one.jobs for one in self._latest.values()),
                sum(one.input_bytes for one in self._latest.values()),
                settings.most_open_jobs,
                settings.most_input_bytes,
            )
