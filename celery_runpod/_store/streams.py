"""The chunks that a handler yields, in one Redis Stream a job: written by workers, read by everybody.

RunPod gives each chunk once, without a number. So a look is noted before the request, and ended in the step that keeps
its chunks; a look that was never ended is a gap. Each process remembers the last entry that it knows of: if Redis has
lost it (the last second before a crash, a failover), that is a gap too. The stream is bounded in number and bytes: the
oldest chunks go first.

Not here: when RunPod is asked (`tasks/streaming.py`), and how a caller reads (`celery_runpod/_live/chunks.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.store_part import Part

MOST_CHUNKS = 20_000
MOST_BYTES = 16_000_000
"""Of one job. RunPod itself loses a result over about 20 MB."""
KEPT_S = 3600
"""How long the chunks of a job that has ended can be read."""
MOST_KNOWN = 1000
START = "0-0"
"""Before the first entry."""
BATCH = 500


@dataclass(frozen=True)
class Entry:
    """One entry of a stream. `kind`: "chunk", "gap" (chunks may be missing here) or "retry" (another run of the handler
    begins); `text` is the chunk's JSON; `number` counts the entries of a run from 1, and is 0 for "retry"."""

    id: str
    run: str
    attempt: int
    number: int
    kind: str
    text: str = ""

    def follows(self, other: Entry | None) -> bool:
        """Whether no entry is missing between the other one and this one; None: this is to be the first of all."""
        if self.number == 0:
            return True
        if other is None:
            return self.number == 1 and self.attempt == 1
        return self.run == other.run and self.number == other.number + 1


@dataclass(eq=False)
class Streams(Part):
    """The streams of all jobs."""

    _newest: dict[tuple[str, str], str] = field(default_factory=dict)
    """Task id and run -> the id of the last entry that this process knows of; of the latest `MOST_KNOWN`."""

    def begin_look(self, job: JobRecord, token: str, now: float, over_by: float) -> str:
        """Note that RunPod is about to be asked; the request is over at `over_by`. Answers in the words of
        ``scripts/begin_stream_look.lua``."""
        known = self._newest.get((job.task_id, _run(job)))
        about = self._about(job, now)
        return self.scripts.word("begin_stream_look", token=token, now=now, over_by=over_by, known=known, **about)

    def end_look(self, job: JobRecord, token: str, chunks: Sequence[str], now: float, *, gap: bool = False) -> str:
        """Keep the chunks (JSON) that this look has brought. `gap`: others may be lost. Answers in the words of
        ``scripts/end_stream_look.lua``."""
        about = self._about(job, now)
        word, newest = self.scripts.run("end_stream_look", token=token, gap=gap, chunks=chunks, **about)
        if newest:
            self._newest.pop((job.task_id, _run(job)), None)
            self._newest[job.task_id, _run(job)] = str(newest)
            for oldest in list(self._newest)[:-MOST_KNOWN]:
                self._newest.pop(oldest, None)
        return str(word)

    def _about(self, job: JobRecord, now: float) -> dict[str, Any]:
        return {
            "job": job,
            "run": _run(job),
            "most": MOST_CHUNKS,
            "most_bytes": MOST_BYTES,
            # Without `stream=True` nobody reads the chunks; they are kept only until the end is built from them.
            "ttl": self.lives.index_s(job, now) if job.options.stream else KEPT_S,
        }

    def read(
        self, places: Iterable[tuple[str, str, str]], *, count: int = BATCH, block_s: float = 0.0
    ) -> dict[tuple[str, str], list[Entry]]:
        """The next entries of several jobs, at most `count` each, in one round trip. A place is endpoint, task id and the
        id of the last entry that is known; the answer has those jobs alone that have more. With `block_s` it waits so
        long where none has."""
        by_key = {
            self.keys.stream(endpoint, task_id): (endpoint, task_id, after) for endpoint, task_id, after in places
        }
        if not by_key:
            return {}
        wanted = {key: after for key, (_, _, after) in by_key.items()}
        found: Any = self.redis.xread(wanted, count=count, block=round(block_s * 1000) or None)  # type: ignore[arg-type]
        answer = {}
        for key, entries in found or ():
            endpoint, task_id, _ = by_key[key]
            answer[endpoint, task_id] = [_entry(*one) for one in entries]
        return answer

    def newest(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entry | None]:
        """The last entry of each of these jobs (endpoint, task id), in one round trip; None where there is none."""
        wanted = list(places)
        with self.redis.pipeline(transaction=False) as pipe:
            for endpoint, task_id in wanted:
                pipe.xrevrange(self.keys.stream(endpoint, task_id), count=1)
            found = pipe.execute()
        return {place: _entry(*some[0]) if some else None for place, some in zip(wanted, found, strict=True)}

    def holds(self, endpoint: str, task_id: str, entry_id: str) -> Entry | None:
        """The entry of this id, if it is kept."""
        found: Any = self.redis.xrange(self.keys.stream(endpoint, task_id), entry_id, entry_id, count=1)
        return _entry(*found[0]) if found else None

    def noted(self, endpoint: str, task_id: str) -> int:
        """How many entries there were when the job ended; 0 where that is not noted (yet)."""
        found: Any = self.redis.hmget(self.keys.job(endpoint, task_id), ["state", "stream"])
        return int(found[1] or 0) if found[0] == State.DELIVERED else 0

    def of_this_run(self, job: JobRecord) -> tuple[list[str], bool]:
        """The chunks (JSON) of the job's latest attempt, and whether these are all that RunPod has given."""
        chunks: list[str] = []
        number, after, known = 0, START, self._newest.get((job.task_id, _run(job)))
        whole = known is None or self.holds(job.endpoint, job.task_id, known) is not None
        while some := self.read([(job.endpoint, job.task_id, after)]).get((job.endpoint, job.task_id)):
            for entry in some:
                if entry.run == _run(job) and entry.number:
                    whole = whole and entry.kind == "chunk" and entry.number == number + 1
                    number = entry.number
                    chunks += [entry.text] if entry.kind == "chunk" else []
            after = some[-1].id
        return chunks, whole

    def ended(self, job: JobRecord) -> int:
        """The job has ended: its chunks are kept for `KEPT_S` from now on. Returns how many entries there are."""
        key = self.keys.stream(job.endpoint, job.task_id)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.xlen(key)
            pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])


def _run(job: JobRecord) -> str:
    return f"{job.generation}.{job.attempt}"


def _entry(entry_id: str, fields: dict[str, str]) -> Entry:
    kind = next((one for one in ("chunk", "gap", "retry") if one in fields), "gap")
    text = fields["chunk"] if kind == "chunk" else ""
    return Entry(entry_id, fields["run"], int(fields["attempt"]), int(fields["n"]), kind, text)
