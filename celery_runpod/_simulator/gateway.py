"""What stands between a client and RunPod: the key, faults at requests, and the count of what was answered.

Shared by the job routes and the management API. Not here: which fault applies (``faults.py``), how an answer is broken
(``answers.py``).
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from celery_runpod._simulator import answers
from celery_runpod._simulator.answers import Refused
from celery_runpod._simulator.faults import Fault, Faults


def accepts(key: str | None, header: str | None) -> bool:
    """Whether a request may come in: `Bearer KEY` or the bare key; any key when none is set."""
    given = (header or "").removeprefix("Bearer ").strip()
    return bool(given) if not key else hmac.compare_digest(given.encode(), key.encode())


class Gateway:
    """See the module. `counts`: operation -> status, or `dropped` -> requests."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.counts: dict[str, Counter[str]] = {}

    async def through(
        self,
        request: web.Request,
        endpoint: str,
        operation: str,
        answered: Callable[[Mapping[str, Fault]], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Answer one request by `answered`, or not. A request whose connection is cut before does not count."""
        faults = self.faults.at(endpoint, operation)
        if "delay" in faults:
            await asyncio.sleep(faults["delay"].seconds_s)
        if "drop_before" in faults:
            return answers.cut(request)
        if "status" in faults:
            answer: web.StreamResponse = answers.faulty(faults["status"], faults["status"].status)
        else:
            try:
                answer = await answered(faults)
            except Refused as error:
                answer = answers.refused(error)
        if "status_after" in faults:
            answer = answers.faulty(faults["status_after"], faults["status_after"].status)
        status = "200" if "body" in faults else str(answer.status)
        self.counts.setdefault(operation, Counter())["dropped" if "drop_after" in faults else status] += 1
        return await answers.spoiled(request, answer, faults)
