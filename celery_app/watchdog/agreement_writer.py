"""Writes the workers' token into broker, result backend and job store, so that a caller can see whether it shares them.

Each place is written through the worker's own connection, with its prefix. If one cannot be written, it is tried again
later, because the watchdog's thread must not wait.

Not here: how a caller compares (`celery_runpod/_publish/agreement.py`).
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace

from celery.backends.redis import RedisBackend

from celery_runpod._connect import broker_connection, mask_url
from celery_runpod._publish.agreement import BACKEND, BROKER, FIELD, SHOWN, STORE, Token, exchange_name, record_id
from tasks.services import Services

log = logging.getLogger(__name__)

AGAIN_S = 30.0
"""After this time a place that could not be written is tried again."""
CONNECT_S = 2.0


class AgreementWriter:
    """One for each worker's watchdog; the watchdog that holds the lock renews the token."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._not_before: dict[str, float] = {}

    def renew(self) -> None:
        """Write the token, or write it again.

        Raises:
            RedisError: the store is away.
        """
        token = self._token()
        self._services.store.redis.set(self._services.store.keys.agreement(), json.dumps(token.to_json()))
        self._try(BACKEND, token, self._to_backend)
        self._try(BROKER, token, self._to_broker)

    def _token(self) -> Token:
        settings = self._services.settings
        mine = Token(
            id=str(uuid.uuid4()),
            broker=mask_url(settings.broker_url),
            backend=mask_url(settings.result_backend),
            store=mask_url(settings.store_url),
            at=self._services.clock(),
            every_s=settings.selfheal_interval_s,
            result_expires_s=settings.result_expires_s,
        )
        known = Token.parse(self._services.store.redis.get(self._services.store.keys.agreement()))
        # Workers that move to another broker leave their token in the old one, so they need a new id.
        moved = known is None or any(known.place(role) != mine.place(role) for role in (STORE, BACKEND, BROKER))
        return mine if known is None or moved else replace(mine, id=known.id)

    def _try(self, role: str, token: Token, write: Callable[[Token], None]) -> None:
        if token.at < self._not_before.get(role, 0.0):
            return
        try:
            write(token)
        except Exception as error:
            self._not_before[role] = token.at + AGAIN_S
            log.warning("agreement.not_written", extra={"place": role, "error": f"{type(error).__name__}: {error}"})

    def _to_backend(self, token: Token) -> None:
        backend, name = self._services.app.backend, record_id(self._services.settings.namespace)
        if not isinstance(backend, RedisBackend):
            backend.store_result(name, token.to_json(), SHOWN)
            return
        # Not by `store_result`, which retries for half a minute while Redis is away.
        record = {"task_id": name, "status": SHOWN, "result": token.to_json(), "traceback": None}
        lasts_s = int(self._services.settings.result_expires_s)
        backend.client.set(backend.get_key_for_task(name), backend.encode(record), ex=lasts_s)

    def _to_broker(self, token: Token) -> None:
        namespace = self._services.settings.namespace
        with broker_connection(self._services.app, CONNECT_S) as connection:
            kind = connection.transport.driver_type
            if kind == "redis":
                connection.default_channel.client.hset(record_id(namespace), FIELD, json.dumps(token.to_json()))
            elif kind == "amqp":
                with connection.channel() as channel:
                    channel.exchange_declare(exchange_name(namespace, token.id), "fanout", durable=True)
