"""`test_mixed.py` with webhooks, which are lost, doubled, late and early too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.driver import run_in_a_world

SEED = 21


@pytest.mark.timeout(500)
def test_nothing_is_lost_doubled_or_wrong_with_webhooks(tmp_path: Path) -> None:
    report = run_in_a_world(tmp_path, SEED, webhooks=True)
    assert not report.verdict.findings, report.text()
