"""What was paid: rows of RunPod's billing, and which of them are asked for; the same for both versions of the REST
API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from celery_runpod.errors import InvalidOption

BUCKETS = ("hour", "day", "week", "month", "year")


@dataclass(frozen=True)
class BillingRow:
    """What one pod or endpoint cost in one bucket of time. Amounts are US dollars.

    Args:
        resource_id: the pod's or the endpoint's id.
        start, end: the bucket, `end` excluded; REST v1 does not answer the end.
        amount_usd: in all; `gpu_usd`, `cpu_usd`, `disk_usd`, `fee_usd` are its parts (REST v2).
        billed_s: seconds that were paid for (REST v1).
    """

    resource_id: str | None
    start: datetime | None
    end: datetime | None
    amount_usd: float
    gpu_usd: float | None = None
    cpu_usd: float | None = None
    disk_usd: float | None = None
    fee_usd: float | None = None
    billed_s: float | None = None


@dataclass(frozen=True)
class BillingPeriod:
    """Which rows are asked for: by default those of the last 30 days, one for each day.

    Args:
        start, end: with a time zone; RunPod widens them to whole buckets.
        bucket: "hour", "day", "week", "month" or "year".
        last: how many buckets up to now, instead of `start` and `end` (REST v2 only).

    Raises:
        InvalidOption: out of these bounds.
    """

    start: datetime | None = None
    end: datetime | None = None
    bucket: str = "day"
    last: int | None = None

    def __post_init__(self) -> None:
        if self.bucket not in BUCKETS:
            raise InvalidOption("bucket", str(self.bucket)[:80], f"one of {', '.join(BUCKETS)}")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
                raise InvalidOption(name, repr(value)[:80], "a datetime with a time zone")
        if self.start and self.end and self.start >= self.end:
            raise InvalidOption("start", rfc3339(self.start), f"before end ({rfc3339(self.end)})")
        if self.last is not None:
            if isinstance(self.last, bool) or not isinstance(self.last, int) or self.last < 1:
                raise InvalidOption("last", repr(self.last)[:80], "a whole number, 1 or more")
            if self.start or self.end:
                raise InvalidOption("last, start, end", "both", "either last, or start and end")

    def query(self) -> dict[str, str]:
        """As both versions want it; `last` apart."""
        query = {"bucketSize": self.bucket}
        if self.start:
            query["startTime"] = rfc3339(self.start)
        if self.end:
            query["endTime"] = rfc3339(self.end)
        return query


def rfc3339(at: datetime) -> str:
    """A time in UTC, to the second.

    >>> rfc3339(datetime(2026, 6, 1, 12, tzinfo=UTC))
    '2026-06-01T12:00:00Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
