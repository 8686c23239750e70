"""What client and worker must agree on, read from the environment with the standard library alone.

Not the worker's settings: those, with bounds and profiles, are in the worker application's `config/settings.py`.
A web process needs no API key, and nothing here reads one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from celery_runpod.errors import ConfigurationError

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
DEFAULT_NAMESPACE = "runpod"
NAMESPACE_ALLOWED = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
LEAST_SECRET = 16
"""Characters of a webhook secret."""
QUERY_SECRET = re.compile(r"(?i)([?&][^=&\s]*(?:password|passwd|secret|token|key)=)[^&\s]+")
_CERT_REQS = re.compile(r"(?i)(ssl_cert_reqs=)CERT_(\w+)")
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
            ConfigurationError: the namespace has characters that would break queue or key names; a URL is none; or a
                webhook secret is too short.
        """
        env = os.environ if env is None else env
        return cls(
            namespace=check_namespace(env.get("RUNPOD_NAMESPACE") or DEFAULT_NAMESPACE),
            broker_url=_url(env, "RUNPOD_BROKER_URL", "CELERY_BROKER_URL", of_celery=True),
            result_backend=_url(env, "RUNPOD_RESULT_BACKEND", of_celery=True),
            store_url=_url(env, "RUNPOD_STORE_URL"),
            webhook_secret=_secret(env, "RUNPOD_WEBHOOK_SECRET"),
            webhook_secret_previous=_secret(env, "RUNPOD_WEBHOOK_SECRET_PREVIOUS"),
            explicit=any(env.get(name) for name in ("REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL")),
        )


def check_namespace(namespace: str) -> str:
    """The namespace itself, or a `ConfigurationError` that says what is allowed."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"RUNPOD_NAMESPACE is {namespace!r}; allowed: {NAMESPACE_ALLOWED}")
    return namespace


def check_webhook_secret(variable: str, secret: str) -> str:
    """The secret itself, or a `ConfigurationError` that names its variable. A GPU worker sees URLs that it signs, so a
    short one can be found by trying."""
    if len(secret) < LEAST_SECRET:
        raise ConfigurationError(
            f"{variable} has {len(secret)} characters; allowed: at least {LEAST_SECRET}, made at random, "
            "as `openssl rand -hex 32` does"
        )
    return secret


def _secret(env: Mapping[str, str], variable: str) -> str | None:
    return check_webhook_secret(variable, env[variable]) if env.get(variable) else None


def _url(env: Mapping[str, str], *names: str, of_celery: bool = False) -> str:
    """The first URL that is set, `REDIS_URL` at last. What is wrong with it is told without it: it holds a password."""
    name = next((name for name in (*names, "REDIS_URL") if env.get(name)), None)
    if name is None:
        return DEFAULT_REDIS_URL
    url, celerys = env[name], of_celery and name != "REDIS_URL"
    if "://" not in url or not (celerys or url.startswith(REDIS_SCHEMES)) or not has_sound_port(url):
        allowed = "a URL that Celery takes" if celerys else "redis://, rediss:// or unix://"
        raise ConfigurationError(
            f"{name} is no URL that can be used; allowed: {allowed}, as redis://user:password@host:6379/0, with a "
            "password's special characters percent-encoded"
        )
    return url


def has_sound_port(url: str) -> bool:
    """False also where a password with a "/" or "#" that is not encoded ends the URL too early."""
    try:
        return urlsplit(url.split(";", 1)[0]).port != 0
    except ValueError:
        return False


def redis_url(url: str) -> str:
    """A URL as redis-py reads it: `ssl_cert_reqs` has words there that Celery's documentation does not name."""
    return _CERT_REQS.sub(lambda found: f"{found[1]}{found[2].lower()}", url)


def mask_url(url: str) -> str:
    """The URL with its password replaced by `***`; safe for logs and errors."""
    scheme, separator, rest = url.partition("://")
    # By the last "@", not as a URL is read: in a mistaken one the password may hold a "/" or a "#".
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return QUERY_SECRET.sub(r"\1***", f"{scheme}{separator}{user}{colon}{'***' if colon else ''}{at}{place}")
