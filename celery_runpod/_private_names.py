"""The private names of other packages that this project uses, and why.

    private name                                    used in                  why
    celery Worker._process_task, _quick_release,    loss_tolerant_consumer   a message that the pool refuses ends its
      pool._pool, its _cache, job._payload                                   task, and its place in the pool is freed
    kombu Connection._default_channel               loss_tolerant_consumer   a lost channel puts no message back
    celery RedisBackend._create_client,             chord_keeping            a chord survives while Redis is away, and
      _chord_cleanup_script                                                  keeps its counter until it is joined
    celery Backend._fail_chain                      chord_keeping            a lane's failure reaches its chord
    celery asynpool.ResultHandler._recv_message     whole_results            a message of a child is read to its end
    celery Request._eventer                             unrevoked_request     a job's events are those of one task
    kombu.transport.redis.Channel._create_client        redis_shortcuts       one client for each channel
    redis ConnectionPool.get_connection's wrapper       redis_shortcuts       a checkout collects no arguments
    celery AMQP._create_task_sender                 callers_queues           queues of the user are not declared again
    kombu.transport.redis.loads,                    envelopes                broken envelopes are measured first
      Transport._deliver
    kombu Channel._lookup, _q_for_pri,              lost_calls, refusals     which list holds a message
      _get_message_priority
    celery Backend._get_result_meta,                events, results          a state in Celery's own form
      _get_task_meta
    celery AsyncResult._cache, _set_cache           results                  a REVOKED task reads as JobCancelled
    celery._state._get_active_apps,                 client_tasks, routes,    client tasks in every app
      connect_on_app_finalize, app._tasks           forks, _stand_ins,
                                                    caller_task, _errback_task
    celery._state._set_task_join_will_block,        _stand_ins               two threads with eager tasks
      task_join_will_block
    celery.canvas._chain, _chord                    _stand_ins               a failed chain returns, as in production
    celery app._backend_cache, _local               local_servers            a test's app uses another Redis
    celery Backend._ensure_not_eager                _stand_ins               results in eager mode without a warning
    celery current_app._get_current_object          _connect, routes         the app behind the proxy
    celery Task._get_exec_options                   caller_task, routes      the options that a task's class declares
    celery app._pool, amqp._producer_pool,          forks                    a forked child makes new connections
      kombu Resource._resource, _dirty
    asgiref SyncToAsync.thread_sensitive_context,   _job_views               an open stream keeps no thread
      context_to_thread_executor, _executor
    tornado Loader._create_template                 flower (in config)       Flower offers to cancel each open job
    django Model._meta, _base_manager               models, admin,           documented by Django, with an underscore
                                                    _project_rows
    django Model._do_update                         models                   a save keeps the end of the row's job
    django AdminSite._registry                      admin                    the page of the project's own row
    amqp Channel._basic_publish,                    confirms                 confirms with a bounded wait
      _confirm_selected

Public methods of theirs are overridden in `celery_app/overrides/` and in these modules alone. Doctor warns of a package
that is newer than in `TRIED`.
"""

from __future__ import annotations

from importlib.metadata import version

TRIED = {"celery": "5.7", "kombu": "5.7", "amqp": "5.4", "redis": "7.4"}
"""Package -> the newest release (its first two numbers) with which the whole test suite was run."""


def untried() -> dict[str, str]:
    """Package -> its installed version, for each that is newer than in `TRIED`."""
    found = {name: version(name) for name in TRIED}
    return {name: given for name, given in found.items() if release(given) > release(TRIED[name])}


def release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
