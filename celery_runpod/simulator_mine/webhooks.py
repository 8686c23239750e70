"""Sending webhooks: a POST at each end, up to 2 more tries, 10 s apart (docs.runpod.io, send-requests: webhooks).

RunPod does not sign them. Faults: `duplicate`, `late`, `early` (a body that says IN_PROGRESS comes before the end),
`reorder` (held back until the next one has gone).

Next: ``control.py``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp

from celery_runpod.simulator_mine.faults import WEBHOOK_KINDS, Faults
from celery_runpod.simulator_mine.jobs import Job

log = logging.getLogger(__name__)

MORE_TRIES = 2
ANSWER_S = 5.0


class Webhooks:
    """Sends in the background; `close` gives up what is under way."""

    def __init__(self, faults: Faults, retry_delay_s: float = 10.0) -> None:
        self._faults = faults
        self._retry_delay_s = retry_delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._session: aiohttp.ClientSession | None = None

    def started(self, job: Job) -> None:
        if job.webhook and any(
            f.kind == "early" for f in self._faults.striking(job.endpoint, "webhook", frozenset({"early"}))
        ):
            self._send_soon(job.webhook, self._body(job))

    def ended(self, job: Job) -> None:
        if not job.webhook:
            return
        body = self._body(job)
        kinds = WEBHOOK_KINDS - {"early"}
        faults = {fault.kind: fault for fault in self._faults.striking(job.endpoint, "webhook", kinds)}
        if "reorder" in faults:
            self._held.append((job.webhook, body))
            return
        late_s = faults["late"].seconds if "late" in faults else 0.0
        for _ in range(2 if "duplicate" in faults else 1):
            self._send_soon(job.webhook, body, late_s)
        held, self._held = self._held, []
        for url, older in held:
            self._send_soon(url, older, 0.2)

    def _body(self, job: Job) -> dict[str, Any]:
        return {**job.answer(), "input": job.input, "webhook": job.webhook}

    def _send_soon(self, url: str, body: dict[str, Any], after_s: float = 0.0) -> None:
        task = asyncio.get_running_loop().create_task(self._send(url, body, after_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, url: str, body: dict[str, Any], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for attempt in range(1 + MORE_TRIES):
            if attempt:
                await asyncio.sleep(self._retry_delay_s)
            if await self._post(url, body):
                return
        log.warning("webhook given up after %d tries", 1 + MORE_TRIES)

    async def _post(self, url: str, body: dict[str, Any]) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.info("webhook failed: %s", type(error).__name__)
            return False

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
