"""Makes the services of each process (store, clients, budget), on first use after a fork."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

from celery_app.announcer import Announcer
from celery_app.steady_clock import SteadyClock
from celery_runpod._connect import STORE, connect
from celery_runpod._protocol import DAY_S
from celery_runpod._store.store import JobStore
from celery_runpod._store.store_part import Lives
from celery_runpod.api import ManagementClient, RunPodClient
from config.settings import Settings
from tasks.budget import Budget
from tasks.services import Services


class Process:
    """The services of the current process."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.hostname: str | None = None
        """The worker's node name, known before it forks."""
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._services: Services | None = None
        os.register_at_fork(after_in_child=self._forget)

    def services(self) -> Services:
        if self._services is None or self._owner != os.getpid():
            with self._lock:
                if self._services is None or self._owner != os.getpid():
                    self._services = self._make()
                    self._owner = os.getpid()
        return self._services

    def _forget(self) -> None:
        # The lock too: a fork may come while another thread holds it.
        self._lock = threading.Lock()
        self._services = None

    def _make(self) -> Services:
        settings = self.settings

        @functools.cache
        def client(key_name: str | None) -> RunPodClient:
            return RunPodClient(
                lambda: settings.key(key_name),
                base_url=settings.base_url,
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.submit_timeout_s,
                total_timeout=settings.submit_timeout_s,
                pool_size=settings.http_threads,
                allow_http=settings.allow_http,
            )

        @functools.cache
        def management(key_name: str | None) -> ManagementClient:
            return ManagementClient(
                lambda: settings.key(key_name),
                rest_version=settings.rest_version,
                base_url=settings.rest_url,
                connect_timeout=settings.connect_timeout_s,
                allow_http=settings.allow_http,
            )

        lives = Lives(
            tombstone_s=int(settings.result_expires_s + DAY_S),
            key_s=int(settings.idempotency_ttl_s or settings.result_expires_s),
        )
        store = JobStore(connect(settings.store_url, STORE), settings.namespace, lives)
        clock = SteadyClock(store.workers.server_time)
        return Services(
            app=self.app,
            settings=settings,
            store=store,
            budget=Budget(store.scripts, clock),
            pool=ThreadPoolExecutor(settings.http_threads, thread_name_prefix="runpod-http"),
            client=client,
            management=management,
            announce=Announcer(self.app, self.hostname).announce,
            clock=clock,
            sleep=time.sleep,
            spread=random.random,
        )
