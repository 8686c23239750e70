"""What client and worker must agree on, read from the environment with the standard library alone.

Not the worker's settings: those, with bounds and profiles, are in the worker application's `config/settings.py`.
A web process needs no API key, and nothing here reads one.

Next: ``contract.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from celery_runpod.errors import ConfigurationError

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_NAMESPACE = "runpod"
NAMESPACE_ALLOWED = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ClientSettings:
    """Shared settings. URLs hold passwords, so no field is shown in the `repr`."""

    namespace: str = DEFAULT_NAMESPACE
    broker_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    result_backend: str = field(default=DEFAULT_REDIS_URL, repr=False)
    store_url: str = field(default=DEFAULT_REDIS_URL, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_secret_previous: str | None = field(default=None, repr=False)
    explicit: bool = False
    """True when the environment names a broker, so that a client app may be made from it."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ClientSettings:
        """Read `REDIS_URL` and the `RUNPOD_*` variables (README, table of settings).

        Raises:
            ConfigurationError: the namespace has characters that would break queue or key names.
        """
        env = os.environ if env is None else env
        redis_url = env.get("REDIS_URL") or DEFAULT_REDIS_URL
        broker_url = env.get("RUNPOD_BROKER_URL") or env.get("CELERY_BROKER_URL") or redis_url
        return cls(
            namespace=check_namespace(env.get("RUNPOD_NAMESPACE") or DEFAULT_NAMESPACE),
            broker_url=broker_url,
            result_backend=env.get("RUNPOD_RESULT_BACKEND") or redis_url,
            store_url=env.get("RUNPOD_STORE_URL") or redis_url,
            webhook_secret=env.get("RUNPOD_WEBHOOK_SECRET") or None,
            webhook_secret_previous=env.get("RUNPOD_WEBHOOK_SECRET_PREVIOUS") or None,
            explicit=any(env.get(name) for name in ("REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL")),
        )


def check_namespace(namespace: str) -> str:
    """The namespace itself, or a `ConfigurationError` that says what is allowed."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"RUNPOD_NAMESPACE is {namespace!r}; allowed: {NAMESPACE_ALLOWED}")
    return namespace


def mask_url(url: str) -> str:
    """The URL with its password replaced by `***`; safe for logs and errors."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
    except ValueError:
        return "(a URL that cannot be read)"
