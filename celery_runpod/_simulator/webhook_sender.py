"""Sends webhooks: POSTs the outcome of a job to the URL that its submit named, with RunPod's retries.

One POST for each end (FAILED, CANCELLED and TIMED_OUT too). Any answer but 200, or none in time, is a failure, which up
to two more tries follow. Not signed, as at RunPod. Not here: when a job ends (``simulated_endpoint.py``).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp

from celery_runpod._simulator.faults import ANSWERS, AT_SEND, Fault, Faults
from celery_runpod._simulator.simulated_jobs import Job

TRIES = 3

log = logging.getLogger(__name__)


class WebhookSender:
    """The deliveries under way. Each is a task of its own, so that a slow receiver delays no other one."""

    def __init__(self, faults: Faults, retry_delay_s: float = 10.0, timeout_s: float = 10.0) -> None:
        self.faults = faults
        self.retry_delay_s = retry_delay_s
        self.timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[str, asyncio.Event] = {}
        """Endpoint -> the event that lets the delivery go that is held back."""
        self._session: aiohttp.ClientSession | None = None

    def early(self, job: Job) -> float | None:
        """How many seconds this job's webhook is sent before the job ends; None: it is sent afterwards."""
        found = self.faults.at(job.endpoint, "webhook", {"early"}) if job.webhook else {}
        return found["early"].seconds_s if found else None

    def send(self, job: Job) -> None:
        """Start to deliver the outcome that the job has now."""
        if not job.webhook:
            return
        faults = self.faults.at(job.endpoint, "webhook", AT_SEND)
        body = json.dumps(job.webhook_body())
        for _ in range(2 if "duplicate" in faults else 1):
            task = asyncio.get_running_loop().create_task(self._deliver(job.endpoint, job.webhook, body, faults))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def reset(self) -> None:
        """Forget what is under way."""
        for task in self._tasks:
            task.cancel()
        self._held.clear()

    async def close(self) -> None:
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, endpoint: str, url: str, body: str, faults: Mapping[str, Fault]) -> None:
        if "late" in faults:
            await asyncio.sleep(faults["late"].seconds_s)
        overtaken = self._held.get(endpoint)
        if "reorder" in faults and overtaken is None:
            await self._hold(endpoint, faults["reorder"].seconds_s)
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self.retry_delay_s)
            if await self._try(endpoint, url, body):
                break
        else:
            log.warning("webhook of endpoint %s not delivered in %d tries", endpoint, TRIES)
        if overtaken is not None:
            self._release(endpoint, overtaken)

    async def _hold(self, endpoint: str, seconds: float) -> None:
        event = self._held[endpoint] = asyncio.Event()
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            self._release(endpoint, event)

    def _release(self, endpoint: str, event: asyncio.Event) -> None:
        event.set()
        if self._held.get(endpoint) is event:
            del self._held[endpoint]

    async def _try(self, endpoint: str, url: str, body: str) -> bool:
        faults = self.faults.at(endpoint, "webhook", ANSWERS)
        if "delay" in faults:
            await asyncio.sleep(faults["delay"].seconds_s)
        if "drop_before" in faults:
            return False
        if "body" in faults:
            body = faults["body"].body or ""
        if "truncate" in faults:
            body = body[: len(body) // 2]
        status = await self._post(url, body)
        if "status" in faults:
            status = faults["status"].status
        return status == 200 and "drop_after" not in faults

    async def _post(self, url: str, body: str) -> int:
        """The receiver's status; 0 without an answer."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        headers: dict[str, Any] = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.info("webhook: %s", type(error).__name__)
            return 0
