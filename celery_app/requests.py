"""The Request class of the tasks that run under the caller's task id.

Celery's own looks into a list of revoked ids that each worker keeps in memory, and discards the task before our code
runs: the chain, the chord and the errbacks would never end, and a worker without the id would run it after all. Our
tasks ask the store instead, where a cancel is decided once for everyone. Expiry is judged when the job is submitted.

Next: ``revocation.py``.
"""

from __future__ import annotations

from celery.worker.request import Request


class UnrevokedRequest(Request):
    """A request that no list in memory can discard."""

    def revoked(self) -> bool:
        return False
