"""Celery's configuration of the RunPod worker, with a reason for each setting.

The user's own Celery app has its own configuration: the two share only broker and result backend.
"""

from __future__ import annotations

import os
from typing import Any

from kombu.entity import Exchange, Queue

from celery_runpod._connect import celery_urls, is_amqp, is_redis
from celery_runpod._protocol import CANCEL, CHECK_STATUS, CONTROL, DEFAULT_QUEUE, FINISH, RUN, SUBMIT_SYNC
from celery_runpod._publish.confirms import end_when_blocked
from celery_runpod._publish.rabbitmq import QuorumQueue
from celery_runpod.api._operations import MANAGEMENT
from config.settings import Settings

OUR_TASKS = (
    "tasks.run",
    "tasks.submit_sync",
    "tasks.check",
    "tasks.delivery",
    "tasks.cancel",
    "tasks.endpoint_tasks",
    "tasks.retry",
    "tasks.management_tasks",
)


def celery_config(settings: Settings) -> dict[str, Any]:
    """All settings of the worker's Celery app."""
    queues = settings.queues
    named = celery_urls(settings.broker_url, settings.result_backend)
    of_sentinels = named.pop("broker_transport_options", {})
    return {
        **named,
        # Celery's own backend fails a chord if Redis or the broker is away while it is joined.
        "override_backends": {
            **dict.fromkeys(("redis", "rediss"), "celery_app.overrides.chord_keeping:ChordKeepingBackend"),
            "sentinel": "celery_app.overrides.chord_keeping:ChordKeepingSentinelBackend",
        },
        # A worker that is started before Redis waits for it, and says so.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 5,
        # Wait for a Redis that refuses commands (out of memory, read-only) as for one that is away. RabbitMQ's channel
        # errors are wrong declarations, which waiting does not repair.
        "broker_channel_error_retry": is_redis(settings.broker_url),
        "broker_transport_options": {**transport_options(settings), **of_sentinels},
        # JSON only: other versions read the messages, and a pickle can run code.
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_queues": task_queues(settings),
        "task_default_queue": queues.run,
        "task_routes": {
            RUN: {"queue": queues.run},
            SUBMIT_SYNC: {"queue": queues.run},
            CHECK_STATUS: {"queue": queues.status},
            FINISH: {"queue": queues.deliver},
            CANCEL: {"queue": queues.deliver},
            **{name: {"queue": queues.deliver} for name in (*CONTROL, *MANAGEMENT)},
        },
        # What follows an endpoint is sent to the caller's queues by name; they are not in `task_queues`.
        "task_create_missing_queues": True,
        # A killed worker's message comes back: every task may run twice, also at the same time.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # The visibility timeout begins when a message is fetched: fetch only what is worked on.
        "worker_prefetch_multiplier": 1,
        # Also on one CPU: a check waits for RunPod in one process, and the others accept and deliver meanwhile.
        "worker_concurrency": max(2, os.cpu_count() or 1),
        # Celery's own consumer ends if the broker goes away while it holds a countdown message.
        "worker_consumer": "celery_app.overrides.loss_tolerant_consumer:LossTolerantConsumer",
        # It would compare with the result under the caller's id; here the store handles repeats.
        "worker_deduplicate_successful_tasks": False,
        # A time limit would write FAILURE under the caller's task id. Every wait has its own deadline instead.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        # It would write the input, in clear, into every state of a result.
        "result_extended": False,
        "result_expires": settings.result_expires_s,
        # Retry for about half a minute to store a result; then the message goes back to its queue.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 20,
        "result_backend_max_sleep_between_retries_ms": 2000,
        "redis_socket_timeout": 10.0,
        "redis_socket_connect_timeout": 5.0,
        "redis_retry_on_timeout": True,
        # For Flower. Not the event "sent", which has the name of the message's task, not its shadow: Flower would rename
        # a job to runpod.finish, and it could not be found by its endpoint.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        # structlog writes the log (`celery_app/logs.py`).
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
        "imports": (*OUR_TASKS, *settings.imports),
    }


def task_queues(settings: Settings) -> tuple[Queue, ...]:
    """The queues that a worker consumes. On RabbitMQ they are quorum queues behind an exchange, to which RabbitMQ itself
    delays countdown messages (docs/decisions/0004)."""
    names = settings.queues.all()
    # With RUNPOD_IMPORTS this worker also runs the tasks of a site that has no other worker.
    imported = [DEFAULT_QUEUE] if settings.imports else []
    if not is_amqp(settings.broker_url):
        return tuple(Queue(name, routing_key=name) for name in (*names, *imported))
    # Not the queue's name: an app that publishes to the queue declares a direct exchange of that name.
    delayed = Exchange(f"{settings.namespace}.delayed", type="topic")
    return (
        *(QuorumQueue(name, delayed, routing_key=name) for name in names),
        *(Queue(name, delayed, routing_key=name) for name in imported),
    )


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of the broker's transport."""
    if is_amqp(settings.broker_url):
        # Not `confirm_publish`: every event would wait for a confirm without bound. What must not be lost is confirmed in
        # another way (docs/decisions/0005).
        return {"on_open": end_when_blocked}
    if not is_redis(settings.broker_url):
        return {}
    ours = f"{settings.namespace}.unacked"
    return {
        # The tasks are short, so a killed worker's messages may come back soon. The keys are the namespace's own: under
        # the shared default keys, this short timeout would deliver the user's long tasks twice.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_key": ours,
        "unacked_index_key": f"{ours}_index",
        "unacked_mutex_key": f"{ours}_mutex",
        # A worker that is killed while it holds the mutex must not block the others for long.
        "unacked_mutex_expire": 10,
        # How often kombu looks for messages of killed workers; by default once in 100 s.
        "unacked_restore_interval": 3,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 5.0,
        "socket_timeout": 30.0,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
