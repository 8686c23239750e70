"""The checks of `doctor` on the environment: the settings as they count, names that are mistyped, releases not tried.

Not here: whether the settings are within their bounds (`config/settings.py` of the worker).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery_runpod._cli.doctor.findings import MASK, SECRET_NAMES, Finding, warning
from celery_runpod._connect import mask_url
from celery_runpod._private_names import TRIED, untried

if TYPE_CHECKING:
    from config.settings import Settings


def settings_shown(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Each setting under its first name, with the value that counts; secrets are masked."""
    from config.settings import ENDPOINT_PREFIX, KEY_NAMES_SUFFIX, KEY_PREFIX, VARIABLES

    shown: dict[str, str] = {}
    first_names = {field: name for name, field in reversed(VARIABLES.items())}
    for field, name in reversed(first_names.items()):
        value: Any = getattr(settings, field)
        if hasattr(value, "get_secret_value"):
            secret = value.get_secret_value()
            value = mask_url(secret) if "://" in secret else MASK
        elif value is None or value == ():
            value = "-"
        elif isinstance(value, str):
            value = mask_url(value)
        shown[name] = str(value)
    for name in sorted(env):
        if name.startswith(KEY_PREFIX) and name not in shown:
            shown[name] = env[name] if name.endswith("_FILE") else MASK
        elif name.startswith(ENDPOINT_PREFIX) and name.endswith(KEY_NAMES_SUFFIX):
            shown[name] = env[name]
    for name, endpoint in configured(settings, env).items():
        shown[f"endpoint {name}"] = endpoint
    return shown


def configured(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Endpoint name -> RunPod's id: the profiles, and the variables `RUNPOD_ENDPOINT_<NAME>`."""
    from config.settings import ENDPOINT_PREFIX, is_endpoint_variable

    found = {name: profile.id for name, profile in settings.profiles.items()}
    for variable, value in sorted(env.items()):
        if is_endpoint_variable(variable) and value:
            found.setdefault(variable.removeprefix(ENDPOINT_PREFIX).lower(), value)
    return found


def check_names(env: Mapping[str, str]) -> list[Finding]:
    """Variables that look like a mistyped setting."""
    from config.settings import ENDPOINT_PREFIX, KEY_NAMES_SUFFIX, KEY_PREFIX, VARIABLES

    found = []
    for name in sorted(env):
        if name.startswith(ENDPOINT_PREFIX) and name.endswith(KEY_NAMES_SUFFIX):
            if (endpoint := name.removesuffix(KEY_NAMES_SUFFIX)) not in env:
                problem = f"{name} lists API key names, and {endpoint} is not set"
                found.append(warning("settings", problem, f"set {endpoint}, or api_key_names in its profile"))
            continue
        if name in VARIABLES or not name.startswith("RUNPOD_") or name.startswith((KEY_PREFIX, ENDPOINT_PREFIX)):
            continue
        if near := difflib.get_close_matches(name, VARIABLES, 1, 0.9):
            found.append(warning("settings", f"{name} is no setting", f"if {near[0]} is meant, rename it"))
    return found


def check_versions() -> list[Finding]:
    """A warning for each package whose private names are used, and whose release is newer than those that were tried."""
    advice = "run your tests, or pin the version that was tried (requirements.lock of the project)"
    return [
        warning(name, f"{given} is newer than {TRIED[name]}, which was tried", advice)
        for name, given in untried().items()
    ]


def secrets_in_files(env: Mapping[str, str]) -> list[str]:
    """The keys that files hold, for the redactor."""
    found = []
    for name, path in env.items():
        if SECRET_NAMES.search(name) and name.startswith("RUNPOD_") and name.endswith("_FILE"):
            try:
                with open(path) as file:
                    found.append(file.read(4096))
            except (OSError, UnicodeDecodeError):
                continue
    return found
