"""Celery's configuration of the RunPod worker, with a reason beside each setting.

Not the user's own Celery app: the two share broker, result backend and nothing else.
"""

from __future__ import annotations

from typing import Any

from kombu.entity import Exchange, Queue

from celery_runpod._connect import is_amqp, is_redis
from celery_runpod._protocol import CANCEL, CHECK_STATUS, CONTROL, DEFAULT_QUEUE, FINISH, RUN
from celery_runpod._publish.confirms import end_when_blocked
from celery_runpod._publish.rabbitmq import QuorumQueue
from celery_runpod.api._operations import MANAGEMENT
from config.settings import Settings

OUR_TASKS = (
    "tasks.run",
    "tasks.check",
    "tasks.delivery",
    "tasks.cancel",
    "tasks.endpoint_tasks",
    "tasks.retry",
    "tasks.management",
)


def celery_config(settings: Settings) -> dict[str, Any]:
    """All settings of the worker's Celery app."""
    queues = settings.queues
    return {
        "broker_url": settings.broker_url,
        "result_backend": settings.result_backend,
        # Celery's own fails a chord when Redis or the broker is away while it is joined.
        "override_backends": dict.fromkeys(("redis", "rediss"), "celery_app.overrides.backend:ChordKeepingBackend"),
        # A worker that is started before Redis waits for it, and says so.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5,
        # A Redis that refuses a command (out of memory, read-only) is waited for like one that is away. RabbitMQ's
        # channel errors are mistakes in a declaration, which waiting does not mend.
        "broker_channel_error_retry": is_redis(settings.broker_url),
        "broker_transport_options": transport_options(settings),
        # JSON only: a record is read by other versions, and a pickle is code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_queues": task_queues(settings),
        "task_default_queue": queues.run,
        "task_routes": {
            RUN: {"queue": queues.run},
            CHECK_STATUS: {"queue": queues.status},
            FINISH: {"queue": queues.deliver},
            CANCEL: {"queue": queues.deliver},
            **{name: {"queue": queues.deliver} for name in (*CONTROL, *MANAGEMENT)},
        },
        # The caller's queues are not declared here; what follows an endpoint is sent to them by name.
        "task_create_missing_queues": True,
        # A killed worker's message comes back: every task of ours may run twice, and side by side.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The visibility clock starts when a message is fetched: fetch no more than is worked on.
        "worker_prefetch_multiplier": 1,
        # Celery's own ends when the broker goes away while it holds a countdown message.
        "worker_consumer": "celery_app.overrides.consumer:LossTolerantConsumer",
        # It would compare with the result of the caller's id: repeats are the store's business.
        "worker_deduplicate_successful_tasks": False,
        # Time limits under the caller's task id would end the caller's task; every wait has its own deadline.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        # It would copy every input, in clear, into every state of a result.
        "result_extended": False,
        "result_expires": settings.result_expires_s,
        # The result of a job is worth waiting for, but not for ever: then the message goes back to its queue.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 20,
        "result_backend_max_sleep_between_retries_ms": 2000,
        "redis_socket_timeout": 10.0,
        "redis_socket_connect_timeout": 5.0,
        "redis_retry_on_timeout": True,
        # For Flower. Not "sent": such an event names the message's task, whatever its shadow, and may come late. A job
        # would be renamed to runpod.finish, and no longer be found by its endpoint.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        # The log is structlog's, with task id and job id on every line.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
        "imports": (*OUR_TASKS, *settings.imports),
    }


def task_queues(settings: Settings) -> tuple[Queue, ...]:
    """What a worker consumes; on RabbitMQ quorum queues, reached through an exchange to which RabbitMQ itself delays
    countdown messages (docs/decisions/0004)."""
    names = settings.queues.all()
    # A site without an application worker of its own may have its tasks run here: RUNPOD_IMPORTS.
    imported = [DEFAULT_QUEUE] if settings.imports else []
    if not is_amqp(settings.broker_url):
        return tuple(Queue(name, routing_key=name) for name in (*names, *imported))
    # Not the queue's own name: an app that publishes to it by name makes a direct exchange of that name.
    delayed = Exchange(f"{settings.namespace}.delayed", type="topic")
    return (
        *(QuorumQueue(name, delayed, routing_key=name) for name in names),
        *(Queue(name, delayed, routing_key=name) for name in imported),
    )


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of the broker's transport; those of Redis where the broker is Redis."""
    if is_amqp(settings.broker_url):
        # Not `confirm_publish`: an event would wait for it without end, and the worker with it. What must not be lost is
        # confirmed all the same (docs/decisions/0005).
        return {"on_open": end_when_blocked}
    if not is_redis(settings.broker_url):
        return {}
    ours = f"{settings.namespace}.unacked"
    return {
        # Our tasks are short, so a killed worker's messages may come back soon. With the shared default keys this
        # short timeout would hand out the user's own long tasks twice.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_key": ours,
        "unacked_index_key": f"{ours}_index",
        "unacked_mutex_key": f"{ours}_mutex",
        # A worker killed while it holds the mutex must not keep the others from looking.
        "unacked_mutex_expire": 10,
        # By default kombu looks once in 100 s.
        "unacked_restore_interval": 3,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 5.0,
        "socket_timeout": 30.0,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
