"""The checks of `doctor` on RunPod: each configured endpoint with its own key, the management API, the webhooks.

The management API is asked only where `RUNPOD_REST_URL` is set: most installations run jobs and create nothing. Not
here: what RunPod's answers mean (`celery_runpod/api/_http_errors.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celery_runpod._cli.doctor.findings import CHECK_S, Finding, TookTooLong, ok, together, warning, within, wrong
from celery_runpod._cli.doctor.settings_checks import configured
from celery_runpod._connect import mask_url
from celery_runpod.api import ManagementClient, RunPodClient
from celery_runpod.api._access import KEY_ADVICE, clear_text_problem
from celery_runpod.api._answers import Health
from celery_runpod.errors import ApiError, ConfigurationError, EndpointNotFound, RateLimited, Unauthorized, Unavailable

if TYPE_CHECKING:
    from config.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUTS: dict[str, Any] = {"connect_timeout": 4, "read_timeout": 8, "total_timeout": 9}
MANAGEMENT = "management API"


def check_runpod(settings: Settings, env: Mapping[str, str]) -> list[Finding]:
    """Ask each configured endpoint for its /health, with its own API key."""
    found: list[Finding] = []
    names: list[str] = []
    calls: list[Callable[[], Health]] = []
    endpoints = configured(settings, env)
    for name, endpoint in endpoints.items():
        profile = settings.profiles.get(name)
        try:
            key = _key(settings, profile.options.api_key_name if profile else None)
        except ConfigurationError as error:
            found.append(wrong(f"endpoint {name}", str(error), KEY_ADVICE))
            continue
        names.append(f"endpoint {name}" if name == endpoint else f"endpoint {name} ({endpoint})")
        calls.append(functools.partial(health, key, settings.base_url, endpoint))
    if not endpoints:
        advice = "name one: RUNPOD_ENDPOINT_<NAME>=id, or a profile in the file of RUNPOD_CONFIG"
        found.append(warning("RunPod", "no endpoint is configured, so RunPod was not asked", advice))
        try:
            _key(settings, None)
        except ConfigurationError as error:
            found.append(wrong("API key", str(error), KEY_ADVICE))
    answers = together(CHECK_S, calls)
    return found + [_judge(name, answer, settings) for name, answer in zip(names, answers, strict=True)]


def _key(settings: Settings, name: str | None) -> str:
    key = settings.key(name)
    if not key or not key.isascii() or any(char.isspace() for char in key):
        raise ConfigurationError(f"the API key{f' {name!r}' if name else ''} is empty, or holds what no key holds")
    return key


def health(key: str, base_url: str, endpoint: str) -> Health:
    """One look at an endpoint."""
    with RunPodClient(key, base_url=base_url, **TIMEOUTS) as client:
        return client.health(endpoint)


def _judge(check: str, answer: Future[Health], settings: Settings) -> Finding:
    try:
        found = answer.result()
    except Unauthorized as error:
        return wrong(check, f"RunPod refuses the API key (HTTP {error.status})", "set a valid key with access to it")
    except EndpointNotFound:
        return wrong(check, "RunPod knows no endpoint of this id", "compare the id with RunPod's console")
    except RateLimited:
        return warning(check, "RunPod answers 429: too many requests just now", "try again in a minute")
    except (Unavailable, TookTooLong) as error:
        problem = f"RunPod at {settings.base_url} cannot be reached: {error}"
        return wrong(check, problem, "look at the network, RUNPOD_BASE_URL, and RunPod's own status page")
    except ApiError as error:
        return wrong(check, f"RunPod refuses: {error}", "is RUNPOD_BASE_URL right? It ends in /v2")
    except Exception as error:
        # The library's text may hold the request, and that the key.
        return wrong(check, f"the request could not be made ({type(error).__name__})", "look at the key and the URL")
    jobs = _counts(found, "in_queue", "in_progress")
    workers = _counts(found, "idle", "running", "initializing", "throttled", "unhealthy")
    reached = f"reached, key accepted; jobs: {jobs}; workers: {workers}"
    if found.unhealthy:
        return warning(check, reached, "look at the unhealthy workers in RunPod's console")
    return ok(check, reached)


def _counts(health: Health, *names: str) -> str:
    return ", ".join(f"{getattr(health, name)} {name.replace('_', ' ')}" for name in names)


def check_management(settings: Settings, env: Mapping[str, str]) -> list[Finding]:
    """List the account's pods once, where `RUNPOD_REST_URL` is set."""
    if not env.get("RUNPOD_REST_URL"):
        return []
    where = f"{mask_url(str(settings.rest_url))} ({settings.rest_version})"
    try:
        pods = within(CHECK_S, lambda: count_pods(settings))
    except Unauthorized as error:
        return [wrong(MANAGEMENT, f"{where} refuses the API key (HTTP {error.status})", "give the key access to it")]
    except RateLimited:
        return [warning(MANAGEMENT, f"{where} answers 429: too many requests just now", "try again in a minute")]
    except (Unavailable, TookTooLong) as error:
        return [wrong(MANAGEMENT, f"{where} cannot be reached: {error}", "look at the network and RUNPOD_REST_URL")]
    except (ApiError, ConfigurationError) as error:
        advice = "does RUNPOD_REST_VERSION belong to RUNPOD_REST_URL, and is the key set?"
        return [wrong(MANAGEMENT, f"{where}: {error}", advice)]
    return [ok(MANAGEMENT, f"{where} reached, key accepted; {pods} pods")]


def count_pods(settings: Settings) -> int:
    """How many pods the account has."""
    key = settings.key()
    version, url = settings.rest_version, settings.rest_url
    with ManagementClient(key, rest_version=version, base_url=url, **TIMEOUTS) as client:
        return len(client.list_pods())


def check_clear_text(settings: Settings) -> list[Finding]:
    """A warning for each URL without TLS that `RUNPOD_ALLOW_HTTP` lets through."""
    urls = {"RUNPOD_BASE_URL": settings.base_url, "RUNPOD_REST_URL": settings.rest_url}
    return [
        warning("clear text", f"{name} {problem}", "use https://, and unset RUNPOD_ALLOW_HTTP")
        for name, url in urls.items()
        if url and (problem := clear_text_problem(url, allow_http=False))
    ]


def check_webhooks(settings: Settings) -> list[Finding]:
    """Whether webhooks are set up, and could arrive."""
    url = settings.webhook_url
    if url is None:
        return [ok("webhooks", "not set up: every job is found by checks alone (RUNPOD_WEBHOOK_URL)")]
    parts, found = urlsplit(url), []
    if parts.hostname in LOOPBACK and urlsplit(settings.base_url).hostname not in LOOPBACK:
        advice = "give the address under which the internet sees your view, or unset RUNPOD_WEBHOOK_URL"
        found.append(wrong("webhooks", f"RunPod cannot reach {parts.hostname}", advice))
    elif parts.scheme == "http" and parts.hostname not in LOOPBACK:
        found.append(warning("webhooks", "the URL is http: outputs cross the internet in clear", "use https"))
    return found or [ok("webhooks", f"set up: {mask_url(url)}")]
