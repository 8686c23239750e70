"""The project's setting `RUNPOD`: the one place that reads it.

    RUNPOD = {
        "MAY_SEE": "shop.jobs.may_see",
        "NAMESPACE": "shop",
        "WEBHOOK_SECRET": os.environ["SECRET"],
    }

Beside what Django alone has, it takes the environment variables of a process that publishes calls or reads results, by
their names without RUNPOD_. A variable of the same name that is set in the environment goes first. Importing this module
makes them known to the rest of celery_runpod. They are read at each use, so Django's `override_settings` works.

Not here: the settings of the RunPod workers, which are another process and read their own environment (README).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import current_app
from django.conf import settings
from django.utils.module_loading import import_string

from celery_runpod._connect import read_also
from celery_runpod._worker_mark import is_worker
from celery_runpod.errors import ConfigurationError

DJANGOS = {
    "MAY_SEE": "a function, or its path: may_see(request, task_id) says who may see a job",
    "MOST_STREAMS": "how many streams of events a process serves at a time",
}
"""What has no environment variable."""

VARIABLES = {
    "REDIS_URL": "REDIS_URL",
    "BROKER_URL": "RUNPOD_BROKER_URL",
    "RESULT_BACKEND": "RUNPOD_RESULT_BACKEND",
    "STORE_URL": "RUNPOD_STORE_URL",
    "SENTINEL_MASTER_NAME": "RUNPOD_SENTINEL_MASTER_NAME",
    "NAMESPACE": "RUNPOD_NAMESPACE",
    "WEBHOOK_URL": "RUNPOD_WEBHOOK_URL",
    "WEBHOOK_SECRET": "RUNPOD_WEBHOOK_SECRET",
    "WEBHOOK_SECRET_PREVIOUS": "RUNPOD_WEBHOOK_SECRET_PREVIOUS",
}
"""Name in the setting -> environment variable."""

ALLOWED = ", ".join(sorted({**DJANGOS, **VARIABLES}))


def given_settings() -> dict[str, Any]:
    """The setting `RUNPOD`, once its names and the types of its values are checked.

    Raises:
        ConfigurationError: it is no dict, or has an unknown name or a value of a wrong type; no value is shown.
    """
    given = getattr(settings, "RUNPOD", None) if settings.configured else None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigurationError(f"the setting RUNPOD is a {type(given).__name__}; allowed: a dict")
    for name, value in given.items():
        if name not in DJANGOS and name not in VARIABLES:
            hint = "; the settings of the RunPod workers are environment variables of theirs"
            raise ConfigurationError(
                f"the setting RUNPOD has the unknown name {str(name)[:80]!r}; allowed: {ALLOWED}{hint}"
            )
        if name in VARIABLES and value is not None and not isinstance(value, str):
            raise ConfigurationError(f'the setting RUNPOD["{name}"] is a {type(value).__name__}; allowed: a text')
    return given


def variables() -> Mapping[str, str]:
    """The environment variables that the setting stands for; none in a RunPod worker that imports tasks of the project.

    Raises:
        ConfigurationError: as `given_settings`.
    """
    if is_worker(current_app._get_current_object()):
        return {}
    return {VARIABLES[name]: value for name, value in given_settings().items() if name in VARIABLES and value}


read_also(variables)


def may_see_hook() -> Callable[..., Any] | None:
    """The project's function that says who may see a job; None if none is set.

    Raises:
        ConfigurationError: it cannot be imported, or called.
    """
    given = given_settings().get("MAY_SEE")
    try:
        found = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ConfigurationError(f'the setting RUNPOD["MAY_SEE"] is {given!r}: {error}') from None
    if found is not None and not callable(found):
        raise ConfigurationError(f'the setting RUNPOD["MAY_SEE"] is a {type(found).__name__}; allowed: a function')
    return found  # type: ignore[no-any-return]


def most_streams() -> int | None:
    """How many streams a process may have open; None for the default.

    Raises:
        ConfigurationError: it is no whole number.
    """
    given = given_settings().get("MOST_STREAMS")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise ConfigurationError(f'the setting RUNPOD["MOST_STREAMS"] is {given!r}; allowed: a whole number, 0 or more')
    return given
