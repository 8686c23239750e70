"""What the user calls an endpoint becomes RunPod's id."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from celery_runpod._cli.endpoint_commands import resolve
from celery_runpod.api import ManagementClient, ServerlessEndpoint
from celery_runpod.errors import InvalidInput


def account(*names: str) -> ManagementClient:
    """One whose endpoints have these names; the id of each is its number."""
    listed = [ServerlessEndpoint(str(number), name) for number, name in enumerate(names)]
    fake: Any = SimpleNamespace(list_endpoints=lambda: listed)
    return cast(ManagementClient, fake)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["llm", "sdxl"], "1"),
        (["llm", "sdxl -fb"], "1"),
        (["sdxl -fb", "sdxl"], "1"),
        (["llm"], "sdxl"),
    ],
)
def test_a_name_also_with_the_end_that_flashboot_gives_it(names: list[str], found: str) -> None:
    assert resolve(account(*names), "sdxl") == found


def test_a_name_of_several_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"0, 1.*give the id"):
        resolve(account("sdxl -fb", "sdxl -fb"), "sdxl")
