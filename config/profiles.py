"""Profiles: the endpoints of a project by name, in the TOML file that `RUNPOD_CONFIG` names.

    [endpoints.sdxl]
    id = "9zt0qb3c"
    deadline = 900
    execution_timeout = 300
    api_key_name = "billing-a"
    api_key_names = ["billing-b"]
    max_in_flight = 50
    [endpoints.sdxl.backoff]
    first = 2

Not here: the options themselves and their bounds (`celery_runpod/options.py`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_runpod.errors import ConfigurationError, RunPodError
from celery_runpod.options import Options

S3_FIELDS = frozenset({"accessId", "accessSecret", "bucketName", "endpointUrl", "objectPath"})
"""docs.runpod.io/serverless/endpoints/send-requests: the fields of s3Config; secrets, so by profile only."""

MOST_IN_FLIGHT = 100_000
MOST_KEPT_S = 30 * 86_400
OWN_FIELDS = frozenset({"id", "s3Config", "max_in_flight", "keep_failed_s", "api_key_names"})
"""Fields of a profile that are not options of a call."""


@dataclass(frozen=True)
class Profile:
    """The settings of one endpoint.

    Args:
        id: RunPod's id.
        options: defaults for the options of a call.
        s3_config: sent with each submit.
        max_in_flight: how many jobs may be at RunPod at once; the others wait, in the order of their calls. None: no
            limit.
        keep_failed_s: how many seconds a failed job may be run again by hand. None: as in the settings.
        api_key_names: the API keys that a call may choose instead of the profile's own.
    """

    id: str
    options: Options = field(default_factory=Options)
    s3_config: dict[str, str] | None = field(default=None, repr=False)
    max_in_flight: int | None = None
    keep_failed_s: float | None = None
    api_key_names: frozenset[str] = frozenset()


def load_profiles(path: Path) -> dict[str, Profile]:
    """The profiles in a TOML file.

    Raises:
        ConfigurationError: the file cannot be read, or any profile is wrong; all problems in one text.
    """
    data: dict[str, Any] = {}
    problems: list[str] = []
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"RUNPOD_CONFIG: {path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"RUNPOD_CONFIG: {path} cannot be read: it is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"RUNPOD_CONFIG: {path}: {error}")
    problems += [f"{path}: unknown table {name!r}; allowed: endpoints" for name in data if name != "endpoints"]
    profiles: dict[str, Profile] = {}
    tables = data.get("endpoints", {})
    if not isinstance(tables, dict):
        problems.append(f"{path}: endpoints: a table for each endpoint is needed, as [endpoints.sdxl]")
        tables = {}
    for name, table in tables.items():
        try:
            profiles[name] = _profile(table)
        except RunPodError as error:
            problems.append(f"{path}: endpoints.{name}: {error}")
    if problems:
        raise ConfigurationError("\n  ".join(problems))
    return profiles


def _profile(table: Any) -> Profile:
    if not isinstance(table, dict) or not isinstance(table.get("id"), str) or not table["id"]:
        raise ConfigurationError('needs id = "RunPod\'s endpoint id"')
    s3_config = table.get("s3Config")
    if s3_config is not None and (not isinstance(s3_config, dict) or not set(s3_config) <= S3_FIELDS):
        raise ConfigurationError(f"s3Config: allowed fields: {', '.join(sorted(S3_FIELDS))}")
    most = table.get("max_in_flight")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_IN_FLIGHT):
        raise ConfigurationError(f"max_in_flight: {most!r} given; allowed: a whole number from 1 to {MOST_IN_FLIGHT}")
    keep = table.get("keep_failed_s")
    if keep is not None and (
        isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 <= keep <= MOST_KEPT_S
    ):
        raise ConfigurationError(f"keep_failed_s: {keep!r} given; allowed: 0 to {MOST_KEPT_S} seconds")
    key_names = table.get("api_key_names", [])
    if not isinstance(key_names, list) or not all(isinstance(one, str) and one for one in key_names):
        raise ConfigurationError(f'api_key_names: {type(key_names).__name__} given; allowed: a list of names, as ["a"]')
    if "idempotency_key" in table:
        raise ConfigurationError("idempotency_key: belongs to a call, not to a profile")
    options = Options.parse({name: value for name, value in table.items() if name not in OWN_FIELDS})
    return Profile(table["id"], options, s3_config, most, None if keep is None else float(keep), frozenset(key_names))
