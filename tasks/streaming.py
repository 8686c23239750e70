"""What RunPod says of a job that streams: each chunk is fetched once, kept once, and missed loudly.

GET /stream gives each chunk once, without a number. So the store notes that a look has begun, then comes the request, and
one step keeps the chunks and ends the look. A look that was not ended is a gap (`celery_runpod/_store/streams.py`).

    kept            the readers have the chunks
    429, 4xx,       RunPod has given nothing                 the look ends, and another follows
      not sent
    5xx, cut,       chunks may be lost                       a gap: the job ends with StreamIncomplete, unless RunPod
      unreadable,                                            gives the whole output at the end
      killed

While somebody reads, a check follows the job for half a second, in requests that RunPod holds until there is a chunk;
then it gives its process back, and the next check goes on. In all other cases GET /status goes first: where the API is
away it costs nothing, and a GET /stream the certainty that no chunk is lost. A job in RunPod's queue has no chunks.

Not here: which jobs a check looks at, and when again (``check.py``, ``order_of_looks.py``).
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job, RunPodClient
from celery_runpod.errors import BadAnswer, RunPodError, StreamIncomplete, Unavailable
from tasks.crash_points import Step, reach
from tasks.own_verdicts import verdict_at
from tasks.services import Services

log = logging.getLogger(__name__)

FOLLOWED_S = 0.5
"""How long a check follows a job that somebody reads. Meanwhile it keeps its process from other tasks, and jobs that are
due from their looks (`benchmarks/streams.py`)."""
HELD_S = 1.0
"""How long RunPod holds a request while there is no chunk: the least that its documents name for such a `wait`
(docs.runpod.io/serverless/endpoints/operation-reference)."""
PACE_S = 0.1
"""Between two requests, so that a handler that yields a hundred times a second does not cost a hundred requests."""
PAUSES = ("stream", "status")
"""GET /stream waits for both: for its own trouble, and for that of all looks."""
OVER_S = 2.0
"""A request that is this far past its deadline is given up: nobody waits for its answer."""
UNKNOWN = "some of its chunks may be lost"
PLAIN = "a handler that does not yield is called by using(stream=False)"
INSIST_S = 15.0
"""How long chunks that were fetched are tried to be kept while the store is away."""


def ask(services: Services, job: JobRecord, timeout_s: float, *, read: Callable[[], bool]) -> Job | None:
    """How a job at RunPod stands, with its chunks kept; None if it cannot be asked now, because another process asks, or
    the budget is used up. `read` says whether somebody reads its chunks.

    Raises:
        NoTurn: other large answers are in work.
        ApiError: as `RunPodClient.status` and `take_chunks`.
    """
    client, job_id, pauses = services.client(job.api_key_name), str(job.job_id), services.store.pauses
    if not job.options.stream:
        answer = client.status(job.endpoint, job_id, timeout=timeout_s)
        if not may_be_chunks(job, answer):
            return answer
        return None if _paused(services, job) or _take(services, client, job, timeout_s) is None else answer
    paused_until, seen = pauses.paused_until(job.endpoint, *PAUSES), None
    watched = read()
    if paused_until is not None or not watched or job.state is State.IN_QUEUE:
        seen = client.status(job.endpoint, job_id, timeout=timeout_s)
        if seen.state == State.IN_QUEUE:
            return seen
        if paused_until is not None and paused_until > services.clock():
            waits = services.clock() < verdict_at(job) or may_be_chunks(job, seen)
            return None if seen.final and waits else seen
    followed = _follow(services, client, job, timeout_s, read=watched)
    if paused_until is not None and followed is not None and not _paused(services, job):
        pauses.unpause(job.endpoint, "stream", paused_until)
    if followed is None or not followed.final:
        return followed
    return seen if seen is not None and seen.final else client.status(job.endpoint, job_id, timeout=timeout_s)


def whole_output(services: Services, job: JobRecord, answer: Job) -> tuple[Job, StreamIncomplete | None]:
    """The answer of a job that has ended, with its chunks as the output where RunPod has none; and the error with which
    it ends instead if some are lost."""
    if not may_be_chunks(job, answer):
        return answer, None
    texts, whole = services.store.streams.of_this_run(job)
    if not whole:
        return answer, incomplete(job, answer, UNKNOWN if texts or job.options.stream else f"{UNKNOWN}; {PLAIN}")
    if not texts:
        return answer, None
    if answer.retries:
        return answer, incomplete(job, answer, "RunPod ran it again, and which chunks are of the last run is not known")
    return replace(answer, output=[json.loads(text) for text in texts], has_output=True), None


def before_chunks(job: JobRecord, answer: Job) -> Job:
    """The answer of a job of which nobody has asked for chunks yet: an end does not count before that."""
    unasked = answer.final and (job.options.stream or may_be_chunks(job, answer))
    return replace(answer, state=State.IN_PROGRESS, output=None, execution_s=None) if unasked else answer


def may_be_chunks(job: JobRecord, answer: Job) -> bool:
    """Whether a success may be that of a generator handler without `return_aggregate_stream`: its output is `[]`.
    `stream=False` says that the handler does not yield."""
    if answer.state != State.COMPLETED or answer.too_deep or job.options.stream is False:
        return False
    return answer.output == [] or (bool(job.options.stream) and answer.output is None)


def incomplete(job: JobRecord, answer: Job, why: str) -> StreamIncomplete:
    problem = (
        f"the handler yields its output, and {why}; RunPod gives each chunk once, and keeps the whole output only "
        "where the handler sets return_aggregate_stream"
    )
    return StreamIncomplete(problem, job.name, job.task_id, answer.id)


def _follow(services: Services, client: RunPodClient, job: JobRecord, timeout_s: float, *, read: bool) -> Job | None:
    """Look at a streamed job: once, or for `FOLLOWED_S` if it runs and somebody reads."""
    until = min(services.clock() + FOLLOWED_S, verdict_at(job))
    answer: Job | None = None
    while True:
        began = services.clock()
        taken = _take(services, client, job, timeout_s)
        if taken is None:
            return answer
        answer, chunks = taken
        if not read or answer.state != State.IN_PROGRESS or services.clock() >= until:
            return answer
        # Without chunks a request that was not held must not come again at once.
        services.sleep(max(0.0, (PACE_S if chunks else 2 * PACE_S) - (services.clock() - began)))
        if _paused(services, job):
            return answer


def _paused(services: Services, job: JobRecord) -> bool:
    """Whether GET /stream must not be asked now, because another job has met trouble."""
    return (services.store.pauses.paused_until(job.endpoint, *PAUSES) or 0.0) > services.clock()


def _take(services: Services, client: RunPodClient, job: JobRecord, timeout_s: float) -> tuple[Job, int] | None:
    """As `_take_once`; after a final answer with chunks on, until RunPod has no more: a final answer may hold a part."""
    taken = more = _take_once(services, client, job, timeout_s)
    while taken is not None and taken[0].final and more is not None and more[1]:
        more = _take_once(services, client, job, timeout_s)
    return None if more is None else taken


def _take_once(services: Services, client: RunPodClient, job: JobRecord, timeout_s: float) -> tuple[Job, int] | None:
    """One GET /stream: what it says, and how many chunks were kept. None if it was not made, or came too late."""
    if not services.budget.take(job.endpoint, "stream", 1):
        return None
    token, now, job_id = str(uuid.uuid4()), services.clock(), str(job.job_id)
    if services.store.streams.begin_look(job, token, now, now + timeout_s + OVER_S) != "begun":
        return None
    reach(Step.STREAM_BEGUN)
    try:
        answer, chunks = client.take_chunks(job.endpoint, job_id, wait=HELD_S, timeout=timeout_s)
    except RunPodError as error:
        lost = isinstance(error, BadAnswer) or (isinstance(error, Unavailable) and error.sent)
        if lost:
            log.error("stream.gap", extra={"task_id": job.task_id, "job_id": job_id, "error": str(error)})
        _keep(services, job, token, [], gap=lost)
        raise
    reach(Step.STREAM_TAKEN)
    word = _keep(services, job, token, [json.dumps(chunk) for chunk in chunks])
    reach(Step.STREAM_KEPT)
    return (answer, len(chunks)) if word == "kept" else None


def _keep(services: Services, job: JobRecord, token: str, chunks: list[str], *, gap: bool = False) -> str:
    """End the look with its chunks. If the store is away, insist: RunPod does not give them again."""

    def end() -> str:
        return services.store.streams.end_look(job, token, chunks, services.clock(), gap=gap)

    def away(error: Exception) -> None:
        log.error("stream.store_away", extra={"task_id": job.task_id, "error": str(error)})

    return services.insist(end, away, until=services.clock() + INSIST_S)
