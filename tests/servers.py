"""The servers of the integration and chaos tests: Redis, simulator, RunPod worker, user application, each a process."""

from __future__ import annotations

import gc
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from celery import Celery
from celery.backends.redis import ResultConsumer
from redis import Redis

from celery_runpod import Endpoint
from celery_runpod._devstack.stack import Server, Stack, cli, worker_ready
from tests.rabbitmq import Rabbit
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
API_KEY = "test-key-that-must-never-be-seen"
KEPT = (
    *("task:", "endpoints", "workers", "leader", "identity", "incarnation", "totals", "holds", "cancel:"),
    *("root:", "agreement", "ended", "cancel_lease:"),
)
"""Keys of a namespace that may stay after every job has been delivered: indexes, notes, the worker's own."""
PASSING = (
    ":calls:",
    "next_check_at",
    ":checks",
    ":candidates:",
    ":by_job_id:",
    ":pause:",
    ":posts",
    ":post_times:",
    ":lengths",
    ":by_place",
    ":key:",
    ".unacked",
    ":failed:",
    ":purged",
    ":health",
    ":aside",
    ":troubles:",
    ":watched:",
    ":stream:",
    ":confirmed",
)
"""Parts of keys that say nothing of an open job."""


def answers(url: str) -> bool:
    """Whether a web server is there and its application has started."""
    try:
        return requests.get(url, timeout=2).status_code < 500
    except requests.ConnectionError:
        return False


def forget_connections() -> None:
    """One process of tests speaks to several Redis servers, one after the other; Celery keeps its backend and its pools,
    whatever the configuration says afterwards."""
    from tests.application import app

    app._pool = None
    app.amqp._producer_pool = None
    app._backend_cache = None
    app._local.__dict__.pop("backend", None)


def forget_results() -> None:
    """Results of earlier tests, of any app, unsubscribe when they are collected, from a server that is no more; what that
    raises in the midst of the parser ends pytest (Python 3.11)."""
    for consumer in [one for one in gc.get_objects() if type(one) is ResultConsumer]:
        consumer.subscribed_to.clear()


class TestStack(Stack):
    """Forgets, with its servers, the results that were asked for there."""

    __test__ = False

    def stop(self) -> None:
        """Kill everything: a worker that is told to end takes two seconds, and a test that is over asks nothing of it.
        The simulator alone is told, because it ends the handlers that it started."""
        forget_results()
        for server in self.servers:
            if not server.name.startswith("simulator"):
                server.kill()
        super().stop()

    def start_together(self, commands: Mapping[str, Sequence[str]], within_s: float = 180.0) -> None:
        """Start workers by name, side by side, and wait until each takes tasks."""
        started = [self.start(name, command, cwd=ROOT) for name, command in commands.items()]

        def unready() -> list[str]:
            self.check()
            return [server.name for server in started if not worker_ready(server)]

        eventually(unready, [], within_s=within_s)


class World:
    """Everything that one test talks to: Redis, a simulator, and the workers that the test starts.

    with World(folder, endpoints=["fast=synthetic:duration=0.3"]) as world:
        world.start()

    At the end, also of a test that failed, every process is ended, and this process forgets its connections to them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        endpoints: Sequence[str] = ("fast=synthetic:duration=0.3",),
        simulator: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        redis: Sequence[str] = (),
        namespace: str = "runpod",
        broker: str = "redis",
    ) -> None:
        self.namespace = namespace
        self._redis_arguments = redis
        self.stack = TestStack(folder, {"RUNPOD_API_KEY": API_KEY, "RUNPOD_NAMESPACE": namespace})
        try:
            self.redis_url = self.stack.redis(arguments=redis)
            self.stack.env["REDIS_URL"] = self.broker_url = self.redis_url
            if broker == "rabbitmq":
                self.rabbit = Rabbit(self.stack)
                self.stack.env["RUNPOD_BROKER_URL"] = self.broker_url = self.rabbit.url
            self.simulator_url = self.stack.simulator(*endpoints, arguments=simulator)
            self.stack.env["RUNPOD_BASE_URL"] = f"{self.simulator_url}/v2"
            self.stack.env["RUNPOD_SELFHEAL_INTERVAL_S"] = "0.5"
            self.stack.env["PYTHONPATH"] = str(ROOT)
            self.stack.env.update(env or {})
        except BaseException:
            self.stack.stop()
            raise
        self.redis: Any = Redis.from_url(self.redis_url, decode_responses=True)

    def __enter__(self) -> Self:
        self.app()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stack.stop()
        finally:
            forget_connections()

    def start(
        self,
        *,
        runpod: int = 1,
        application: str | None = "tests.application",
        concurrency: int = 2,
        pool: str = "prefork",
    ) -> World:
        """Start RunPod workers, and one of the user's own with the tasks of a module; None: without that one."""
        options = ["-c", str(concurrency), "--pool", pool, "--loglevel", "INFO"]
        commands = {f"runpod{n}": cli("worker", "-n", f"runpod{n}@%h", *options) for n in range(runpod)}
        if application is not None:
            celery = [sys.executable, "-m", "celery", "-A", application, "worker", "-n", "application@%h"]
            commands["application"] = [*celery, "-c", "2", "--loglevel", "INFO"]
        self.stack.start_together(commands)
        return self

    def app(self) -> Celery:
        """The user's app, in the test's own process."""
        from tests import application

        if application.app.conf.broker_url != self.broker_url:
            application.app.conf.update(broker_url=self.broker_url, result_backend=self.redis_url)
            forget_connections()
        # Another test of this process may have made its app the current one.
        application.app.set_current()
        application.app.set_default()
        return application.app

    def endpoint(self, name: str, **options: Any) -> Endpoint:
        return Endpoint(name, app=self.app()).using(**{"backoff": {"first": 0.2, "cap": 0.5}, **options})

    # Redis

    def stop_redis(self, signum: int = signal.SIGTERM) -> None:
        """End Redis; its data stay."""
        server = self.redis_server
        server.kill(signum)
        server.process.wait()
        self.stack.remove(server)

    def start_redis(self) -> None:
        """Start Redis again, on its port and its data."""
        self.stack.redis(port=self._redis_port, arguments=self._redis_arguments)

    @property
    def redis_server(self) -> Server:
        return next(server for server in self.stack.servers if server.name.startswith("redis-"))

    def snapshot(self, folder: Path) -> None:
        """Keep what Redis holds now; it is restarted for that."""
        self.stop_redis()
        shutil.copytree(self._redis_data, folder)
        self.start_redis()

    def restore(self, folder: Path) -> None:
        """Replace what Redis holds by an older state."""
        self.stop_redis(signal.SIGKILL)
        shutil.rmtree(self._redis_data)
        shutil.copytree(folder, self._redis_data)
        self.start_redis()

    @property
    def _redis_data(self) -> Path:
        return self.stack.folder / f"redis-{self._redis_port}"

    @property
    def _redis_port(self) -> int:
        return int(urlsplit(self.redis_url).port or 0)

    # The simulator

    def fault(self, **rule: Any) -> str:
        answer = requests.post(f"{self.simulator_url}/_simulator/faults", json=rule, timeout=5)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def happened(self, fault_id: str) -> int:
        """How often the simulator has begun a fault."""
        rules = requests.get(f"{self.simulator_url}/_simulator/faults", timeout=5).json()
        return next(int(rule["done"]) for rule in rules if rule["id"] == fault_id)

    def no_faults(self) -> None:
        requests.delete(f"{self.simulator_url}/_simulator/faults", timeout=5)

    def jobs(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        params = {"endpoint": endpoint} if endpoint else {}
        found: list[dict[str, Any]] = requests.get(
            f"{self.simulator_url}/_simulator/jobs", params=params, timeout=30
        ).json()
        return found

    def submits(self, mark: str) -> list[dict[str, Any]]:
        """The simulator's jobs whose input has this mark, in the order of their submits."""
        return [job for job in self.jobs() if isinstance(job["input"], dict) and job["input"].get("mark") == mark]

    def statuses(self, mark: str) -> list[str]:
        """RunPod's words for the jobs whose input has this mark."""
        return [job["status"] for job in self.submits(mark)]

    def requests(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = requests.get(f"{self.simulator_url}/_simulator/requests", timeout=5).json()
        return found

    # The store

    @property
    def records(self) -> Any:
        """The Redis of the job store."""
        return self.redis

    def open_jobs(self) -> list[str]:
        """What should not be in the store once every job is delivered."""
        left = []
        for key in self.records.scan_iter(count=1000):
            if not key.startswith((f"{self.namespace}:", f"{{{self.namespace}:", f"{{{self.namespace}}}:")):
                continue
            if ":job:" in key:
                state = self.records.hget(key, "state")
                if state not in (None, "DELIVERED"):
                    left.append(f"{key} {state}")
            elif not (key.split(":", 1)[1].startswith(KEPT) or any(part in key for part in PASSING)):
                left.append(key)
        return left
