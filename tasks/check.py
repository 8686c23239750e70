"""[6 of 8] runpod.check_status: lease what is due on an endpoint, submit, poll or end it, plan the next look.

A check is a countdown message, one for many jobs: each job has its own exponential backoff, and the check comes for
the least due time. It works on its jobs side by side, is over before its lease lapses, and gives back what it could
not look at. It also pays the debts of the endpoint (``debts.py``): cancels not confirmed, outcomes not delivered.

Next: ``backoff.py``.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

from celery import shared_task

from celery_runpod.api import Job as Answer
from celery_runpod.contract import CHECK_STATUS, DAY_S
from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    DeadlineExceeded,
    EndpointNotFound,
    JobError,
    JobExpired,
    JobNotFound,
    RateLimited,
    RunPodError,
    StartTimeout,
    SubmissionUnconfirmed,
    Unavailable,
)
from tasks import hints
from tasks.backoff import backoff_for, delay_s, next_look
from tasks.debts import pay_cancels, publish_undelivered
from tasks.delivery import end_by_answer, end_here, hand_over
from tasks.plan import plan_check
from tasks.purging import purge_of
from tasks.reasons import refusal, why_queued
from tasks.services import Services, services
from tasks.steps import Step, reach
from tasks.store.record import Job
from tasks.store.states import AT_RUNPOD, State
from tasks.submit import close_window, submit

log = logging.getLogger(__name__)


@shared_task(bind=True, name=CHECK_STATUS, ignore_result=True)
def check_status(self: Any, endpoint: str) -> None:
    """Do what is due on this endpoint; ends by planning the next check."""
    Check(services(self.app), endpoint).run()


class Check:
    """One look at an endpoint."""

    def __init__(self, services: Services, endpoint: str) -> None:
        self.services = services
        self.store = services.store
        self.endpoint = endpoint
        self.token = str(uuid.uuid4())
        self.started = services.clock()
        self.lease = self.started + services.settings.check_lease_s
        self.stop_at = self.started + services.settings.check_total_s
        self.why_queued = ""

    def run(self) -> None:
        settings = self.services.settings
        leased = self.store.lease_due(
            self.endpoint, self.token, self.started, self.lease, settings.check_batch, settings.max_checks
        )
        if leased is None:
            return
        ids, more = leased
        reach(Step.CHECK_LEASED)
        try:
            if more:
                plan_check(self.services, self.endpoint, self.started)
            self._look_at(ids)
            pay_cancels(self.services, self.endpoint, self.stop_at)
            publish_undelivered(self.services, self.endpoint)
        finally:
            self.store.end_check(self.endpoint, self.token)
        reach(Step.CHECK_ENDED)
        least = self.store.least_due(self.endpoint)
        if least is not None:
            plan_check(self.services, self.endpoint, least)
        reach(Step.CHECK_PLANNED)

    def _look_at(self, ids: list[str]) -> None:
        jobs = self.store.jobs(self.endpoint, ids)
        for gone in set(ids) - {job.task_id for job in jobs}:
            self.store.forget_due(self.endpoint, gone)
        polls = [job for job in jobs if job.state in AT_RUNPOD and not self._past_end(job)]
        others = [job for job in jobs if job.state not in AT_RUNPOD]
        # A last look before the start timeout, if one can be had.
        polls.sort(key=lambda job: job.start_by if job.state is State.IN_QUEUE and job.start_by else job.end_by)
        granted, retry_at, paused = self._budget(len(polls))
        self.why_queued = why_queued(self.services, polls[:granted], self.started)
        for job in polls[granted:]:
            if not (paused and self._start_is_late(job, job.state)):
                self._again(job, retry_at)
        work: list[tuple[Callable[[Job], str | None], Job]] = [(self._poll, job) for job in polls[:granted]]
        work += [(self._settle, job) for job in others]
        troubles = set(self.services.pool.map(lambda item: item[0](item[1]), work))
        reach(Step.CHECK_LOOKED)
        if "status" not in troubles and granted:
            self.store.unpause(self.endpoint, "status")

    def _budget(self, wanted: int) -> tuple[int, float, bool]:
        """How many polls may be made, when the others may be tried, and whether polling is paused."""
        until = self.store.paused_until(self.endpoint, "status")
        if until is not None and until > self.started:
            return 0, until, True
        granted = self.services.budget.take(self.endpoint, "status", wanted) if wanted else 0
        return granted, self.started + 1 + self.services.spread(), False

    def _past_end(self, job: Job) -> bool:
        """Deadlines are judged before, and without, a word from RunPod: it may be down."""
        now = self.services.clock()
        if now < job.end_by:
            return False
        # An unanswered submit is told as one: RunPod may be running the job, and its idempotency key stays taken.
        late = _unanswered(job) if job.state is State.SUBMITTING else _deadline_exceeded(job)
        end_here(self.services, job, late, cancel=True)
        return True

    def _settle(self, job: Job) -> str | None:
        """A job that is not in RunPod's hands, as far as anybody knows."""
        now = self.services.clock()
        if self._past_end(job):
            return None
        if job.state is State.JOINED:
            if not hand_over(self.services, job):
                self._again(job, job.end_by)
        elif job.state is State.SUBMITTING:
            # Its start timeout is judged once it is known whether RunPod has the job.
            found = hints.adopt(self.services, job, self.stop_at)
            if isinstance(found, hints.Adopted):
                self._told(found.job, found.answer)
            elif found is not None or (job.window_ends is not None and now < job.window_ends):
                due = next_look(job.end_by, found or job.window_ends)
                self.store.observe(job, self.lease, due, now, reason=job.reason)
            else:
                close_window(self.services, job, self.lease)
        elif job.start_by is not None and now >= job.start_by:
            end_here(self.services, job, _start_timeout(job), cancel=True)
        elif job.state is State.WAITING:
            post_s = self.services.settings.submit_timeout_s
            if now + post_s > self.stop_at:
                self._again(job, now)
            else:
                submit(self.services, job, self.lease, sync_wait_s=max(1.0, post_s - 10))
        return None

    def _poll(self, job: Job) -> str | None:
        """Ask RunPod; answers "status" if the API itself is in trouble."""
        timeout_s = self.services.settings.poll_timeout_s
        if self.services.clock() + timeout_s > self.stop_at:
            self._again(job, self.services.clock())
            return None
        try:
            client = self.services.client(job.api_key_name)
            answer = client.status(job.endpoint, str(job.job_id), timeout_s=timeout_s)
        except (JobNotFound, EndpointNotFound) as error:
            self._not_found(job, error)
            return None
        except RunPodError as error:
            return self._poll_failed(job, error)
        self._told(job, answer)
        return None

    def _told(self, job: Job, answer: Answer) -> None:
        """What /status says of a job."""
        if answer.final:
            end_by_answer(self.services, job, answer)
            return
        if self._start_is_late(job, answer.state):
            return
        if stuck := hints.given_up(job, answer, self.services.clock()):
            end_here(self.services, job, stuck, cancel=True)
            return
        state = State(answer.state) if answer.state in AT_RUNPOD else None
        progress = json.dumps(answer.output) if state is State.IN_PROGRESS and answer.output is not None else ""
        now, checks = self.services.clock(), job.checks + 1
        due = self._next_poll(job, answer)
        reason = self.why_queued if answer.state == State.IN_QUEUE and job.state is State.IN_QUEUE else ""
        if hints.stuck(job, answer, now):
            reason = hints.STUCK
        word = self.store.observe(
            job, self.lease, due, now, state=state, checks=checks, progress=progress, reason=reason
        )
        if word == "changed":
            shown: dict[str, Any] = {"progress": answer.output} if progress else {}
            if reason:
                shown["reason"] = reason
            if answer.delay_s is not None:
                shown["delay_s"] = answer.delay_s
            self.services.show(job, state or job.state, shown)

    def _poll_failed(self, job: Job, error: RunPodError) -> str | None:
        """No word from RunPod is no word on the job: it stays open until its own deadline."""
        now = self.services.clock()
        log.warning("poll.failed", extra={"task_id": job.task_id, "job_id": job.job_id, "error": str(error)})
        if self._start_is_late(job, job.state):
            return "status"
        in_trouble = isinstance(error, RateLimited) or (isinstance(error, Unavailable) and error.status != 404)
        due = self._next_poll(job)
        if in_trouble:
            after = error.retry_after_s if isinstance(error, RateLimited) else None
            until = self.store.pause(self.endpoint, "status", now, after, self.services.spread())
            due = next_look(max(due, until), job.start_by, job.end_by)
        reason = "" if isinstance(error, BadAnswer) else "API_DOWN" if in_trouble else refusal(error)
        word = self.store.observe(job, self.lease, due, now, checks=job.checks + 1, reason=reason)
        if word == "changed":
            self.services.show(job, job.state, {"reason": reason})
        return "status" if in_trouble else None

    def _not_found(self, job: Job, error: ApiError) -> None:
        """A 404 right after the submit is a replica that lags; later, RunPod no longer keeps the job."""
        if purged := purge_of(self.services, job):
            end_here(self.services, job, purged)
            return
        now = self.services.clock()
        submitted_at, ttl_s = job.submitted_at or job.accepted_at, job.options.ttl or DAY_S
        if job.state is State.IN_QUEUE and now >= submitted_at + ttl_s:
            # Some answer TIMED_OUT for a job that was never taken in its time to live, some 404.
            end_by_answer(self.services, job, Answer(str(job.job_id), "TIMED_OUT"))
            return
        if now < submitted_at + self.services.settings.not_found_grace_s:
            self.store.observe(job, self.lease, self._next_poll(job), now, checks=job.checks + 1)
            return
        problem = f"RunPod does not know this job any more ({error.message}): it expired there, or was lost"
        end_here(self.services, job, JobExpired(problem, job.name, job.task_id, job.job_id))

    def _start_is_late(self, job: Job, state: str) -> bool:
        now = self.services.clock()
        if job.start_by is None or now < job.start_by or state == State.IN_PROGRESS:
            return False
        end_here(self.services, job, _start_timeout(job, self.why_queued), cancel=True)
        return True

    def _next_poll(self, job: Job, answer: Answer | None = None) -> float:
        webhook = self.services.has_webhook(job)
        backoff = backoff_for(job.options.backoff, webhook=webhook, sync=bool(job.options.sync))
        now, wait_s = self.services.clock(), delay_s(job.checks + 1, backoff, self.services.spread())
        at = now + (wait_s if answer is None else hints.delay_s(job, answer, now, wait_s))
        start_by = job.start_by if job.state is State.IN_QUEUE else None
        return next_look(at, start_by, job.end_by)

    def _again(self, job: Job, at: float) -> None:
        """Give back what this check could not look at."""
        now = self.services.clock()
        # A start timeout that has passed is judged after a look, and must not make the job due at once for ever.
        start_by = job.start_by if job.state is not State.IN_PROGRESS and now < (job.start_by or 0.0) else None
        due = next_look(at, start_by, job.end_by)
        self.store.observe(job, self.lease, max(due, self.started + 0.05), now, reason=job.reason)


def _deadline_exceeded(job: Job) -> JobError:
    if job.reason == hints.STUCK:
        return hints.status_stuck(job)
    deadline_s = job.end_by - max(job.accepted_at, job.not_before)
    why = f" ({job.reason})" if job.reason else ""
    problem = f"the job did not end within {deadline_s:g} s; last state {job.state}{why}"
    return DeadlineExceeded(problem, job.name, job.task_id, job.job_id, deadline_s)


def _unanswered(job: Job) -> JobError:
    problem = f"submit {job.attempt} got no answer before the deadline, and whether RunPod took it is not known"
    return SubmissionUnconfirmed(problem, job.name, job.task_id)


def _start_timeout(job: Job, why_queued: str = "") -> JobError:
    start_timeout_s = (job.start_by or job.end_by) - max(job.accepted_at, job.not_before)
    reason = why_queued or job.reason
    why = f" ({reason})" if reason else ""
    problem = f"no RunPod worker took the job within {start_timeout_s:g} s{why}"
    return StartTimeout(problem, job.name, job.task_id, job.job_id, start_timeout_s)
