"""The checks of `doctor` on settings, Redis and the store. Each answers findings, and writes nothing.

Not here: other brokers (``brokers.py``), RunPod (``endpoints_exist.py``), the user's app (``application.py``), printing
(``command.py``).
"""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from celery_runpod._cli.doctor.brokers import check_broker
from celery_runpod._cli.doctor.findings import MASK, SECRET_NAMES, Finding, TookTooLong, ok, warning, within, wrong
from celery_runpod._cli.rows import on_hold
from celery_runpod._connect import COMMAND, REDIS_SCHEMES, connect, mask_url
from celery_runpod._private_names import TRIED, untried
from celery_runpod._publish.bounds import MOST_INPUT_BYTES, MOST_OPEN_JOBS
from celery_runpod._store.open_jobs import Totals
from celery_runpod._store.store import JobStore

if TYPE_CHECKING:
    from config.settings import Settings

REDIS_S = 6.0
"""What a look at one server may take, in seconds."""

MOST_CLOCK_SKEW_S = 1.0
NEARLY_FULL = 0.8
LATE_S = 30.0
"""A call that no worker has accepted for so long: too few workers, or a queue that was purged."""
TROUBLE = (RedisError, OSError, ValueError, TookTooLong)


def known_names() -> dict[str, str]:
    """Environment variable -> field of the worker's settings."""
    from config.settings import Settings

    names = {}
    for field, info in Settings.model_fields.items():
        alias: Any = info.validation_alias
        for name in getattr(alias, "choices", None) or [alias]:
            names[str(name)] = field
    return names


def settings_shown(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Every setting under its first name, as it counts; secrets masked."""
    shown: dict[str, str] = {}
    first_names = {field: name for name, field in reversed(known_names().items())}
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
        if name.startswith("RUNPOD_API_KEY_") and name not in shown:
            shown[name] = env[name] if name.endswith("_FILE") else MASK
        elif name.startswith("RUNPOD_ENDPOINT_") and name.endswith("_API_KEY_NAMES"):
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
    from config.settings import ENDPOINT_PREFIX, KEY_NAMES_SUFFIX

    known, found = known_names(), []
    for name in sorted(env):
        if name.startswith(ENDPOINT_PREFIX) and name.endswith(KEY_NAMES_SUFFIX):
            if (endpoint := name.removesuffix(KEY_NAMES_SUFFIX)) not in env:
                problem = f"{name} lists API key names, and {endpoint} is not set"
                found.append(warning("settings", problem, f"set {endpoint}, or api_key_names in its profile"))
            continue
        if name in known or not name.startswith("RUNPOD_") or name.startswith(("RUNPOD_API_KEY_", "RUNPOD_ENDPOINT_")):
            continue
        if near := difflib.get_close_matches(name, known, 1, 0.9):
            found.append(warning("settings", f"{name} is no setting", f"if {near[0]} is meant, rename it"))
    return found


def check_redis(role: str, url: str) -> list[Finding]:
    """Broker, result backend or store: reached, and set up so that it loses nothing."""
    masked = mask_url(url)
    if not url.startswith(REDIS_SCHEMES):
        return check_broker(role, url)
    try:
        info, latency_s, skew_s = within(REDIS_S, lambda: look_at_redis(url))
    except TROUBLE as error:
        return [_unreachable(role, masked, error)]
    version = info.get("redis_version", "of an unknown version")
    found = [ok(role, f"{masked}: Redis {version}, answers in {latency_s * 1000:.1f} ms")]
    if info.get("role") == "slave":
        found.append(wrong(role, f"{masked} is a replica, which takes no writes", "use the URL of its master"))
    policy = info.get("maxmemory_policy")
    if policy is None:
        found.append(warning(f"{role}: memory", "its maxmemory-policy is not told", "make sure that it is noeviction"))
    elif policy == "noeviction":
        found.append(ok(f"{role}: memory", "maxmemory-policy noeviction"))
    else:
        found.append(
            wrong(
                f"{role}: memory",
                f"maxmemory-policy is {policy}: Redis may throw away messages, results and jobs",
                "set maxmemory-policy noeviction (CONFIG SET, and in redis.conf or your provider's settings)",
            )
        )
    if str(info.get("aof_enabled")) == "1":
        found.append(ok(f"{role}: persistence", "AOF is on"))
    else:
        found.append(
            warning(
                f"{role}: persistence",
                "AOF is off: a crash of Redis loses what came after its last snapshot",
                "set appendonly yes",
            )
        )
    if abs(skew_s) > MOST_CLOCK_SKEW_S:
        problem = f"this machine's clock is {skew_s:+.1f} s off Redis'; at most {MOST_CLOCK_SKEW_S:g} s is allowed"
        found.append(wrong(f"{role}: clock", problem, "set the clock on both machines (NTP)"))
    else:
        found.append(ok(f"{role}: clock", f"{skew_s:+.3f} s off Redis'"))
    return found


def look_at_redis(url: str) -> tuple[dict[str, Any], float, float]:
    """INFO, the seconds of a round trip, and by how many seconds this clock is ahead of Redis'."""
    redis = connect(url, COMMAND)
    info: Any = redis.info()
    began, sent = time.monotonic(), time.time()
    seconds, micros = redis.time()  # type: ignore[misc]
    latency_s = time.monotonic() - began
    return info, latency_s, sent + latency_s / 2 - (seconds + micros / 1e6)


def _unreachable(role: str, masked: str, error: Exception) -> Finding:
    if isinstance(error, AuthenticationError | NoPermissionError):
        return wrong(role, f"{masked} refuses the user or password: {error}", "correct the URL, or the user's rights")
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return wrong(role, f"{masked} cannot be reached: {reason}", "is it running, and is the URL right?")


def check_versions() -> list[Finding]:
    """A warning for each package whose private names are used, and whose release is newer than those that were tried."""
    advice = "run your tests, or pin the version that was tried (requirements.lock of the project)"
    return [
        warning(name, f"{given} is newer than {TRIED[name]}, which was tried", advice)
        for name, given in untried().items()
    ]


def check_store(settings: Settings) -> list[Finding]:
    """The namespace: a worker's heartbeat, and to whom it belongs."""
    reader = JobStore(connect(settings.store_url, COMMAND), settings.namespace)

    def read() -> tuple[list[str], str | None, tuple[int, int], dict[str, float], Totals | None, int]:
        now = time.time()
        workers: Any = reader.redis.zrangebyscore(reader.keys.workers(), now, "+inf")
        identity: Any = reader.redis.get(reader.keys.identity())
        late = reader.outbox.count_kept_calls(now - LATE_S)
        return (
            list(workers),
            identity,
            reader.aside.count_aside(),
            reader.brake.brakes(),
            reader.open_jobs.totals(),
            late,
        )

    try:
        workers, identity, (messages, records), brakes, totals, late = within(REDIS_S, read)
    except TROUBLE as error:
        return [_unreachable("namespace", mask_url(settings.store_url), error)]
    found = []
    if workers:
        found.append(ok("workers", f"{len(workers)} up: {', '.join(sorted(workers)[:10])}"))
    else:
        found.append(warning("workers", "no RunPod worker is up", "start one: celery-runpod worker"))
    if late:
        advice = "start more workers; a purged queue comes back, so cancel its calls: celery-runpod purge --calls"
        found.append(warning("calls", f"{late} calls wait for a worker for over {LATE_S:g} s", advice))
    if messages or records:
        problem = f"{messages} messages and {records} records were put aside: no worker could run or read them"
        found.append(warning("put aside", problem, "look: celery-runpod jobs --aside; then --release ID or --drop ID"))
    found += [warning("submits", on_hold(endpoint, since)) for endpoint, since in sorted(brakes.items())]
    found += _bounds(totals)
    mine = {"broker": mask_url(settings.broker_url), "backend": mask_url(settings.result_backend)}
    begun = json.loads(identity) if identity else mine
    others = [name for name, url in mine.items() if begun.get(name) != url]
    for name in others:
        problem = f"{settings.namespace!r} was begun with the {name} {begun.get(name)}, not {mine[name]}"
        advice = f"choose another RUNPOD_NAMESPACE, or delete the key {reader.keys.identity()} once no job is open"
        found.append(wrong("namespace", problem, advice))
    if not others:
        words = "belongs to this broker and result backend" if identity else "not begun yet"
        found.append(ok("namespace", f"{settings.namespace!r} {words}"))
    return found


def _bounds(totals: Totals | None) -> list[Finding]:
    """How much the namespace holds of what it may hold."""
    if totals is None:
        return []
    found = []
    for what, given, most, setting in (
        ("open jobs", totals.jobs, totals.most_jobs, MOST_OPEN_JOBS),
        ("bytes of input", totals.input_bytes, totals.most_input_bytes, MOST_INPUT_BYTES),
    ):
        told = f"{given} {what} of {most} ({setting})"
        if given >= NEARLY_FULL * most:
            advice = "at the bound every call raises TooManyOpenJobs: let jobs end, or raise it if Redis has the memory"
            found.append(warning("bounds", told, advice))
        else:
            found.append(ok("bounds", told))
    return found


def secrets_in_files(env: Mapping[str, str] | None = None) -> list[str]:
    """The keys that files hold, for the redactor."""
    found = []
    for name, path in (os.environ if env is None else env).items():
        if SECRET_NAMES.search(name) and name.startswith("RUNPOD_") and name.endswith("_FILE"):
            try:
                with open(path) as file:
                    found.append(file.read(4096))
            except (OSError, UnicodeDecodeError):
                continue
    return found
