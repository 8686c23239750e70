"""Turns a call's message into a record, and decides with which error a wrong call ends.

A message may come from any process and any language. So everything in it is checked, and no value of it is put into a log
or an error. The error of a wrong call is the record's outcome: its caller gets it as the end of every other job.

Not here: accepting the record (``run.py``), the checks in the caller's own process (`celery_runpod/_publish/`).
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery.app.task import Context
from celery.exceptions import Ignore

from celery_runpod._call_rules import check_message, merge_input
from celery_runpod._escaping import described
from celery_runpod._plain_json import plain_json
from celery_runpod._protocol import BEGUN_AT, DEFAULT_DEADLINE_S, ISSUED_AT, REFUSED, REPUBLISHED, RUN, UNCONFIRMED
from celery_runpod._store.record import HIGHEST_PRIORITY, JobRecord
from celery_runpod._store.states import State
from celery_runpod.api._fields import number
from celery_runpod.api._payload import check_input
from celery_runpod.errors import InvalidInput, InvalidOption, RunPodError, SubmissionUnconfirmed, encode
from celery_runpod.options import Backoff, Options
from tasks.parking import park
from tasks.services import Services
from tasks.undeliverable import drop_unfit

log = logging.getLogger(__name__)

NO_ENDPOINT = "_"
"""The endpoint of a wrong call: its record is kept under this name until its error is delivered."""

MOST_AHEAD_S = 366 * 86_400.0

STREAMED = Backoff(first=0.25, factor=1.5, cap=5.0, jitter=0.1)
"""Looks at a streamed job that nobody reads. The first comes at once: a reader waits for the first chunk."""


def read_call(
    services: Services, request: Context, finish: Any, inputs: tuple[Any, ...], arguments: Mapping[str, Any], now: float
) -> JobRecord:
    """The record for a call. The error of a wrong call becomes the record's outcome.

    Raises:
        Ignore: a wrong message of a call that was accepted before.
    """
    given = arguments.get("endpoint")
    # A text that is not a name may be an input in the wrong place, so it is not shown.
    name = given if isinstance(given, str) and _is_id(given) else NO_ENDPOINT
    unfit = drop_unfit(request)
    job = JobRecord(
        task_id=request.id,
        endpoint=NO_ENDPOINT,
        name=name,
        root_id=request.root_id or request.id,
        continuation=park(
            finish, request, queue=services.settings.queues.deliver, shadow=request.shadow or f"{RUN}[{name}]"
        ),
        options=Options(),
        accepted_at=now,
        not_before=now,
        end_by=now + DEFAULT_DEADLINE_S,
        begun_at=number(_header(request, BEGUN_AT)) or number(_header(request, ISSUED_AT)) or now,
        priority=_priority(request),
        ignore_result=bool(request.ignore_result),
    )
    try:
        if unfit:
            raise InvalidInput(f"{unfit}; a signature is needed", job.name, job.task_id)
        if refused := _header(request, REFUSED):
            raise InvalidInput(str(refused), job.name, job.task_id)
        return _checked(services, job, request, inputs, arguments)
    except RunPodError as error:
        refusal = error
    except Exception as error:
        # No server is involved, so a repeat would raise again: the call ends. The error shows the type and place of the
        # exception, not its text, which may quote a value of the message.
        what = f"{type(error).__name__} at {_place(error)}"
        log.error("run.not_understood", extra={"task_id": job.task_id, "error": what})
        refusal = InvalidInput(f"the call cannot be understood: {what}", job.name, job.task_id)
    log.error("run.refused", extra={"task_id": job.task_id, "endpoint": job.name, "error": str(refusal)})
    # A repeat has its record, and its end from there. A copy that is being accepted just now writes it at the same place.
    endpoint = services.store.ids.endpoint_of(job.task_id) or NO_ENDPOINT
    if services.store.is_accepted(endpoint, job.task_id):
        services.store.outbox.accepted(job.task_id, now)
        raise Ignore
    return replace(job, endpoint=endpoint, state=State.ENDED_HERE, outcome={"error": encode(refusal)})


def _checked(
    services: Services, job: JobRecord, request: Context, inputs: tuple[Any, ...], arguments: Mapping[str, Any]
) -> JobRecord:
    now = job.accepted_at
    if job.name != arguments.get("endpoint"):
        given = described(arguments.get("endpoint"))
        raise InvalidInput(f"endpoint {given}: a name or RunPod's endpoint id is needed")
    check_message(arguments)
    endpoint, profile = services.settings.resolve(job.name)
    if (request.delivery_info or {}).get("redelivered") or _header(request, REPUBLISHED):
        # Its profile may have had another id when it was accepted, and a second record would be paid for too.
        endpoint = services.store.ids.endpoint_of(job.task_id) or endpoint
    if not _is_id(endpoint):
        raise InvalidInput(f"endpoint {job.name!r} stands for {endpoint!r}, which cannot be an endpoint id of RunPod")
    options = Options.parse(arguments.get("options") or {}).over(profile.options).checked()
    if options.stream and options.backoff is None:
        options = replace(options, backoff=STREAMED)
    services.settings.check_key_name(endpoint, job.name, options.api_key_name)
    if doubt := _may_have_run(services, request, now):
        problem = f"{doubt}, and whether it ran is not known; it was not sent, so that it is not paid for twice"
        raise SubmissionUnconfirmed(problem, job.name, job.task_id)
    value = plain_json(merge_input(inputs, arguments.get("fields") or {}, job.name))
    check_input(value, endpoint=job.name)
    not_before = max(now, float(arguments.get("not_before") or _timestamp(request.eta) or now))
    if not_before > now + MOST_AHEAD_S:
        raise InvalidOption("not_before", not_before, f"at most {MOST_AHEAD_S / 86_400:g} days ahead")
    return replace(
        job,
        endpoint=endpoint,
        options=options,
        input=value,
        not_before=not_before,
        reason="COUNTDOWN" if not_before > now else "",
        end_by=not_before + (options.deadline or DEFAULT_DEADLINE_S),
        start_by=None if options.start_timeout is None else not_before + options.start_timeout,
        expires_at=_timestamp(request.expires),
        api_key_name=options.api_key_name,
    )


def _may_have_run(services: Services, request: Context, now: float) -> str | None:
    """Why the call may have run before, though the store knows nothing of it; None for a call that is new."""
    issued_at = number(_header(request, ISSUED_AT))
    if issued_at and issued_at < now - services.store.lives.tombstone_s:
        return f"the call is {(now - issued_at) / 3600:.0f} h old"
    if _header(request, REPUBLISHED) == UNCONFIRMED:
        return "the call was found in the outbox after the unconfirmed window"
    return None


def _is_id(name: str) -> bool:
    """Whether a name or id is safe in a URL and in the hash tag of a Redis key. RunPod's ids are letters and digits."""
    return (
        name.isascii()
        and 0 < len(name) <= 128
        and all(char.isalnum() or char in "-_." for char in name)
        and name.strip(".") != ""
    )


def _place(error: BaseException) -> str:
    """File and line where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _timestamp(moment: Any) -> float | None:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _priority(request: Context) -> int:
    """The message's priority, from 0 (also without one) to 9."""
    found = (request.delivery_info or {}).get("priority")
    return min(max(int(found), 0), HIGHEST_PRIORITY) if isinstance(found, int) else 0


def _header(request: Context, name: str) -> Any:
    found = request.get(name)
    return found if found is not None else (request.headers or {}).get(name)
