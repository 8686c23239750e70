"""RunPodClient: the operations of a Serverless endpoint, typed. The class to use from a script.

Not here: HTTP itself (``_transport.py``), what the answers hold (``_answers.py``), Celery.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from celery_runpod.api._access import Key, base_url_of, path_of
from celery_runpod.api._answers import (
    Health,
    Job,
    Policy,
    parse_chunks,
    parse_health,
    parse_job,
    parse_removed,
)
from celery_runpod.api._durations import MAX_S, MIN_TTL_S, bounded, milliseconds
from celery_runpod.api._http_errors import Where
from celery_runpod.api._payload import RUN_LIMIT_BYTES, RUNSYNC_LIMIT_BYTES, encode_body
from celery_runpod.api._transport import Client
from celery_runpod.api._waiting import stream_until_final, wait_until_final
from celery_runpod.errors import BadAnswer

T = TypeVar("T")


class RunPodClient(Client):
    """RunPod's Serverless API (docs.runpod.io/serverless/endpoints/operation-reference).

    >>> client = RunPodClient()
    >>> job = client.run("9zt0qb3c", {"prompt": "an astronaut"})
    >>> client.wait("9zt0qb3c", job.id, timeout=600).result()
    {'image': 'https://example.com/astronaut.png'}

    All threads of a process can share one client; after a fork each process has its own connections. Endpoint ids come
    first in every method. No request is ever repeated.

    Args:
        api_key: the key, or a function that gives it, asked on every call (so that it can be rotated). By default the
            variable `RUNPOD_API_KEY`, else the content of the file that `RUNPOD_API_KEY_FILE` names, read on every
            call. It is in no repr, log line or exception.
        base_url: by default the variable `RUNPOD_BASE_URL`, else `RUNPOD_ENDPOINT_BASE_URL`, else RunPod's own.
        connect_timeout: for a connection, for each address of the host. Durations are seconds or `timedelta`.
        read_timeout: the longest time without a byte of the answer.
        total_timeout: for a call as a whole; only looking up the host's name may add to it. Every method takes its own
            as `timeout`.
        pool_size: connections kept open; more threads than this work, with more connecting.
        allow_http: whether `http://` may lead to a public host; by default as the variable `RUNPOD_ALLOW_HTTP` says,
            else not. Loopback, private addresses and names without a dot are always allowed.

    Raises:
        NotConfigured: no key is given or found.
        ConfigurationError: `base_url` is not a URL, or is `http://` to a public host.
        InvalidOption: a timeout that is not above 0.

    Every method raises an `ApiError`: Unauthorized, EndpointNotFound, RequestRejected (RunPod refused), RateLimited
    (not accepted; try later), Unavailable (`sent`: whether RunPod may have acted on it), BadAnswer (it may have); and
    InvalidInput for an id that no endpoint or job can have.
    """

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        base_url: str | None = None,
        connect_timeout: float | timedelta = 5.0,
        read_timeout: float | timedelta = 15.0,
        total_timeout: float | timedelta = 20.0,
        pool_size: int = 32,
        allow_http: bool | None = None,
    ) -> None:
        super().__init__(
            Key(api_key),
            base_url_of(base_url, allow_http),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            total_timeout=total_timeout,
            pool_size=pool_size,
        )

    def __repr__(self) -> str:
        return f"RunPodClient(base_url={self._http.base_url!r})"

    def run(
        self,
        endpoint: str,
        input: Any,
        *,
        webhook: str | None = None,
        policy: Policy | None = None,
        s3_config: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Job:
        """Submit a job and return at once: POST /run. RunPod keeps the result for 30 minutes after the job's end.

        RunPod has no idempotency key. After Unavailable with `sent`, or BadAnswer, the job may be running: sending it
        again may pay for it twice.

        Args:
            input: JSON, whatever the handler reads as `job["input"]`.
            webhook: a URL to which RunPod posts the job once it has ended.
            s3_config: `accessId`, `accessSecret`, `bucketName`, `endpointUrl`, `objectPath`.

        Raises:
            InvalidInput: the input is not JSON; the text names the place. Nothing was sent.
            PayloadTooLarge: the body is over 10 MB. Nothing was sent.

        >>> RunPodClient().run("9zt0qb3c", {"prompt": "an astronaut"}, policy=Policy(execution_timeout=900))
        Job(id='9f-u1', state='IN_QUEUE', has_output=False, delay_s=None, execution_s=None, worker_id=None, retries=0)
        """
        path = path_of(endpoint, "run")
        body = encode_body(input, RUN_LIMIT_BYTES, endpoint, webhook, policy, s3_config)
        where = Where("run", endpoint)
        return _parsed(
            where, parse_job, self._http.request("POST", path, where, body=body, timeout_s=_timeout(timeout))
        )

    def run_sync(
        self,
        endpoint: str,
        input: Any,
        *,
        wait: float | timedelta = 90.0,
        webhook: str | None = None,
        policy: Policy | None = None,
        s3_config: Mapping[str, str] | None = None,
        timeout: float | timedelta | None = None,
    ) -> Job:
        """Submit a job and wait for its end: POST /runsync. A job that takes longer than `wait` (1 s to 300 s) is
        returned unfinished. RunPod keeps its result for one minute after its end.

        The rest is as for `run`. A lost answer also loses the id of the job: prefer `run` for costly jobs.

        Args:
            timeout: for the call as a whole, `wait` included; by default `wait` and the client's own.

        Raises:
            InvalidInput, PayloadTooLarge: as for `run`; the limit is 20 MB.
            InvalidOption: `wait` is out of its bounds.
        """
        wait_s = bounded("wait", wait, 1, 300)
        path = f"{path_of(endpoint, 'runsync')}?wait={milliseconds(wait_s)}"
        body = encode_body(input, RUNSYNC_LIMIT_BYTES, endpoint, webhook, policy, s3_config)
        where = Where("runsync", endpoint)
        data = self._http.request("POST", path, where, body=body, timeout_s=_timeout(timeout), held_s=wait_s)
        return _parsed(where, parse_job, data)

    def status(
        self,
        endpoint: str,
        job_id: str,
        *,
        ttl: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
    ) -> Job:
        """The state of a job: GET /status. `ttl` (10 s to 7 days) sets its time to live.

        Raises:
            JobNotFound: RunPod does not know the job, or has deleted it: 30 minutes after its end, one minute if it was
                submitted by /runsync, or at the end of its time to live.

        >>> RunPodClient().status("9zt0qb3c", "9f-u1").state
        'COMPLETED'
        """
        ttl_s = bounded("ttl", ttl, MIN_TTL_S, MAX_S)
        path = path_of(endpoint, "status", job_id) + ("" if ttl_s is None else f"?ttl={milliseconds(ttl_s)}")
        where = Where("status", endpoint, job_id)
        return _parsed(where, parse_job, self._http.request("GET", path, where, timeout_s=_timeout(timeout)))

    def wait(
        self,
        endpoint: str,
        job_id: str,
        *,
        timeout: float | timedelta,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Job:
        """Poll until the job has ended: after 1 s, then each time 1.5 times later, at most 30 s. A FAILED job is returned
        too: `result()` gives the output or raises. While RunPod's API is in trouble, polling goes on.

        Raises:
            WaitTimeout: not ended after `timeout` (0: one look); it goes on at RunPod. The last look may
                take one second more.
            RequestRejected: JobNotFound, Unauthorized ...: waiting would not help.
        """

        def look(seconds: float) -> Job:
            return self.status(endpoint, job_id, timeout=min(seconds, self._http.total_timeout_s))

        timeout_s = bounded("timeout", timeout, 0, math.inf)
        return wait_until_final(look, endpoint, job_id, timeout_s, clock, sleep)

    def cancel(self, endpoint: str, job_id: str, *, timeout: float | timedelta | None = None) -> Job:
        """Cancel a queued or running job: POST /cancel.

        Raises:
            JobNotFound: RunPod does not know the job, or keeps it no longer.

        >>> RunPodClient().cancel("9zt0qb3c", "9f-u1").state
        'CANCELLED'
        """
        return self._post("cancel", parse_job, timeout, endpoint, job_id)

    def retry(self, endpoint: str, job_id: str, *, timeout: float | timedelta | None = None) -> Job:
        """Run a FAILED or TIMED_OUT job again under the same id, while RunPod keeps it: POST /retry. The job is paid for
        again, and its old output is deleted.

        Raises:
            RequestRejected: it is in another state; JobNotFound if it is kept no longer.
        """
        return self._post("retry", parse_job, timeout, endpoint, job_id)

    def purge_queue(self, endpoint: str, *, timeout: float | timedelta | None = None) -> int:
        """Remove every job that waits in the endpoint's queue, whoever submitted it: POST /purge-queue. Returns how many;
        running jobs go on. RunPod allows two calls in 10 seconds.

        >>> RunPodClient().purge_queue("9zt0qb3c")
        3
        """
        return self._post("purge-queue", parse_removed, timeout, endpoint)

    def health(self, endpoint: str, *, timeout: float | timedelta | None = None) -> Health:
        """Jobs and workers of the endpoint: GET /health.

        >>> RunPodClient().health("9zt0qb3c").throttled
        2
        """
        where = Where("health", endpoint)
        data = self._http.request("GET", path_of(endpoint, "health"), where, timeout_s=_timeout(timeout))
        return _parsed(where, parse_health, data)

    def stream(
        self,
        endpoint: str,
        job_id: str,
        *,
        wait: float | timedelta = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[Any]:
        """The chunks that a generator handler yields, as they come, until the job has ended: GET /stream.

        RunPod gives each chunk once. So a request that RunPod did not get (RateLimited, Unavailable with `sent` False) is
        repeated for a minute; any other error is raised, because it may have lost chunks.

        Args:
            wait: how long RunPod holds a request while there is nothing new; 1 s to 300 s.

        Raises:
            JobFailed, JobTimedOut, JobCancelled: the job ended so; raised after its last chunk.
            InvalidOption: `wait` is out of its bounds.

        >>> list(RunPodClient().stream("9zt0qb3c", "9f-u1"))
        ['Once', ' upon', ' a', ' time']
        """
        wait_s = bounded("wait", wait, 1, 300)
        path_of(endpoint, "stream", job_id)  # refuses what cannot be an id now, not at the first chunk

        def take() -> tuple[Job, list[Any]]:
            return self.take_chunks(endpoint, job_id, wait=wait_s)

        return stream_until_final(take, lambda: self.status(endpoint, job_id), endpoint, clock, sleep)

    def take_chunks(
        self,
        endpoint: str,
        job_id: str,
        *,
        wait: float | timedelta = 10.0,
        timeout: float | timedelta | None = None,
    ) -> tuple[Job, list[Any]]:
        """One GET /stream: the state of the job, and the chunks that its handler has yielded since the last one. RunPod
        gives each chunk once: after Unavailable with `sent`, or BadAnswer, chunks may be lost. The job has no output and
        no error; `status` has them.

        Args:
            wait: how long RunPod holds the request while there is nothing new; 1 s to 300 s.
            timeout: for the call as a whole, `wait` included; by default `wait` and the client's own.

        Raises:
            JobNotFound: RunPod does not know the job, or keeps it no longer.
            InvalidOption: `wait` is out of its bounds.

        >>> RunPodClient().take_chunks("9zt0qb3c", "9f-u1")[1]
        ['Once', ' upon', ' a', ' time']
        """
        wait_s = bounded("wait", wait, 1, 300)
        path = f"{path_of(endpoint, 'stream', job_id)}?wait={milliseconds(wait_s)}"
        where = Where("stream", endpoint, job_id)
        data = self._http.request("GET", path, where, timeout_s=_timeout(timeout), held_s=wait_s)
        return _parsed(where, parse_job, data), parse_chunks(data)

    def _post(
        self, operation: str, parse: Callable[[Any], T], timeout: float | timedelta | None, endpoint: str, *job_id: str
    ) -> T:
        path, where = path_of(endpoint, operation, *job_id), Where(operation, endpoint, *job_id)
        return _parsed(where, parse, self._http.request("POST", path, where, body=b"{}", timeout_s=_timeout(timeout)))


def _timeout(given: float | timedelta | None) -> float | None:
    return bounded("timeout", given, 0.001, MAX_S)


def _parsed(where: Where, parse: Callable[..., T], data: Any) -> T:
    """The parsed answer. The error of an answer that cannot be parsed names the operation, the endpoint and the job."""
    try:
        return parse(data) if where.job_id is None or parse is not parse_job else parse(data, job_id=where.job_id)
    except BadAnswer as error:
        problem = error.message
    raise where.error(BadAnswer, problem, 200)
