"""The names of Celery, kombu and amqp that this project uses though they are private there, and why.

    private name                                        used in               why
    celery Worker._process_task, _quick_release,        overrides/consumer    what the pool does not take ends its task,
      pool._pool, its _cache, job._payload                                    and frees its place there
    kombu Connection._default_channel                   overrides/consumer    a lost channel puts no message back
    celery RedisBackend._create_client,                 overrides/backend     a chord outlives a Redis that is away, and
      _chord_cleanup_script                                                   keeps its counter until it is joined
    celery AMQP._create_task_sender                     overrides/amqp        no queue of the user's is declared anew
    kombu.transport.redis.loads, Transport._deliver     overrides/envelopes   broken envelopes are measured first
    kombu Channel._lookup, _q_for_pri,                  lost_calls, refusals  which list holds a message
      _get_message_priority
    celery Backend._get_result_meta, _get_task_meta     events, results       a state in Celery's own form
    celery._state._get_active_apps,                     clienttask, routing,  the client task in every app
      connect_on_app_finalize, app._tasks               forks
    celery current_app._get_current_object              clientapp, routing    the app behind the proxy
    celery Task._get_exec_options                       routing               the options that a class declares
    celery app._pool, amqp._producer_pool,              forks                 a forked child connects anew
      kombu Resource._resource, _dirty
    amqp Channel._basic_publish, _confirm_selected      confirms              confirms that can be waited for

Overridden methods that are public stand in `celery_app/overrides/` and in these modules alone. Doctor warns of a package
that is newer than the version in `TRIED`.
"""

from __future__ import annotations

from importlib.metadata import version

TRIED = {"celery": "5.7", "kombu": "5.7", "amqp": "5.4", "redis": "7.4"}
"""Package -> the newest release, as far as its first two numbers, with which the whole suite was run."""


def untried() -> dict[str, str]:
    """Package -> its installed version, of those that are newer than what was tried."""
    found = {name: version(name) for name in TRIED}
    return {name: given for name, given in found.items() if release(given) > release(TRIED[name])}


def release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
