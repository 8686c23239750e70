"""runpod.health, pause, resume, purge_queue: tasks on an endpoint as a whole, for processes without an API key.

Each returns to the caller who waits for it, or raises a typed error. A message expires when its caller stops waiting.

Not here: managed pods and endpoints (``management_tasks.py``), one job (``cancel.py``, ``retry.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from celery import shared_task

from celery_runpod._escaping import described
from celery_runpod._protocol import EVERY_ENDPOINT, HEALTH, PAUSE, PURGE_QUEUE, RESUME
from celery_runpod._store.states import State
from celery_runpod.api import RunPodClient
from celery_runpod.errors import ApiError, BadAnswer, InvalidInput, PurgeRefused, RateLimited, RunPodError, Unavailable
from config.profiles import Profile
from tasks.publish_check import plan_check
from tasks.services import Services, services_of

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """An endpoint: the caller's name, RunPod's id, and a client with its API key."""

    name: str
    endpoint: str
    client: RunPodClient


def target_of(services: Services, name: Any, api_key_name: str | None) -> Target:
    """Resolve a name as a call's name is resolved.

    Raises:
        InvalidInput: it is no name.
        InvalidOption: calls of this endpoint may not choose this API key.
    """
    endpoint, profile = resolved(services, name)
    services.settings.check_key_name(endpoint, name, api_key_name)
    return Target(name, endpoint, services.client(api_key_name or profile.options.api_key_name))


def resolved(services: Services, name: Any) -> tuple[str, Profile]:
    """RunPod's id and the profile of an endpoint.

    Raises:
        InvalidInput: it is no name.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"endpoint {described(name)}: a name or RunPod's endpoint id is needed")
    return services.settings.resolve(name)


def asked(target: Target, ask: Callable[[], T]) -> T:
    """The answer of RunPod. An error names the endpoint as the caller does."""
    try:
        return ask()
    except ApiError as error:
        named = replace(error, endpoint=target.name)
    raise named


@shared_task(bind=True, name=HEALTH, throws=(RunPodError,))
def health(self: Any, endpoint: str, api_key_name: str | None = None) -> dict[str, Any]:
    """The counts of `celery_runpod.api.Health` and, if the endpoint is paused by hand, `on_hold_since` (seconds since
    1970).

    Raises:
        ApiError: RunPod refused, or did not answer.
    """
    services = services_of(self.app)
    target = target_of(services, endpoint, api_key_name)
    found = asdict(
        asked(target, lambda: target.client.health(target.endpoint, timeout=services.settings.poll_timeout_s))
    )
    since = services.store.holds.on_hold(target.endpoint)
    return found if since is None else {**found, "on_hold_since": since}


@shared_task(bind=True, name=PAUSE, throws=(RunPodError,))
def pause(self: Any, endpoint: str) -> float:
    """Submit nothing to an endpoint ("*": to any) until `runpod.resume`. Returns since when, in seconds since 1970. Looks
    and deliveries go on."""
    services = services_of(self.app)
    since = services.store.holds.hold(_held(services, endpoint), services.clock())
    log.warning("endpoint.paused", extra={"endpoint": endpoint, "since": since})
    return since


@shared_task(bind=True, name=RESUME, throws=(RunPodError,))
def resume(self: Any, endpoint: str) -> bool:
    """End a pause, and make the jobs due that it held back. Returns False if another pause still holds jobs: that of all
    endpoints or, for "*", that of one endpoint."""
    services = services_of(self.app)
    held = _held(services, endpoint)
    services.store.holds.lift(held)
    log.warning("endpoint.resumed", extra={"endpoint": endpoint})
    for one in services.store.endpoints.all() if held == EVERY_ENDPOINT else [held]:
        if services.store.holds.on_hold(one) is None:
            now = services.clock()
            services.store.submits.may_submit(one, now, services.settings.max_in_flight(one), released=True)
            plan_check(services, one, now)
    return (
        not services.store.holds.by_endpoint() if held == EVERY_ENDPOINT else services.store.holds.on_hold(held) is None
    )


def _held(services: Services, endpoint: Any) -> str:
    return EVERY_ENDPOINT if endpoint == EVERY_ENDPOINT else resolved(services, endpoint)[0]


@shared_task(bind=True, name=PURGE_QUEUE, throws=(RunPodError,))
def purge_queue(self: Any, endpoint: str, api_key_name: str | None = None) -> int:
    """Remove every job that waits in an endpoint's queue at RunPod; returns how many. Jobs of this namespace among them
    end with JobPurged. Running jobs, and jobs that are not submitted yet, are not touched.

    Raises:
        PurgeRefused: jobs are being submitted. Nothing was purged.
        ApiError: RunPod refused, or did not answer. RateLimited after two purges in 10 seconds. Unavailable, with `sent`,
            if a worker was lost during the purge: it is not repeated, because other jobs are queued by now.
    """
    services = services_of(self.app)
    target = target_of(services, endpoint, api_key_name)
    if (self.request.delivery_info or {}).get("redelivered"):
        _look(services, target.endpoint, services.store.ids_in(target.endpoint, State.IN_QUEUE))
        raise Unavailable("a worker was lost during the purge; it may have been done", "purge-queue", target.name)
    submitting = services.store.ids_in(target.endpoint, State.SUBMITTING)
    if submitting:
        raise PurgeRefused(target.name, len(submitting))
    if not services.budget.take(target.endpoint, "purge-queue", 1):
        raise RateLimited("two purges in 10 seconds are allowed; it was not sent", "purge-queue", target.name)
    queued = services.store.ids_in(target.endpoint, State.IN_QUEUE)
    before, now = services.store.purges.purged_at(target.endpoint), services.clock()
    # Noted first: a check may see a removed job before RunPod answers here.
    services.store.purges.note_purge(target.endpoint, now)
    try:
        timeout_s = services.settings.poll_timeout_s
        removed = asked(target, lambda: target.client.purge_queue(target.endpoint, timeout=timeout_s))
    except RunPodError as error:
        if isinstance(error, BadAnswer) or (isinstance(error, Unavailable) and error.sent):
            _look(services, target.endpoint, queued)  # it may have been done
        else:
            services.store.purges.note_purge(target.endpoint, before)
        raise
    services.store.purges.note_purge(target.endpoint, services.clock())
    _look(services, target.endpoint, queued)
    log.warning("queue.purged", extra={"endpoint": target.name, "removed": removed, "ours_at_most": len(queued)})
    return removed


def _look(services: Services, endpoint: str, queued: list[str]) -> None:
    """Make these jobs due: checks find out which of them were removed, within the budget."""
    now = services.clock()
    services.store.look_now(endpoint, queued, now)
    plan_check(services, endpoint, now)
