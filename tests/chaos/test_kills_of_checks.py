"""A whole worker is killed while as many checks of one endpoint run in it as may run at once."""

from __future__ import annotations

import signal
import uuid
from pathlib import Path

from tests.chaos.conftest import SHORT_WAITS
from tests.servers import ROOT, World
from tests.waiting import eventually

CHECKS = 4
"""RUNPOD_MAX_CHECKS, by default."""
LEASE_S = 90
WAITS = {
    **SHORT_WAITS,
    "RUNPOD_POLL_TIMEOUT_S": "45",
    "RUNPOD_CHECK_TOTAL_S": "60",
    "RUNPOD_CHECK_LEASE_S": str(LEASE_S),
    "RUNPOD_VISIBILITY_TIMEOUT_S": "180",
}


def test_checks_that_die_with_their_worker_hold_up_their_endpoint_for_seconds_and_not_for_their_lease(
    tmp_path: Path,
) -> None:
    with World(tmp_path, endpoints=["fast=synthetic:duration=0.3"], env=WAITS) as world:
        dies = world.stack.worker("dies", concurrency=CHECKS + 2, cwd=ROOT)
        hang = world.fault(kind="delay", operation="status", seconds=40)
        held = []
        for number in range(1, CHECKS + 1):
            held.append(world.endpoint("fast").delay(n=number))
            # One check for each: the look at this job hangs before the next one is sent.
            eventually(lambda number=number: world.happened(hang) >= number, True, within_s=60)
        assert world.redis.zcard("{runpod:fast}:checks") == CHECKS
        dies.kill(signal.SIGKILL)
        dies.process.wait()
        world.no_faults()
        world.stack.worker("next", concurrency=2, cwd=ROOT)
        mark = uuid.uuid4().hex
        # Far less than the lease of what died: no process can take 45 s for this because the machine is busy.
        assert world.endpoint("fast").delay(mark=mark).get(timeout=LEASE_S / 2) == {"mark": mark}
        for number, result in enumerate(held, 1):
            assert result.get(timeout=2 * LEASE_S) == {"n": number}
        eventually(world.open_jobs, [], within_s=60)
