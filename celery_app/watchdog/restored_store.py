"""Notices a store that holds older data than the workers remember: a Redis that was restored from an old snapshot.

In the time that the store has lost, jobs may have been submitted that it takes for waiting ones: submitted again, they
would be paid for twice. Each worker remembers the latest beat that it wrote, in memory and in a small file; after a
restart of Redis nothing is submitted until every living worker has compared. What was begun before the latest beat that
anybody remembers ends with SubmissionUnconfirmed instead of being submitted (or is, with `resubmit`).

Not seen: a restored store where no worker, and no file, is left that remembers; and less than what Redis may lose
anyway (two seconds, with AOF each second).
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from pathlib import Path

from config.settings import Settings
from tasks.services import Services

log = logging.getLogger(__name__)

LOST_S = 2.0
RECONNECT_S = 3.0
"""In so long after Redis is back every living worker has spoken with it (`process.py`: pauses of up to 2.5 s)."""


class Memory:
    """The latest beat that this worker, or one before it on this machine, has written."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.latest = self._read()

    @classmethod
    def of(cls, settings: Settings) -> Memory:
        """One file for each store and namespace. A file of another store of the same address does no harm: what was
        begun later than it remembers is not touched."""
        if settings.state_dir is None:
            return cls(None)
        name = hashlib.sha256(f"{settings.store_url} {settings.namespace}".encode()).hexdigest()[:24]
        return cls(settings.state_dir / f"{name}.beat")

    def keep(self, beat: float) -> None:
        self.latest = max(beat, self.latest or 0.0)
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # In containers that share a volume every worker may have the same process id.
            fresh = self._file.with_suffix(f".{socket.gethostname()}.{os.getpid()}")
            fresh.write_text(repr(self.latest))
            fresh.replace(self._file)
        except OSError as error:
            log.warning("state.not_kept", extra={"file": str(self._file), "error": str(error)})
            self._file = None

    def _read(self) -> float | None:
        try:
            return float(self._file.read_text()) if self._file is not None else None
        except (OSError, ValueError):
            return None


def beat(services: Services, memory: Memory) -> str:
    """Say that this worker is alive; answers as the script `beat`."""
    now = services.clock()
    grace_s = RECONNECT_S + services.settings.selfheal_interval_s
    answer = services.store.beat(now, memory.latest, LOST_S, grace_s)
    if answer == "went_back":
        lost = {"remembered": memory.latest}
        log.critical("store.went_back: it holds older data than this worker remembers", extra=lost)
    elif answer == "ok":
        memory.keep(now)
    return answer
