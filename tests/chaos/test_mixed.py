"""Every kind of canvas under every kind of trouble, drawn from a seed: nothing is lost, doubled or wrong.

`CHAOS_SEED=n` replaces the seed. A failure prints the seed, the tally, and what is known of each id;
`benchmarks/chaos.py` runs the same for as long as one likes. The same with webhooks is a file of its own, because a file
is what pytest-xdist hands to a process.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.driver import run_in_a_world

SEED = int(os.environ.get("CHAOS_SEED", "20"))


@pytest.mark.timeout(500)
def test_nothing_is_lost_doubled_or_wrong(tmp_path: Path) -> None:
    report = run_in_a_world(tmp_path, SEED)
    assert not report.verdict.findings, report.text()
