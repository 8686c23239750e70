"""The loops of the clients: poll until a job has ended or a pod runs, and read a job's chunks. The clock is injected.

Not here: HTTP. A worker does not use these loops: it plans checks for all jobs of an endpoint together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from celery_runpod.api._answers import Job
from celery_runpod.api._pods import Pod
from celery_runpod.errors import ApiError, BadAnswer, JobError, PodNotRunning, RateLimited, Unavailable, WaitTimeout

T = TypeVar("T")

FIRST_S, FACTOR, CAP_S = 1.0, 1.5, 30.0
LAST_LOOK_S = 1.0
"""The last look, at the end of the time, may take this long."""

STREAM_FIRST_S, STREAM_CAP_S = 0.5, 5.0
"""Pauses between two requests for chunks, if RunPod does not hold the request while there are none."""

STREAM_PATIENCE_S = 60.0
"""How long in a row RunPod may refuse requests before a stream raises."""

START_S = 10.0
"""How long a pod that was just started may still be EXITED."""

STARTING = ("PROVISIONING", "STARTING")
UNSEEN = "UNKNOWN"


def wait_until_final(
    look: Callable[[float], Job],
    endpoint: str,
    job_id: str,
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Job:
    """The job once it has ended. `look` is given the seconds that it may take.

    Raises:
        WaitTimeout: it had not ended after `timeout_s`.
        RequestRejected: from `look`, as it is.
    """

    def late(seen: Job | None) -> Exception:
        return WaitTimeout(endpoint, job_id, timeout_s, seen.state if seen else UNSEEN)

    return _until(look, lambda job: job.final, late, timeout_s, clock, sleep)


def wait_until_running(
    look: Callable[[float], Pod],
    pod_id: str,
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Pod:
    """The pod once it is RUNNING. `look` is given the seconds that it may take.

    Raises:
        PodNotRunning: after `timeout_s`; at once for ERROR, TERMINATED and EXITED. EXITED counts after `START_S`, or
            once the pod has left it before.
        RequestRejected: from `look`, as it is.
    """
    began, left_exited = clock(), False

    def running(pod: Pod) -> bool:
        nonlocal left_exited
        found = is_running(pod, clock() - began, left_exited)
        left_exited = left_exited or pod.status in STARTING
        return found

    def late(seen: Pod | None) -> Exception:
        return PodNotRunning(pod_id, timeout_s, seen.status if seen else UNSEEN)

    return _until(look, running, late, timeout_s, clock, sleep)


def is_running(pod: Pod, waited_s: float, left_exited: bool = False) -> bool:
    """Whether a pod runs. A wait of the client and the worker's task `runpod.pods.wait` both ask this.

    Args:
        waited_s: seconds since the wait began. A pod that was just started may still be EXITED for `START_S`.
        left_exited: the pod was seen starting: EXITED now means that it ended.

    Raises:
        PodNotRunning: it will not run: ERROR, TERMINATED, or EXITED.
    """
    stopped = pod.status == "EXITED" and (left_exited or waited_s >= START_S)
    if stopped or pod.status in ("ERROR", "TERMINATED"):
        raise PodNotRunning(pod.id, round(waited_s, 1), pod.status)
    return pod.status == "RUNNING"


def look_once(look: Callable[[], T]) -> tuple[T | None, float]:
    """What a look shows, or None where RunPod says nothing about the job or pod; and how many seconds RunPod asks to
    wait. Raises every other error of `look`."""
    try:
        return look(), 0.0
    except RateLimited as error:
        return None, error.retry_after_s or 0.0
    except (Unavailable, BadAnswer):
        return None, 0.0


def _until(
    look: Callable[[float], T],
    reached: Callable[[T], bool],
    late: Callable[[T | None], Exception],
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> T:
    began, pause_s, seen = clock(), FIRST_S, None
    while True:
        found, asked_to_wait_s = look_once(lambda: look(max(timeout_s - (clock() - began), LAST_LOOK_S)))
        if found is not None:
            seen = found
            if reached(found):
                return found
        left = timeout_s - (clock() - began)
        if left <= 0:
            raise late(seen)
        sleep(min(max(pause_s, asked_to_wait_s), left))
        pause_s = min(pause_s * FACTOR, CAP_S)


def stream_until_final(
    take: Callable[[], tuple[Job, list[Any]]],
    status: Callable[[], Job],
    endpoint: str,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[Any]:
    """The chunks of a job, until it has ended. `take` requests new ones; `status` gives the error of a failed job.

    Raises:
        JobFailed, JobTimedOut, JobCancelled: how the job ended.
        ApiError: from `take`; RateLimited, and Unavailable that was not sent, after `STREAM_PATIENCE_S` in a row.
    """
    pause_s, trouble_since = STREAM_FIRST_S, None
    while True:
        began = clock()
        try:
            job, chunks = take()
        except (RateLimited, Unavailable) as error:
            trouble_since = began if trouble_since is None else trouble_since
            taken = isinstance(error, Unavailable) and error.sent
            if taken or clock() - trouble_since >= STREAM_PATIENCE_S:
                raise
            asked_to_wait_s = error.retry_after_s if isinstance(error, RateLimited) else None
            sleep(max(pause_s, asked_to_wait_s or 0.0))
            pause_s = min(pause_s * FACTOR, STREAM_CAP_S)
            continue
        trouble_since = None
        yield from chunks
        if job.final and chunks:
            continue  # a final answer may hold a part of what is left
        if job.final:
            failed = _failure(job, status, endpoint)
            if failed is not None:
                raise failed
            return
        if chunks:
            pause_s = STREAM_FIRST_S
        else:
            held_s = clock() - began
            if held_s < pause_s:
                sleep(pause_s - held_s)
            pause_s = min(pause_s * FACTOR, STREAM_CAP_S)


def _failure(job: Job, status: Callable[[], Job], endpoint: str) -> JobError | None:
    """The error of an ended job. An answer of /stream has no `error`, so /status is asked for it."""
    if job.state == "FAILED" and job.error is None:
        with contextlib.suppress(ApiError):
            if (seen := status()).state == "FAILED":
                job = seen
    return job.failure(endpoint)
