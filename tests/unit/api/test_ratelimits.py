"""How long to stay away after a 429: what the headers tell, in the order in which they are believed."""

from __future__ import annotations

import pytest

from celery_runpod.api._ratelimits import wait_s

QUOTAS = '"minute";r=0;t=12, "hour";r=2800;t=1812, "day";r=49500;t=45012'
POLICY = '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3", "RateLimit": QUOTAS}, 3.0),
        ({"Retry-After": "soon", "RateLimit": QUOTAS}, 12.0),
        ({"RateLimit": QUOTAS, "RateLimit-Policy": POLICY}, 12.0),
        ({"RateLimit": '"minute";r=0;t=12, "hour";r=0;t=1812'}, 1812.0),
        ({"RateLimit": '"day";r=0;t=45012'}, 3600.0),
        ({"RateLimit": '"minute"; t=12; r=0'}, 12.0),
        ({"RateLimit": '"minute";r=3;t=12', "RateLimit-Policy": POLICY}, 60.0),
        ({"RateLimit-Policy": POLICY}, 60.0),
        ({"RateLimit": '"minute";r=0', "RateLimit-Policy": "nonsense"}, None),
        ({"RateLimit": '"minute";r=0;t=-4'}, None),
        ({"RateLimit": '"minute";r=0;t=1.5'}, None),
        ({"RateLimit": ";" * 100_000}, None),
    ],
)
def test_how_long(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_s(headers) == seconds
