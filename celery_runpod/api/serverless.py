"""RunPodClient: the operations of a Serverless endpoint, typed.

Not here: HTTP itself (``transport.py``), what answers look like (``answers.py``), Celery.

Next: ``transport.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from celery_runpod.api.answers import Health, Job, Policy, parse_health, parse_job
from celery_runpod.api.payload import RUN_LIMIT_BYTES, RUNSYNC_LIMIT_BYTES, check_size, encode
from celery_runpod.api.transport import Transport
from celery_runpod.errors import (
    BadAnswer,
    InvalidInput,
    InvalidOption,
    NotConfigured,
    RateLimited,
    Unavailable,
    WaitTimeout,
)

DEFAULT_BASE_URL = "https://api.runpod.ai/v2"
POLL_FIRST_S, POLL_FACTOR, POLL_CAP_S = 1.0, 1.5, 30.0


class RunPodClient:
    """RunPod's Serverless REST API (docs.runpod.io/serverless/endpoints/operation-reference).

    >>> client = RunPodClient(api_key="...")
    >>> job = client.run("9zt0qb3c", {"prompt": "an astronaut"})
    >>> client.wait("9zt0qb3c", job.id, timeout_s=600).output
    {'prompt': 'an astronaut'}

    One client serves a process and all its threads; after a fork it begins anew. Endpoint ids come first in every
    method, times are seconds. Every method raises `celery_runpod.errors.ApiError` (Unauthorized, EndpointNotFound,
    RateLimited, Unavailable, BadAnswer, RequestRejected).

    Args:
        api_key: the key, or a function that gives it (so that it can be rotated); by default `RUNPOD_API_KEY`, or the
            content of the file that `RUNPOD_API_KEY_FILE` names. It is never shown.
        base_url: by default `RUNPOD_BASE_URL`, `RUNPOD_ENDPOINT_BASE_URL`, else RunPod's own.

    Raises:
        NotConfigured: no key is given or found.
    """

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        base_url: str | None = None,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 15.0,
        total_timeout_s: float = 20.0,
        pool_size: int = 32,
    ) -> None:
        key = _key_source(api_key)
        env = os.environ
        url = base_url or env.get("RUNPOD_BASE_URL") or env.get("RUNPOD_ENDPOINT_BASE_URL") or DEFAULT_BASE_URL
        self._http = Transport(
            key,
            url,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            total_timeout_s=total_timeout_s,
            pool_size=pool_size,
        )

    def __repr__(self) -> str:
        return f"RunPodClient(base_url={self._http.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client can be used again."""
        self._http.close()

    def run(
        self,
        endpoint: str,
        input: Any,
        *,
        webhook: str | None = None,
        policy: Policy | None = None,
        s3_config: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Submit a job: POST /run. It is never repeated: after `Unavailable` with `sent`, or `BadAnswer`, RunPod may
        have taken the job.

        Raises:
            InvalidInput, PayloadTooLarge: the body is not JSON, or over 10 MB; nothing was sent.
        """
        body = _body(endpoint, input, webhook, policy, s3_config, RUN_LIMIT_BYTES)
        data = self._http.request(
            "POST", _path(endpoint, "run"), operation="run", endpoint=endpoint, body=body, timeout_s=timeout_s, paid=True
        )
        return _job(data, "run", endpoint)

    def run_sync(
        self,
        endpoint: str,
        input: Any,
        *,
        wait_s: float = 90.0,
        webhook: str | None = None,
        policy: Policy | None = None,
        s3_config: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Submit a job and wait for its end: POST /runsync. After `wait_s` (1 to 300) the job comes back unfinished;
        its result is kept for one minute only.

        Raises:
            InvalidInput, PayloadTooLarge: the body is not JSON, or over 20 MB; nothing was sent.
            InvalidOption: `wait_s` is out of bounds.
        """
        if not 1 <= wait_s <= 300:
            raise InvalidOption("wait_s", wait_s, "1 to 300 seconds")
        body = _body(endpoint, input, webhook, policy, s3_config, RUNSYNC_LIMIT_BYTES)
        data = self._http.request(
            "POST",
            f"{_path(endpoint, 'runsync')}?wait={round(wait_s * 1000)}",
            operation="runsync",
            endpoint=endpoint,
            body=body,
            timeout_s=wait_s + 10 if timeout_s is None else timeout_s,
            paid=True,
        )
        return _job(data, "runsync", endpoint)

    def status(
        self, endpoint: str, job_id: str, *, ttl_s: float | None = None, timeout_s: float | None = None
    ) -> Job:
        """How a job stands: GET /status. `ttl_s` sets the job's time to live.

        Raises:
            JobNotFound: RunPod does not know the job, or keeps it no longer (30 minutes after its end; 1 minute for
                /runsync).
        """
        query = "" if ttl_s is None else f"?ttl={round(ttl_s * 1000)}"
        data = self._http.request(
            "GET",
            _path(endpoint, "status", job_id) + query,
            operation="status",
            endpoint=endpoint,
            job_id=job_id,
            timeout_s=timeout_s,
        )
        return _job(data, "status", endpoint, job_id)

    def wait(
        self,
        endpoint: str,
        job_id: str,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Poll until the job has ended: after 1 s, each time 1.5 times longer, at most 30 s. Trouble with the API is
        waited out.

        Raises:
            WaitTimeout: it had not ended after `timeout_s`; it goes on at RunPod.
            JobNotFound, Unauthorized, EndpointNotFound: waiting longer would not help.
        """
        started, pause_s, state = clock(), POLL_FIRST_S, "IN_QUEUE"
        while True:
            try:
                job = self.status(endpoint, job_id)
                if job.final:
                    return job
                state = job.state
            except RateLimited as error:
                pause_s = max(pause_s, error.retry_after_s or 0.0)
            except (Unavailable, BadAnswer):
                pass  # no word from the API is no word on the job
            left = timeout_s - (clock() - started)
            if left <= 0:
                raise WaitTimeout(endpoint, job_id, timeout_s, state)
            sleep(min(pause_s, left))
            pause_s = min(pause_s * POLL_FACTOR, POLL_CAP_S)

    def cancel(self, endpoint: str, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Cancel a queued or running job: POST /cancel.

        Raises:
            JobNotFound: there is nothing to cancel any more.
        """
        return self._on_job("cancel", endpoint, job_id, timeout_s)

    def retry(self, endpoint: str, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Run a FAILED or TIMED_OUT job again under the same id, while RunPod keeps it: POST /retry. The old output
        is gone.

        Raises:
            RequestRejected: the job is in another state.
        """
        return self._on_job("retry", endpoint, job_id, timeout_s)

    def purge_queue(self, endpoint: str, *, timeout_s: float | None = None) -> int:
        """Remove every queued job of the endpoint, whoever submitted it: POST /purge-queue. Answers how many."""
        path = _path(endpoint, "purge-queue")
        data = self._http.request(
            "POST", path, operation="purge-queue", endpoint=endpoint, body=b"{}", timeout_s=timeout_s
        )
        removed = data.get("removed") if isinstance(data, dict) else None
        if not isinstance(removed, int):
            raise BadAnswer("the answer does not say how many jobs were removed", "purge-queue", endpoint)
        return removed

    def health(self, endpoint: str, *, timeout_s: float | None = None) -> Health:
        """Jobs and workers of the endpoint: GET /health."""
        path = _path(endpoint, "health")
        return parse_health(
            self._http.request("GET", path, operation="health", endpoint=endpoint, timeout_s=timeout_s)
        )

    def stream(
        self, endpoint: str, job_id: str, *, wait_s: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[Any]:
        """The chunks of a generator handler as they come: GET /stream, until the job has ended.

        Raises:
            JobFailed, JobTimedOut, JobCancelled: the job ended so, after its last chunk.
        """
        while True:
            data = self._http.request(
                "GET",
                f"{_path(endpoint, 'stream', job_id)}?wait={round(wait_s * 1000)}",
                operation="stream",
                endpoint=endpoint,
                job_id=job_id,
                timeout_s=wait_s + 15,
            )
            job = parse_job(data, job_id=job_id, operation="stream")
            chunks = data.get("stream")
            for chunk in chunks if isinstance(chunks, list) else []:
                yield chunk["output"] if isinstance(chunk, dict) and "output" in chunk else chunk
            if job.final:
                failure = self.status(endpoint, job_id).failure(endpoint) if job.state == "FAILED" else None
                failure = failure or job.failure(endpoint)
                if failure is not None:
                    raise failure
                return
            if not chunks:
                sleep(0.2)  # a server that does not hold the request must not be hammered

    def _on_job(self, operation: str, endpoint: str, job_id: str, timeout_s: float | None) -> Job:
        data = self._http.request(
            "POST",
            _path(endpoint, operation, job_id),
            operation=operation,
            endpoint=endpoint,
            job_id=job_id,
            body=b"{}",
            timeout_s=timeout_s,
        )
        return _job(data, operation, endpoint, job_id)


def _job(data: Any, operation: str, endpoint: str, job_id: str | None = None) -> Job:
    try:
        return parse_job(data, job_id=job_id, operation=operation)
    except BadAnswer as error:
        problem = error.message
    raise BadAnswer(problem, operation, endpoint, 200, job_id)


def _body(
    endpoint: str,
    input: Any,
    webhook: str | None,
    policy: Policy | None,
    s3_config: dict[str, str] | None,
    limit_bytes: int,
) -> bytes:
    encode(input, endpoint=endpoint)  # names the place in the input itself
    request: dict[str, Any] = {"input": input}
    if webhook:
        request["webhook"] = webhook
    if policy is not None and policy.to_json():
        request["policy"] = policy.to_json()
    if s3_config:
        request["s3Config"] = s3_config
    body = encode(request, endpoint=endpoint)
    check_size(len(body), limit_bytes, endpoint)
    return body


def _path(endpoint: str, operation: str, job_id: str | None = None) -> str:
    parts = [_part("endpoint", endpoint), operation]
    return "/".join(parts if job_id is None else [*parts, _part("job", job_id)])


def _part(kind: str, value: str) -> str:
    """An id as a part of a path.

    Raises:
        InvalidInput: it would lead elsewhere; nothing was sent.
    """
    if not isinstance(value, str) or not value.strip(".") or not all(c.isalnum() or c in "-_.:~" for c in value):
        raise InvalidInput(f"{kind} id {value!r}: letters, digits, '-', '_', '.', ':' and '~' are allowed")
    if not value.isascii():
        raise InvalidInput(f"{kind} id {value!r}: only ASCII is allowed")
    return value


def _key_source(api_key: str | Callable[[], str] | None) -> Callable[[], str]:
    if callable(api_key):
        return api_key
    given = api_key or os.environ.get("RUNPOD_API_KEY")
    if given:
        return lambda: given
    file = os.environ.get("RUNPOD_API_KEY_FILE")
    if file:
        return lambda: Path(file).read_text().strip()
    raise NotConfigured("no RunPod API key: give api_key=..., or set RUNPOD_API_KEY or RUNPOD_API_KEY_FILE")
