"""Every kind of canvas under every kind of trouble, drawn from a seed: nothing is lost, doubled or wrong.

`CHAOS_SEED=n` replaces the seed of the first run. A failure prints the seed, the tally, and what is known of each id;
`benchmarks/chaos.py` runs the same for as long as one likes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.driver import chaos_world, run
from tests.chaos.plan import make_plan

SEED = int(os.environ.get("CHAOS_SEED", "20"))


@pytest.mark.timeout(500)
@pytest.mark.parametrize(("seed", "webhooks"), [(SEED, False), (21, True)], ids=["polling", "webhooks"])
def test_nothing_is_lost_doubled_or_wrong(tmp_path: Path, seed: int, webhooks: bool) -> None:
    plan = make_plan(seed, jobs=240, rate=7, break_every_s=0.8, webhooks=webhooks)
    with chaos_world(tmp_path, webhooks=webhooks) as world:
        report = run(world, plan)
        print(report.text())
        assert not report.verdict.findings, report.text()
