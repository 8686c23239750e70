"""The check of `doctor` on RunPod's management API: reached, and the key accepted, where it is used.

It is asked only where `RUNPOD_REST_URL` is set: most installations run jobs and create nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery_runpod._cli.doctor.findings import Finding, TookTooLong, ok, warning, within, wrong
from celery_runpod._connect import mask_url
from celery_runpod.api import ManagementClient
from celery_runpod.errors import ApiError, ConfigurationError, RateLimited, Unauthorized, Unavailable

if TYPE_CHECKING:
    from config.settings import Settings

LOOK_S = 12.0
CHECK = "management API"


def check_rest(settings: Settings, env: Mapping[str, str]) -> list[Finding]:
    """One listing of the account's pods, where `RUNPOD_REST_URL` is set."""
    if not env.get("RUNPOD_REST_URL"):
        return []
    where = f"{mask_url(str(settings.rest_url))} ({settings.rest_version})"
    try:
        pods = within(LOOK_S, lambda: count_pods(settings))
    except Unauthorized as error:
        return [wrong(CHECK, f"{where} refuses the API key (HTTP {error.status})", "give the key access to it")]
    except RateLimited:
        return [warning(CHECK, f"{where} answers 429: too many requests just now", "try again in a minute")]
    except (Unavailable, TookTooLong) as error:
        return [wrong(CHECK, f"{where} cannot be reached: {error}", "look at the network and RUNPOD_REST_URL")]
    except (ApiError, ConfigurationError) as error:
        advice = "does RUNPOD_REST_VERSION belong to RUNPOD_REST_URL, and is the key set?"
        return [wrong(CHECK, f"{where}: {error}", advice)]
    return [ok(CHECK, f"{where} reached, key accepted; {pods} pods")]


def count_pods(settings: Settings) -> int:
    """How many pods the account has."""
    key = settings.key()
    with ManagementClient(
        key,
        rest_version=settings.rest_version,
        base_url=settings.rest_url,
        connect_timeout_s=4,
        read_timeout_s=8,
        total_timeout_s=9,
    ) as client:
        return len(client.list_pods())
