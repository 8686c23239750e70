"""Self-healing: a thread in every worker's main process that finds what was lost: checks, calls, cancels.

One holder of a short Redis lock acts at a time; two after a pause are harmless, since a check takes only what is due.
If the holder dies, another takes over within seconds. It also keeps the worker's heartbeat, by which a caller finds
out that no worker is up. It refuses a clock that is off, at its start and later, and a namespace that belongs to another
broker.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from celery import bootsteps
from celery.worker import state as worker_state
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from celery_app.watchdog.agreement_writer import AgreementWriter
from celery_app.watchdog.endpoint_counts import EndpointCounts
from celery_app.watchdog.lost_calls import OutboxWatch
from celery_app.watchdog.overdue_checks import heal
from celery_app.watchdog.restored_store import Memory, beat
from celery_runpod._connect import is_redis, mask_url
from celery_runpod._store.start_checks import MOST_CLOCK_SKEW_S, clock_problem, owner_of, problems_of_owner
from celery_runpod._store.store import JobStore
from celery_runpod.errors import ConfigurationError
from config.pools import refuse_pool
from config.settings import Settings
from tasks.cancel import sweep_wishes
from tasks.services import Services, services_of

log = logging.getLogger(__name__)

LEADER_S = 6
WISH_S = 3.0
"""A cancel is carried out within milliseconds, unless its message was lost."""
HEARTBEAT_S = 15.0


class SelfHeal(bootsteps.StartStopStep):
    """The bootstep: starts the thread when the worker starts."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._token = str(uuid.uuid4())
        self._ahead: float | None = None
        """By how much the clock was ahead of the monotonic one when it was last found right."""

    def start(self, worker: Any) -> None:
        try:
            services_of(worker.app).settings.refuse_without_key()
            refuse_pool(worker.pool_cls.__module__.rpartition(".")[2], services_of(worker.app).settings)
            self._check(services_of(worker.app))
        except RedisError as error:
            store = mask_url(services_of(worker.app).settings.store_url)
            log.error("store.away", extra={"store": store, "error": str(error)})
        except ConfigurationError as error:
            log.critical("worker.refuses: %s", error)
            raise SystemExit(1) from None
        self._thread = threading.Thread(target=self._watch, args=(worker,), name="runpod-selfheal", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    terminate = stop

    def _check(self, services: Services) -> None:
        """The clock at the start, and after it was set; the store once, as soon as it answers. If Redis' own clock is set
        later, this worker goes on."""
        ahead = time.time() - time.monotonic()  # noqa: TID251 - the edge
        if self._ahead is None or abs(ahead - self._ahead) > MOST_CLOCK_SKEW_S:
            refuse_wrong_clock(services.store)
        if self._ahead is None:
            refuse_wrong_store(services.store, services.settings)
        self._ahead = ahead

    def _watch(self, worker: Any) -> None:
        services = services_of(worker.app)
        interval_s = services.settings.selfheal_interval_s
        memory = Memory.of(services.settings)
        # RabbitMQ keeps a message until it is acknowledged: only Redis loses one.
        outbox = OutboxWatch(services, memory) if is_redis(services.settings.broker_url) else None
        counts = EndpointCounts(services)
        agreement = AgreementWriter(services)
        away = False
        while not self._stop.is_set():
            try:
                self._check(services)
                known = beat(services, memory) in ("ok", "unknown")
                now = services.clock()
                services.store.workers.heartbeat(worker.hostname, now, max(HEARTBEAT_S, 3 * interval_s))
                if services.store.workers.renew_leader(self._token, LEADER_S):
                    heal(services)
                    sweep_wishes(services, WISH_S)
                    counts.count_some()
                    # While the workers compare what they remember, no memory counts.
                    if outbox is not None and known:
                        outbox.look()
                    agreement.renew()
                else:
                    counts.forget()
                if away:
                    log.warning("store.back")
                away = False
            except (RedisError, OperationalError, OSError) as error:
                if not away:
                    log.error("store.away", extra={"store": mask_url(services.settings.store_url), "error": str(error)})
                away = True
            except ConfigurationError as error:
                log.critical("worker.refuses: %s", error)
                worker_state.should_terminate = 1
                return
            except Exception:
                log.exception("selfheal.failed")
            self._stop.wait(interval_s)
        self._farewell(services, worker.hostname)

    def _farewell(self, services: Services, hostname: str) -> None:
        try:
            services.store.workers.heartbeat(hostname, 0.0, 0.0)
        except (RedisError, OSError):
            log.info("heartbeat.left")  # it goes stale by itself


def refuse_wrong_clock(store: JobStore, clock: Callable[[], float] = time.time) -> None:  # noqa: TID251 - the edge
    """Compare this machine's clock with Redis'. What Redis took to answer counts for the clock.

    Raises:
        ConfigurationError: the clock is off.
    """
    before, redis_time, after = clock(), store.workers.server_time(), clock()
    if problem := clock_problem(max(before - redis_time, 0.0) or min(after - redis_time, 0.0)):
        raise ConfigurationError(
            f"{problem}, because leases and due times are shared between machines: set the clock (NTP)"
        )


def refuse_wrong_store(store: JobStore, settings: Settings) -> None:
    """Check whose store it is.

    Raises:
        ConfigurationError: the namespace was begun with another broker or result backend.
    """
    mine = owner_of(settings.broker_url, settings.result_backend)
    for problem in problems_of_owner(settings.namespace, mine, store.workers.identity(json.dumps(mine))):
        raise ConfigurationError(
            f"{problem}: its jobs would be delivered elsewhere. Choose another RUNPOD_NAMESPACE, or delete the key "
            f"{store.keys.identity()} once no job is open"
        )
