"""JobModel: a row of the project's own that is a job, and keeps how the job ended.

    class Picture(JobModel):
        prompt = models.TextField()

    picture = Picture.objects.create(prompt="a cat")
    picture.start_job(sdxl.s(prompt=picture.prompt))

The project's own worker saves the end, by the signal `job_ended`. It saves it once, whether it comes before the row is
committed, or twice. This package has no table: `Job` is what the admin lists, and stands in the job store.

Not here: the signal (``signals.py``); the admin (``admin.py``).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from celery import states
from celery.backends.base import KeyValueStoreBackend
from celery.canvas import Signature
from django.db import models, router, transaction
from django.db.models.signals import class_prepared
from django.dispatch import receiver
from django.utils import timezone
from redis.exceptions import RedisError

from celery_runpod._asking import DEFAULT_TIMEOUT_S, retry
from celery_runpod._on_commit import prepared
from celery_runpod._protocol import RUN
from celery_runpod.django._storable import storable
from celery_runpod.django.signals import job_ended
from celery_runpod.errors import BrokerUnavailable, InvalidInput, JobError, RetryRefused, RunPodError, decode, encode
from celery_runpod.results import JobResult

__all__ = ["Job", "JobModel"]

_log = logging.getLogger(__name__)

_BATCH = 50
"""So many results are read in one round trip: each may be large."""


class JobModel(models.Model):
    """A row that is a job. `start_job` makes it one; so does setting `task_id` by hand to the id of an endpoint's call.

    Fields: `task_id`; `job_state`, empty before `start_job`, then "PENDING", and at the end "SUCCESS", "FAILURE" or
    "REVOKED"; `job_result`, the output; `job_error`, `{"type", "args", "message"}`; `job_ended_at`. How an open job
    stands at the moment is in `job`. Set `keeps_job_result = False` in a class whose results are too large for its
    table, and save what you need in `job_has_ended`.
    """

    keeps_job_result = True

    task_id = models.CharField(max_length=255, null=True, blank=True, unique=True, editable=False)
    job_state = models.CharField(max_length=16, blank=True, default="", editable=False)
    job_result = models.JSONField(null=True, blank=True, editable=False)
    job_error = models.JSONField(null=True, blank=True, editable=False)
    job_ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    _known_task_id: str | None = None
    """The task id that was read from the table, or that `start_job` has just set; empty while it is deferred."""

    _left_as_they_are: frozenset[str] = frozenset()
    """The fields that an UPDATE of this row does not write, while `save` runs."""

    @property
    def job(self) -> JobResult | None:
        """The job: its state, reason and progress at the moment, and `cancel()`. None before `start_job`."""
        return JobResult(self.task_id) if self.task_id else None

    @property
    def job_exception(self) -> RunPodError | None:
        """The error that the job ended with, in its own class; None if there is none."""
        return decode(self.job_error) if self.job_error else None

    def start_job(self, call: Signature, within: Callable[[Signature], Signature] | None = None) -> JobResult:
        """Make this row the job of a call, save it, and publish the call once the current transaction is committed. A row
        that was a job before becomes another one; the former job is not cancelled. Of a row that is in the table already,
        only the fields of the job are saved.

        >>> picture.start_job(sdxl.s(prompt="a cat"), within=lambda job: chain(job, thumbnail.s(picture.pk)))

        Args:
            call: a signature of an endpoint, as `Endpoint.s` makes it.
            within: makes a canvas of it. The row is the call in it, not the whole canvas.

        Returns:
            the result of the call.

        Raises:
            InvalidInput: `call` is no signature of an endpoint.
            InvalidOption, EagerMode: as for `Endpoint.apply_async`.
            BrokerUnavailable: raised by the commit. The row then has this error, unless the broker may have the call.
        """
        if not isinstance(call, Signature) or call.task != RUN:
            raise InvalidInput(
                f"start_job() takes a call of an endpoint, as sdxl.s(...); {type(call).__name__} was given"
            )
        task_id, call = str(uuid.uuid4()), call.clone()
        call.set(task_id=task_id)
        _, publish = prepared(call if within is None else within(call), None)
        self._be(task_id)
        self._known_task_id = task_id
        self.save(update_fields=None if self._state.adding else _FIELDS)
        using = self._state.db

        def publish_or_note() -> None:
            try:
                publish()
            except RunPodError as error:
                if not (isinstance(error, BrokerUnavailable) and error.unconfirmed):
                    type(self)._note_end(task_id, states.FAILURE, None, error)
                raise

        transaction.on_commit(publish_or_note, using=using)
        return JobResult(task_id)

    def retry_job(self, *, force: bool = False, timeout: float | timedelta = DEFAULT_TIMEOUT_S) -> JobResult | None:
        """Run the failed job again, with the chain and links that it had; it is paid for. The row becomes the new job. In
        a transaction a worker is asked once that is committed, and not after a rollback.

        A job that was run again before, and whose row did not hear of it (the answer was lost), is not run once more: the
        row becomes that job now.

        Args:
            force: as for `Endpoint.retry`.

        Returns:
            the result of the new job; None in a transaction: the row has it after the commit (`job`).

        Raises:
            InvalidInput: the row is no job.
            RetryRefused, NoAnswer, BrokerUnavailable: as for `Endpoint.retry`; in a transaction raised by the commit.
                After NoAnswer the job may have been run again: call it once more.
        """
        if not self.task_id:
            raise InvalidInput("this row is no job, so there is none to run again")
        former, using, again = self.task_id, router.db_for_write(type(self), instance=self), []
        transaction.on_commit(lambda: again.append(self._run_again(former, using, force, timeout)), using=using)
        return again[0] if again else None

    def _run_again(self, former: str, using: str, force: bool, timeout: float | timedelta) -> JobResult:
        try:
            again = retry(former, force=force, timeout=timeout)
        except RetryRefused as refused:
            if refused.again_as is None:
                raise
            again = JobResult(refused.again_as)
        self._be(again.id)
        self._known_task_id = again.id
        # Only the row that is still the failed job: another process may have made it another one meanwhile.
        rows = type(self)._base_manager.using(using).filter(pk=self.pk, task_id=former)
        if not rows.update(**{name: getattr(self, name) for name in _FIELDS}):
            self.refresh_from_db(using=using, fields=_FIELDS)
        self._catch_up_or_log()
        return again

    def job_has_ended(self, result: Any, error: RunPodError | None) -> None:
        """For a subclass: called in the project's own worker once the end is saved, in the same transaction. What it
        saves is saved once; if it raises, nothing is saved, and the whole is repeated later."""

    def catch_up_job(self) -> bool:
        """Save the end, if the job has ended and this row does not know it. Nothing needs to call it but code that sets
        `task_id` without `save()`, as `bulk_create` and `update` do. Returns whether the end was saved now.

        Raises:
            redis.exceptions.RedisError: the result backend does not answer.
        """
        found = self._end_of_job()
        saved = found is not None and type(self)._note_end(str(self.task_id), *found)
        if saved:
            self.refresh_from_db(fields=_FIELDS)
        return saved

    @classmethod
    def catch_up_jobs(cls) -> int:
        """`catch_up_job` for each row that is open. The project's own worker does it when it starts, because Celery's
        Redis transport may lose what a killed worker had just taken. A row whose end cannot be read or saved is logged,
        and stops no other. Returns how many ends were saved.

        Raises:
            redis.exceptions.RedisError: the result backend does not answer.
        """
        rows = cls._base_manager.using(router.db_for_write(cls)).filter(task_id__isnull=False, job_ended_at=None)
        ids = list(rows.values_list("task_id", flat=True))
        batches = (_maybe_ended(ids[start : start + _BATCH]) for start in range(0, len(ids), _BATCH))
        saved = 0
        for row in (row for batch in batches for row in rows.filter(task_id__in=batch).only("pk", *_FIELDS)):
            try:
                found = row._end_of_job()
            except RedisError:
                raise
            except Exception:
                _log.exception("the result of the job %s cannot be read", row.task_id)
                continue
            try:
                saved += found is not None and cls._note_end(str(row.task_id), *found)
            except Exception:
                _log.exception("the end of the job %s was not saved", row.task_id)
        return saved

    def _end_of_job(self) -> tuple[str, Any, RunPodError | None] | None:
        """State, output and error of the job, by its stored result; None if it is open, or its end is known here."""
        if not self.task_id or self.job_ended_at:
            return None
        found = JobResult(self.task_id)
        state = found.state
        if state not in states.READY_STATES:
            return None
        error = found.error
        if error is not None and not isinstance(error, RunPodError):
            # Of a step before it, which was the project's own task.
            error = JobError(f"{type(error).__name__}: {error}", task_id=self.task_id)
        return state, None if error else found.result, error

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        """As Django's, whose arguments differ by its version."""
        row = super().from_db(*args, **kwargs)
        row._known_task_id = row.__dict__.get("task_id", "")
        return row

    def refresh_from_db(self, using: str | None = None, fields: Any = None, **kwargs: Any) -> None:
        """As Django's. Django also calls it to read a deferred field."""
        fields = None if fields is None else list(fields)
        super().refresh_from_db(using=using, fields=fields, **kwargs)
        if fields is None or "task_id" in fields:
            self._known_task_id = self.__dict__.get("task_id", "")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's, but it leaves the fields of the job as they are in the table: the job may have ended since this
        row was read. Two ways write them: name them in `update_fields`, or set `task_id`, which makes the row another
        job, or with None no job."""
        update_fields = kwargs.get("update_fields")
        named = set(update_fields or ())
        task_id = self.__dict__.get("task_id", self._known_task_id)  # absent while it is deferred
        by_hand = task_id != self._known_task_id and (update_fields is None or "task_id" in named)
        if by_hand:
            self._be(task_id or None)
        if self._state.adding:
            super().save(*args, **kwargs)
        elif not by_hand:
            self._save_but(_FIELDS - named, *args, **kwargs)
        else:
            using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
            with transaction.atomic(using=using):
                self._save_but(_FIELDS, *args, **kwargs)
                self._become_in_the_table()
        if by_hand:
            self._known_task_id = self.task_id
            # The job may have ended before this row can be found. Its result is stored before its end is published: so
            # either the receiver finds the row, or this finds the result.
            transaction.on_commit(self._catch_up_or_log, using=self._state.db)

    def _save_but(self, left: frozenset[str], *args: Any, **kwargs: Any) -> None:
        """Save, but leave these fields of a row that is in the table as they are."""
        before, self._left_as_they_are = self._left_as_they_are, left
        try:
            super().save(*args, **kwargs)
        finally:
            self._left_as_they_are = before

    def _do_update(self, base_qs: Any, using: Any, pk_val: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
        """Django's UPDATE of `save`. `update_fields` of `save` would not do in its place: Django then refuses to insert a
        row that is not in the table, and tells signals something else."""
        kept = [one for one in values if one[0].name not in self._left_as_they_are]
        return super()._do_update(base_qs, using, pk_val, kept, *args, **kwargs)  # type: ignore[misc]

    def _become_in_the_table(self) -> None:
        """Make the row in the table the job `task_id`, unless it is that already: then its end stays."""
        rows = type(self)._base_manager.using(self._state.db).filter(pk=self.pk)
        others = rows.filter(task_id__isnull=False) if self.task_id is None else rows.exclude(task_id=self.task_id)
        if not others.update(**{name: getattr(self, name) for name in _FIELDS}):
            self.refresh_from_db(using=self._state.db, fields=_FIELDS)

    def _be(self, task_id: str | None) -> None:
        self.task_id, self.job_state = task_id, "" if task_id is None else states.PENDING
        self.job_result = self.job_error = self.job_ended_at = None

    def _catch_up_or_log(self) -> None:
        try:
            self.catch_up_job()
        except (RunPodError, RedisError, OSError) as error:
            _log.warning("whether the job %s has ended is not known: %s", self.task_id, error)

    @classmethod
    def _note_end(cls, task_id: str, state: str, result: Any, error: RunPodError | None) -> bool:
        """Save how a job ended, unless its row knows it, or there is none. Whoever comes first locks the row."""
        using = router.db_for_write(cls)
        stored = None if error is None else storable({**encode(error), "message": str(error)})
        changes = {"job_state": state, "job_error": stored, "job_ended_at": timezone.now()}
        if cls.keeps_job_result:
            changes["job_result"] = None if error else storable(result)
        with transaction.atomic(using=using):
            rows = cls._base_manager.using(using).filter(task_id=task_id, job_ended_at=None)
            # One statement, and not a read before it: it decides who is first on SQLite too, which locks no rows.
            if not rows.update(**changes):
                return False
            cls._base_manager.using(using).get(task_id=task_id).job_has_ended(result, error)
        return True


_FIELDS = frozenset(("task_id", "job_state", "job_result", "job_error", "job_ended_at"))


def _maybe_ended(task_ids: list[str]) -> list[str]:
    """Those of these jobs whose result is stored, or cannot be read, in one round trip."""
    backend = JobResult(task_ids[0]).backend
    if not isinstance(backend, KeyValueStoreBackend):
        return task_ids
    keys = [backend.get_key_for_task(task_id) for task_id in task_ids]
    found: Any = backend.mget(keys)
    stored = [found.get(key) for key in keys] if isinstance(found, Mapping) else found
    return [task_id for task_id, one in zip(task_ids, stored, strict=True) if one and not _says_open(backend, one)]


def _says_open(backend: Any, stored: Any) -> bool:
    try:
        return backend.decode(stored)["status"] not in states.READY_STATES
    except Exception:
        _log.debug("a result cannot be decoded: its row says so")
        return False


class Job(models.Model):
    """What the admin lists: the jobs of the job store. It has no table, and exists for the admin's permissions."""

    task_id = models.CharField(primary_key=True, max_length=255)

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = [("cancel_job", "Can cancel a job"), ("retry_job", "Can run a failed job again")]


@receiver(class_prepared)
def _listen(sender: Any, **_: Any) -> None:
    """The first model of a project that is a job has the ends of calls published to the project's worker."""
    from celery_runpod.django._project_rows import save_end

    if issubclass(sender, JobModel):
        job_ended.connect(save_end, dispatch_uid="celery_runpod.rows")
