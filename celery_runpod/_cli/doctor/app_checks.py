"""`doctor --app`: whether the user's Celery app and the RunPod workers agree on what both must share.

Where workers are up, this looks for their token through the app's own connections
(`celery_runpod/_publish/agreement.py`), as each call does; else it compares the URLs. The app is imported in a process
of its own: a project's packages may be called `config` and `tasks`, as the worker's are, and an import may hang. Run as
a program, this module is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from celery_runpod._cli.doctor.findings import Finding, ok, warning, wrong
from celery_runpod._cli.doctor.server_checks import check_consumers
from celery_runpod._connect import backend_of, broker_of, check_reachable, mask_url
from celery_runpod._protocol import DEFAULT_DEADLINE_S
from celery_runpod._publish.agreement import compare
from celery_runpod._publish.result_expiry import too_short
from celery_runpod.api._durations import in_seconds
from celery_runpod.errors import RunPodError

IMPORT_S = 20.0
SAME_PLACES = "give both the same, or calls and results would never arrive"
MARK = "celery-runpod-app:"
LOOPBACK = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}
PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}


def read_app(where: str) -> dict[str, Any]:
    """The settings of the Celery app at `where` (`package.module:name`), by importing it in this process."""
    from celery.app.utils import find_app

    sys.path.insert(0, os.getcwd())
    app = find_app(where)
    conf = app.conf
    options = {name: conf.get(f"{name}_transport_options") or {} for name in ("broker", "result_backend")}
    return {
        "broker": broker_of(app),
        "backend": backend_of(app),
        "accept_content": sorted(map(str, conf.accept_content or ())),
        "result_accept_content": sorted(map(str, conf.result_accept_content or conf.accept_content or ())),
        "task_serializer": conf.task_serializer,
        "result_serializer": conf.result_serializer,
        "task_protocol": conf.task_protocol,
        "result_expires": in_seconds(conf.result_expires),
        "result_chord_ordered": bool(options["result_backend"].get("result_chord_ordered", True)),
        "broker_keyprefix": options["broker"].get("global_keyprefix") or "",
        "backend_keyprefix": options["result_backend"].get("global_keyprefix") or "",
        "priority_steps": list(options["broker"].get("priority_steps") or (0, 3, 6, 9)),
        "sep": options["broker"].get("sep") or "\x06\x16",
        "default_queue": conf.task_default_queue,
        "imports_client": "celery_runpod" in sys.modules and "celery_runpod.endpoint" in sys.modules,
        "agreement": _agreement(app),
    }


def _agreement(app: Any) -> dict[str, Any]:
    """Whether this app's connections lead to the workers' token: the comparison that each call makes."""
    try:
        check_reachable(app)
        verdict = compare(app)
    except RunPodError:
        return {"agrees": None, "problems": []}
    return {"agrees": verdict.agrees, "problems": [str(problem) for problem in verdict.problems]}


def check_app(where: str, *, broker: str, backend: str, result_expires_s: float) -> list[Finding]:
    """Compare the app with the worker's settings."""
    check = f"app {where}"
    try:
        app = _ask(where)
    except subprocess.TimeoutExpired:
        advice = "something in it waits; an import must not"
        return [wrong(check, f"importing it did not end within {IMPORT_S:g} s", advice)]
    except _CannotImport as error:
        return [
            wrong(check, f"it cannot be imported: {error}", "give it as `celery -A` takes it, from the same folder")
        ]
    found = judge(check, app, broker=broker, backend=backend, result_expires_s=result_expires_s)
    if _place(app["broker"]) == _place(broker):
        # What follows an endpoint goes to that queue, and waits for ever if the project's own worker was forgotten.
        found += check_consumers(broker, [app["default_queue"]])
    return found


def judge(check: str, app: Mapping[str, Any], *, broker: str, backend: str, result_expires_s: float) -> list[Finding]:
    """The findings on an app's settings, as `read_app` gives them."""
    agreement = app.get("agreement") or {}
    # The app's own connections prove more than the text of its URLs.
    found = [wrong(check, problem, SAME_PLACES) for problem in agreement.get("problems", ())]
    places = [("broker", app["broker"], broker), ("result backend", app["backend"], backend)]
    if agreement.get("agrees"):
        found.append(ok(check, "same broker, result backend and job store as the RunPod workers that are up"))
        places = []
    for role, given, workers in places:
        if any(role in one.found for one in found):
            continue
        if _place(given) == _place(workers):
            found.append(ok(check, f"same {role} as the RunPod workers"))
        else:
            here = mask_url(given) if isinstance(given, str) and given else "not set"
            problem = f"its {role} is {here}, the RunPod workers' is {mask_url(workers)}"
            found.append(wrong(check, problem, SAME_PLACES))
    for name in ("accept_content", "result_accept_content"):
        if any(name in one.found for one in found):
            continue
        if not {"json", "application/json"} & set(app[name]):
            problem = f"{name} is {', '.join(app[name]) or 'empty'}: the RunPod workers send JSON"
            found.append(wrong(check, problem, f"add 'json' to {name}"))
    if app["result_serializer"] != "json":
        problem = f"result_serializer is {app['result_serializer']!r}: the RunPod workers read JSON results alone"
        found.append(wrong(check, problem, "set result_serializer = 'json', or chords with other tasks cannot end"))
    if app["task_serializer"] != "json":
        problem = f"task_serializer is {app['task_serializer']!r}; calls to endpoints are sent as JSON anyway"
        found.append(warning(check, problem, "what follows an endpoint must have arguments that JSON can hold"))
    if app["task_protocol"] != 2:
        problem = f"task_protocol is {app['task_protocol']!r}: such messages carry no chain and no chord"
        found.append(wrong(check, problem, "set task_protocol = 2"))
    found += _expiry(check, app["result_expires"], result_expires_s)
    for name, option in (("broker_keyprefix", "broker"), ("backend_keyprefix", "result_backend")):
        if app[name] and not any("global_keyprefix" in one.found for one in found):
            problem = f"{option}_transport_options has global_keyprefix {app[name]!r}, the RunPod workers have none"
            found.append(wrong(check, problem, "take it out: RUNPOD_NAMESPACE and Redis' databases keep things apart"))
    if not app["result_chord_ordered"]:
        problem = "result_chord_ordered is off, and on in the RunPod workers: a chord would never be complete"
        found.append(wrong(check, problem, "take it out of result_backend_transport_options"))
    if app["priority_steps"] != [0, 3, 6, 9] or app["sep"] != "\x06\x16":
        problem = "broker_transport_options has its own priority_steps or sep, the RunPod workers have kombu's"
        found.append(wrong(check, problem, "take them out, or prioritised messages land in queues that nobody reads"))
    if not app["imports_client"]:
        problem = "importing it does not import celery_runpod"
        advice = "import it in every process that publishes or reads results: routes and errors need it"
        found.append(warning(check, problem, advice))
    return found


def _expiry(check: str, here: float | None, workers_s: float) -> list[Finding]:
    if least_s := too_short(here, DEFAULT_DEADLINE_S):
        problem = f"result_expires is {here:g} s, but a job may take {DEFAULT_DEADLINE_S:g} s"
        advice = f"set it to {least_s:g} or more, or give shorter deadlines"
        return [wrong(check, problem, advice)]
    if here != workers_s:
        words = "never" if not here else f"after {here:g} s"
        problem = f"its results expire {words}, those of endpoints after {workers_s:g} s"
        return [warning(check, problem, "set result_expires, or RUNPOD_RESULT_EXPIRES_S, so that both are the same")]
    return [ok(check, f"same result_expires as the RunPod workers ({workers_s:g} s)")]


def _place(url: Any) -> tuple[Any, ...]:
    """What a URL leads to, so that two ways to write it are equal."""
    if not isinstance(url, str) or "://" not in url:
        return (url,)
    first = url.split(";", 1)[0]
    try:
        parts = urlsplit(first)
        scheme = parts.scheme.removeprefix("py")
        host = LOOPBACK.get(parts.hostname or "localhost", parts.hostname)
        path = parts.path.strip("/") or ("0" if scheme.startswith("redis") else "")
        return scheme, host, parts.port or PORTS.get(scheme), path if scheme != "unix" else parts.path
    except ValueError:
        return (first,)


class _CannotImport(Exception):
    pass


def _ask(where: str) -> dict[str, Any]:
    """`read_app` in a process of its own. Drops what the import itself prints."""
    done = subprocess.run(
        [sys.executable, "-m", "celery_runpod._cli.doctor.app_checks", where],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=IMPORT_S,
        check=False,
    )
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            found: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return found
    words = [line for line in done.stderr.splitlines() if line.strip()]
    raise _CannotImport(words[-1].strip() if words else f"exit status {done.returncode}")


if __name__ == "__main__":
    print(MARK + json.dumps(read_app(sys.argv[1]), default=str))
