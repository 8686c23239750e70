"""[6 of 8] runpod.check_status: leases the jobs that are due, submits, polls or ends each, and plans the next check.

A check is a countdown message for all jobs of an endpoint. Each job has a time of its own (``schedule.py``), and the next
check comes at the earliest. A check works on its jobs in parallel, ends before its lease lapses, and gives back the
jobs that it could not look at. It also repeats what is not done yet (``outstanding.py``): cancels that RunPod has not
confirmed, outcomes that were not delivered.

A job whose own verdict is due (``own_verdicts.py``), as at its deadline, is looked at once more first, before all other
looks. Only while RunPod's API does not answer does the verdict come without that last look.

Next: ``schedule.py``.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from celery import shared_task

from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import AT_RUNPOD, State
from celery_runpod._store.store import Begun, Leased
from celery_runpod.api import Job
from celery_runpod.api._large_answers import NoTurn
from celery_runpod.errors import EndpointNotFound, JobNotFound, RunPodError
from tasks import webhook_hints
from tasks.crash_points import Step, reach
from tasks.deliver_here import Outcomes
from tasks.delivery import end_by_answer, end_here, hand_over
from tasks.idempotency import let_expire
from tasks.job_events import progress_of
from tasks.order_of_looks import (
    Granted,
    Known,
    Looks,
    ask_budget,
    of_this_job_alone,
    operation_in_trouble,
    pause_after,
    plan_looks,
    reason_after,
    shared_by_late_calls,
    started_at,
)
from tasks.outstanding import repeat_outstanding
from tasks.own_verdicts import (
    MISSING_S,
    STUCK,
    decide_at,
    expired,
    just_submitted,
    missing,
    outlived_ttl,
    verdict_at,
    verdict_on,
)
from tasks.publish_check import check_times, plan_check, publish_check
from tasks.purge import purge_of
from tasks.runpod_queue import follow_queue
from tasks.schedule import FAILED, backoff_s, look_before, next_look
from tasks.services import Services, apart, once, services_of
from tasks.streaming import ask
from tasks.submit import close_window, submit
from tasks.submit_round import SubmitRound
from tasks.submit_sync import again_at, publish_submit
from tasks.why_queued import WhyQueued

log = logging.getLogger(__name__)

PLACE_S = 8.0
"""A check counts as alive for this long after its last sign of life."""

Work = tuple[Callable[[JobRecord], str | None], JobRecord]


@shared_task(bind=True, name=CHECK_STATUS, ignore_result=True, send_events=False)
def check_status(self: Any, endpoint: str) -> None:
    """Do what is due on this endpoint, and plan the next check."""
    Check(services_of(self.app), endpoint).run()


class Check:
    """One check of an endpoint."""

    def __init__(self, services: Services, endpoint: str) -> None:
        self.store = services.store
        self.endpoint = endpoint
        self.token = str(uuid.uuid4())
        self.started = services.clock()
        self.lease = self.started + services.settings.check_lease_s
        self.stop_at = self.started + services.settings.check_total_s
        self.outcomes = Outcomes(services, self._keep_place)
        self.services = replace(services, takes_outcome=self.outcomes.take)
        self.why_queued = WhyQueued(services, endpoint, self.started)
        self.looks = Looks([], [], self.started, paused=False)
        self.shared: dict[str, JobRecord] = {}
        self.submits = SubmitRound(services, endpoint, [])
        self.max_in_flight = services.settings.max_in_flight(endpoint)
        self.granted = Granted()
        self.known = once(Known)

    def run(self) -> None:
        batch, most_checks = self.services.settings.check_batch, self.services.settings.max_checks
        this = (self.endpoint, self.token, self.started, self.started + PLACE_S)
        begun = self.store.begin_check(*this, batch, most_checks, self.max_in_flight)
        if begun is None:
            return
        try:
            self.granted = ask_budget(self.services, self.endpoint, begun)
            leased = self.store.lease_due(
                self.endpoint,
                self.started,
                self.lease,
                batch,
                looks=self.granted.looks,
                submits=self.granted.submits,
                max_in_flight=self.max_in_flight,
                placed=begun.placed > 0,
            )
            reach(Step.CHECK_LEASED)
            if leased.more:
                plan_check(self.services, self.endpoint, self.started)
            self._work_on(leased, begun)
            repeat_outstanding(self.services, self.endpoint, self.stop_at, self.outcomes.deliver_until_done)
        finally:
            now = self.services.clock()
            publish_at = self.store.end_check(
                self.endpoint,
                self.token,
                now,
                check_times(self.services),
                looks_from=self.granted.looks_from,
                submits_from=self.granted.submits_from,
                max_in_flight=self.max_in_flight,
            )
        reach(Step.CHECK_ENDED)
        publish_check(self.services, self.endpoint, publish_at, now)
        reach(Step.CHECK_PLANNED)

    def _keep_place(self) -> None:
        """Called every few seconds, so that a check that died with its process soon gives up its place."""
        with apart(endpoint=self.endpoint):
            self.store.keep_place(self.endpoint, self.token, self.services.clock() + PLACE_S)

    def _work_on(self, leased: Leased, begun: Begun) -> None:
        jobs = self.store.jobs(self.endpoint, leased.decided, light=leased.looks)
        for gone in {*leased.decided, *leased.looks} - {job.task_id for job in jobs}:
            self.store.forget_due(self.endpoint, gone)
        self.shared = shared_by_late_calls(self.services, self.endpoint, jobs, self.started)
        waiting = [job for job in jobs if job.state is State.WAITING]
        self.submits = SubmitRound(self.services, self.endpoint, waiting, self.granted.submits)
        at_runpod = {job.task_id: job for job in jobs if job.state in AT_RUNPOD or job.task_id in self.shared}
        urgent = [job for job in at_runpod.values() if job.task_id not in leased.looks]
        usual = [job for job in at_runpod.values() if job.task_id in leased.looks]
        looks = self.looks = plan_looks(self.services, self.endpoint, urgent, usual, self.started, begun.paused_until)
        # Read when it is needed first: a look that ends its job needs none of it.
        watched = partial(self.store.watches.among, self.endpoint, at_runpod)
        self.known = once(lambda: replace(self.submits.known(), before=leased.looks, watched=watched()))
        if begun.placed:
            with apart(endpoint=self.endpoint):
                follow_queue(self.services, self.endpoint, self.started)
        work: list[Work] = [(self._poll, job) for job in looks.granted]
        work += [(self._settle, job) for job in jobs if job.task_id not in at_runpod]
        work += [(self._give_back, job) for job in looks.others]
        troubles = set(self.services.side_by_side(self._do, work, self.outcomes.deliver_until_done))
        reach(Step.CHECK_LOOKED)
        if begun.paused_until is not None and not troubles & {"status", "stream"} and looks.granted:
            self.store.pauses.unpause(self.endpoint, "status", begun.paused_until)

    def _give_back(self, job: JobRecord) -> str | None:
        """Put off a job that cannot be looked at now. If looks are paused for long and its verdict is due, end it."""
        until = self.looks.again_at
        if not self.looks.paused or until <= self._patience_ends(job) or not self._end_ours(job, self.started):
            self._put_off(job, until)
        return None

    def _do(self, item: Work) -> str | None:
        """The work on one job. An error puts off this job alone, and it still ends at its deadline."""
        do, job = item
        with apart(task_id=job.task_id, job_id=job.job_id, failures=job.failures + 1):
            return do(job)
        now = self.services.clock()
        with apart(task_id=job.task_id, job_id=job.job_id):
            if self._end_ours(job, now):
                return None
        self._put_off(job, now + backoff_s(job.failures, FAILED, self.services.spread()), failures=job.failures + 1)
        return None

    def _end_ours(self, job: JobRecord, at: float, why_queued: str = "") -> bool:
        """End a job whose own verdict was due at this time; returns whether it was."""
        if (verdict := verdict_on(job, at, why_queued)) is None:
            return False
        end_here(self.services, job, verdict, cancel=True, as_read=True, decided_at=at)
        return True

    def _settle(self, job: JobRecord) -> str | None:
        """Work on a job that RunPod has not accepted, as far as is known."""
        with self.submits.side_by_side, self.outcomes.held():
            now, named = self.services.clock(), job.state is State.SUBMITTING and job.hinted_at is not None
            if job.state is State.JOINED:
                if hand_over(self.services, job) or self._end_ours(job, now):
                    return None
                if (at := let_expire(self.services, job, now)) is not None:
                    self._put_off(job, at)
            elif not (named and now <= self._patience_ends(job)) and self._end_ours(job, now):
                return None
            elif job.state is State.SUBMITTING:
                found = webhook_hints.adopt(self.services, job, self.stop_at)
                if isinstance(found, webhook_hints.Adopted):
                    self._answered(found.job, found.answer, now)
                elif found is not None:
                    self._put_off(job, found)
                elif self._end_ours(job, now):
                    return None
                elif job.window_ends is not None and now < job.window_ends:
                    self._put_off(job, job.window_ends)
                else:
                    close_window(self.services, job)
            elif job.state is State.WAITING:
                if job.options.sync and job.not_before <= now:
                    at = again_at(job, now)
                    publish_submit(self.services, job, at)
                    self._put_off(job, at)
                elif now + self.services.settings.submit_timeout_s > self.stop_at:
                    self._put_off(job, now)
                else:
                    submit(self.services, job, self.lease, self.submits)
        return None

    def _poll(self, job: JobRecord) -> str | None:
        """Ask RunPod; returns the operation for which the API itself is in trouble."""
        timeout_s, began = self.services.settings.poll_timeout_s, self.services.clock()
        if began + timeout_s > self.stop_at:
            self._put_off(job, began)
            return None
        asked = self.shared.get(job.task_id, job)
        try:
            answer = ask(self.services, asked, timeout_s, read=lambda: job.task_id in self.known().watched)
        except NoTurn:
            self._put_off(job, began + 1)
            return None
        except (JobNotFound, EndpointNotFound) as error:
            self._not_found(job, error, began)
            return None
        except RunPodError as error:
            return self._poll_failed(job, error, began)
        if answer is None:
            if began + 1 <= self._patience_ends(job) or not self._end_ours(job, began):
                self._put_off(job, began + 1)
        elif asked is job:
            self._answered(job, answer, began)
        else:
            if answer.final:
                end_by_answer(self.services, asked, answer)
            if not answer.final or not hand_over(self.services, job):
                self._not_ended(job, answer, began)
        return None

    def _answered(self, job: JobRecord, answer: Job, began: float) -> None:
        """Record what /status says of a job."""
        if answer.final:
            end_by_answer(self.services, job, answer)
        elif stuck := webhook_hints.given_up(job, answer, self.services.clock()):
            end_here(self.services, job, stuck, cancel=True, as_read=True)
        else:
            self._not_ended(job, answer, began)

    def _not_ended(self, job: JobRecord, answer: Job, began: float) -> None:
        state = State(answer.state) if answer.state in AT_RUNPOD else None
        # IN_PROGRESS meets the start timeout.
        seen = replace(job, state=state) if state is State.IN_PROGRESS else job
        reason = self.why_queued.of(job) if answer.state == State.IN_QUEUE else ""
        if self._end_ours(seen, began, reason):
            return
        progress, shown = progress_of(answer)
        now = self.services.clock()
        if state is State.IN_PROGRESS and job.started_at is None:
            seen = replace(seen, started_at=started_at(job, answer, now))
        usual_s = self.known().next_look_at(self.services, seen) - now
        due = look_before(now + webhook_hints.pause_s(job, answer, now, usual_s), verdict_at(seen))
        if webhook_hints.stuck(job, answer, now):
            reason = STUCK
        news: dict[str, Any] = {"state": state, "progress": progress, "started_at": seen.started_at}
        if self._observe(job, due, decide_at(seen, due, now), reason=reason, **news):
            if reason:
                shown["reason"] = reason
            if answer.delay_s is not None:
                shown["delay_s"] = answer.delay_s
            self.services.show(job, state or job.state, shown)

    def _poll_failed(self, job: JobRecord, error: RunPodError, began: float) -> str | None:
        """No answer from RunPod says nothing about the job: it stays open until its own deadline."""
        now = self.services.clock()
        log.warning("poll.failed", extra={"task_id": job.task_id, "job_id": job.job_id, "error": str(error)})
        operation = operation_in_trouble(error)
        paused_until = pause_after(self.services, job, operation, error) if operation else now
        due = max(paused_until, self.known().next_look_at(self.services, job))
        self._look_again(job, due, began, reason_after(error), in_vain=not operation and not of_this_job_alone(error))
        return operation

    def _not_found(self, job: JobRecord, error: JobNotFound | EndpointNotFound, began: float) -> None:
        """One 404 does not end a job: a replica may lag, and RunPod may not find an endpoint for some seconds."""
        now = self.services.clock()
        if isinstance(error, JobNotFound):
            if purged := purge_of(self.services, job):
                end_here(self.services, job, purged, as_read=True)
                return
            if outlived_ttl(job, now):
                # For a job that no worker took in its time to live, RunPod answers TIMED_OUT or 404.
                end_by_answer(self.services, job, Job(str(job.job_id), "TIMED_OUT"))
                return
            if just_submitted(job, now, self.services.settings.not_found_grace_s):
                self._look_again(job, self.known().next_look_at(self.services, job), began, "")
                return
        reason, since, sure_at = missing(job, error, now)
        # A call that shares a job ends with that job.
        if now >= sure_at and job.state is not State.JOINED:
            end_here(self.services, job, expired(job, error), cancel=True, as_read=True)
            return
        log.warning("poll.not_found", extra={"task_id": job.task_id, "job_id": job.job_id, "error": str(error)})
        at = max(now + MISSING_S, self.known().next_look_at(self.services, job))
        self._look_again(job, min(at, sure_at), began, reason, missing_since=since)

    def _look_again(
        self,
        job: JobRecord,
        at: float,
        began: float,
        reason: str,
        *,
        missing_since: float | None = None,
        in_vain: bool = False,
    ) -> None:
        """Plan the next look after one without news. A last look is repeated, unless it is `in_vain` or too late."""
        late = began >= verdict_at(job)
        if late and (in_vain or at > self._patience_ends(job)):
            self._end_ours(job, began)
        elif job.state is State.JOINED:
            self._put_off(job, at)
        else:
            due, now = at if late else look_before(at, verdict_at(job)), self.services.clock()
            if self._observe(job, due, decide_at(job, due, now), reason=reason, missing_since=missing_since):
                self.services.show(job, job.state, {"reason": reason})

    def _observe(self, job: JobRecord, due: float, decided_at: float, **news: Any) -> bool:
        """Note what a look has shown; returns whether that is new to the caller."""
        checks, placed = job.checks + 1, self.known().by_place(self.services, job)
        word = self.store.observe(job, self.lease, due, decide_at=decided_at, checks=checks, placed=placed, **news)
        return word == "changed"

    def _patience_ends(self, job: JobRecord) -> float:
        """Until when a due verdict waits for an API in trouble, so that one lost answer does not lose a result."""
        return verdict_at(job) + self.services.settings.poll_timeout_s

    def _put_off(self, job: JobRecord, at: float, *, failures: int | None = None) -> None:
        """Give back a job without news. It is due again at that time, or earlier when its own verdict is due."""
        now = self.services.clock()
        # A verdict that is due but waits must not make the job due again at once, in a loop.
        limits = [by for by in (verdict_at(job), job.expires_at) if by is not None and by > now]
        due = max(next_look(at, *limits), self.started + 0.05)
        self.store.put_off(job, self.lease, due, decide_at=decide_at(job, due, now), failures=failures)
