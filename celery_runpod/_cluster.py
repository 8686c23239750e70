"""A client of a Redis Cluster with the commands and pipelines of redis-py's client of one server.

redis-py's own cluster client finds the master of each slot. Its pipelines refuse EVALSHA, MGET and INFO, ask the server
for the keys of each script, and lose on a retry which server a command was for. So commands are sent here:

- A command goes to the master of its first key. Commands of one pipeline go to all masters at once. The order is kept
  for each slot, and for all with `in_order`.
- A slot that has moved is followed. Where a master is away, the masters are asked for again, with pauses, until a replica
  was promoted or the patience is over. A command whose answer was lost is sent again, as by redis-py's other clients.

Not here: URLs and patience (``_connect.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.commands import CoreCommands
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from celery_runpod._redis_urls import Place

AWAY = (RedisConnectionError, RedisTimeoutError, ClusterDownError, MasterDownError, TryAgainError)
"""What passes once a replica was promoted, or a slot has moved."""
MOST_MOVES = 16
"""So often a command follows a slot that moves."""
POLL_S = 0.1
"""How often streams of several slots are read while a reader waits: XREAD waits for those of one slot alone."""
TO_ALL_MASTERS = frozenset({"SCRIPT LOAD", "FLUSHALL"})
_NOT_YET = object()


class Command(NamedTuple):
    """One command: its words, redis-py's options, and the slot of its key."""

    words: tuple[Any, ...]
    options: dict[str, Any]
    slot: int


@lru_cache(maxsize=4096)
def _slot_of_number(number: int) -> int:
    return key_slot(str(number).encode())


class ClusterRedis(CoreCommands):  # type: ignore[type-arg]
    """The client. It asks for the masters with its first command; its threads share it.

    Raises, for each command:
        redis.exceptions.RedisError: as redis-py's client of one server; a cluster of which no server answers is a
            ConnectionError.
    """

    _event_dispatcher: Any = None  # redis-py's protocol of a client asks for it

    def __init__(self, place: Place, options: Mapping[str, Any], retry: Callable[[], Retry]) -> None:
        self._place, self._options, self._make_retry = place, dict(options), retry
        texts = {name: options[name] for name in ("decode_responses", "encoding_errors") if name in options}
        self._encoder: Any = Redis(**texts).get_encoder()
        self._made: Any = None
        self._lock = threading.Lock()

    # The servers

    @property
    def cluster(self) -> Any:
        """redis-py's client, which knows the masters."""
        with self._lock:
            if self._made is None:
                node: Any = ClusterNode
                nodes = [node(host, port) for host, port in self._place.nodes]
                given = {**self._options, **self._place.options}
                try:
                    self._made = RedisCluster(
                        startup_nodes=nodes, require_full_coverage=False, retry=Retry(NoBackoff(), 0), **given
                    )
                except RedisClusterException as error:
                    raise RedisConnectionError(f"no server of the cluster answers: {error}") from None
            return self._made

    def masters(self) -> list[Any]:
        """A client of each master."""
        return [self.cluster.get_redis_connection(node) for node in self.cluster.get_primaries()]

    def replicas(self) -> list[str]:
        """The replicas, as host:port."""
        return sorted(node.name for node in self.cluster.get_replicas())

    def slots_without_master(self) -> int:
        """How many slots no master has."""
        self.refresh()
        return REDIS_CLUSTER_HASH_SLOTS - len(self.cluster.nodes_manager.slots_cache)

    def master_of(self, key: str | bytes) -> Any:
        """A client of the master that holds a key, of this server alone: it follows no slot.

        Raises:
            redis.exceptions.ConnectionError: no master is known for it.
        """
        return self.cluster.get_redis_connection(self._node(self._slot(key)))

    def mark_of(self, key: str | bytes) -> str:
        """The mark of the master that holds a key: a short text that, as "{mark}" in a key, puts it on that master."""
        return self._marks()[self._node(self._slot(key)).name]

    def marks(self) -> list[str]:
        """The mark of each master that has slots."""
        return sorted(self._marks().values())

    def _marks(self) -> dict[str, str]:
        """Master -> the least number whose slot it has. Every process that knows the same slots finds the same."""
        slots = self.cluster.nodes_manager.slots_cache
        owners = {nodes[0].name for nodes in list(slots.values()) if nodes}
        marks: dict[str, str] = {}
        for number in range(REDIS_CLUSTER_HASH_SLOTS):
            if nodes := slots.get(_slot_of_number(number)):
                marks.setdefault(nodes[0].name, str(number))
            if len(marks) == len(owners):
                break
        return marks

    def refresh(self) -> None:
        """Ask for the masters again."""
        try:
            self.cluster.nodes_manager.initialize()
        except RedisClusterException as error:
            raise RedisConnectionError(f"no server of the cluster answers: {error}") from None

    def _node(self, slot: int) -> Any:
        try:
            return self.cluster.nodes_manager.get_node_from_slot(slot)
        except SlotNotCoveredError as error:
            # Not among redis-py's errors of a server.
            raise RedisConnectionError(str(error)) from None

    def _slot(self, key: Any) -> int:
        return key_slot(self._encoder.encode(key))

    # Commands

    def get_encoder(self) -> Any:
        """Called by redis-py for a script."""
        return self._encoder

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if str(words[0]).upper() in TO_ALL_MASTERS:
            answers = self._patiently(lambda: [one.execute_command(*words, **options) for one in self.masters()])
            return answers[-1]
        [answer] = self.send([self.aimed(words, options)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def aimed(self, words: tuple[Any, ...], options: dict[str, Any], key: Any = None) -> Command:
        """A command, for the master of its key, of this key, or, without one, of any."""
        if key is None:
            key = words[3] if str(words[0]).upper().startswith("EVAL") else words[1] if len(words) > 1 else ""
        return Command(words, options, self._slot(key))

    def mget(self, keys: Any, *args: Any) -> Any:
        with self.pipeline() as pipe:
            pipe.mget(keys, *args)
            return pipe.execute()[0]

    def time(self, **_: Any) -> Any:
        """The clock of one of the masters."""
        return self._patiently(lambda: self.masters()[0].time())

    def ping(self, **_: Any) -> Any:
        """Whether each master answers."""
        return self._patiently(lambda: all(one.ping() for one in self.masters()))

    def xread(self, streams: Any, count: int | None = None, block: int | None = None) -> Any:
        until = time.monotonic() + (block or 0) / 1000
        while True:
            with self.pipeline() as pipe:
                for key, after in streams.items():
                    pipe.xread({key: after}, count=count)
                found = [one for answer in pipe.execute() for one in _entries(answer)]
            if found or time.monotonic() >= until:
                return found
            time.sleep(POLL_S)

    def scan_iter(self, match: Any = None, count: int | None = None, _type: str | None = None, **_: Any) -> Any:
        for one in self.masters():
            yield from one.scan_iter(match=match, count=count, _type=_type)

    def flushall(self, *args: Any, **options: Any) -> Any:
        return self.execute_command("FLUSHALL", *args, **options)

    def pipeline(self, transaction: bool = False) -> ClusterPipeline:
        """Commands that are sent together. There is no transaction across masters."""
        return ClusterPipeline(self)

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()

    def _patiently(self, do: Callable[[], Any]) -> Any:
        """Do it again, with pauses, while a master is away. The masters are asked for again before each try."""
        tried = False

        def attempt() -> Any:
            nonlocal tried
            if tried:
                self.refresh()
            tried = True
            return do()

        retry = self._make_retry()
        retry.update_supported_errors(list(AWAY))
        return retry.call_with_retry(attempt, lambda _: None)

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in the order of the commands; an error that is an answer stands among them."""
        answers: list[Any] = [_NOT_YET] * len(commands)
        self._patiently(lambda: self._send(commands, answers))
        return answers

    def _send(self, commands: Sequence[Command], answers: list[Any]) -> None:
        """Fill in the answers that are missing.

        Raises:
            RedisError: one of `AWAY`. Answers that came stay.
        """
        for _ in range(MOST_MOVES):
            groups: dict[str, tuple[Any, list[int]]] = {}
            for number, answer in enumerate(answers):
                if answer is _NOT_YET:
                    node = self._node(commands[number].slot)
                    client = self.cluster.get_redis_connection(node)
                    groups.setdefault(node.name, (client, []))[1].append(number)
            if not groups:
                return
            for error in self._exchange(list(groups.values()), commands, answers):
                if isinstance(error, AWAY):
                    raise error
        raise RedisConnectionError(f"slots of the cluster moved {MOST_MOVES} times while one command was sent")

    def _exchange(
        self, groups: Sequence[tuple[Any, list[int]]], commands: Sequence[Command], answers: list[Any]
    ) -> list[RedisError]:
        """Write to all masters, then read from all. Returns the errors after which commands must be sent again."""
        again: list[RedisError] = []
        opened: list[tuple[Any, Any, list[int]]] = []
        try:
            for client, numbers in groups:
                connection: Any = None
                try:
                    connection = client.connection_pool.get_connection()
                    opened.append((client, connection, numbers))
                    connection.send_packed_command(connection.pack_commands([commands[one].words for one in numbers]))
                except (RedisConnectionError, RedisTimeoutError) as error:
                    again.append(error)
                    if connection is not None:
                        opened.pop()
                        connection.disconnect()
                        client.connection_pool.release(connection)
            while opened:
                client, connection, numbers = opened[0]
                try:
                    again += self._read(client, connection, numbers, commands, answers)
                except (RedisConnectionError, RedisTimeoutError) as error:
                    again.append(error)
                    connection.disconnect()
                del opened[0]
                client.connection_pool.release(connection)
        finally:
            # Left only by an interruption: what was not read must not be taken for the answer to another command.
            for client, connection, _ in opened:
                connection.disconnect()
                client.connection_pool.release(connection)
        return again

    def _read(
        self, client: Any, connection: Any, numbers: list[int], commands: Sequence[Command], answers: list[Any]
    ) -> list[RedisError]:
        again: list[RedisError] = []
        moved: set[int] = set()
        asked: list[int] = []
        for number in numbers:
            words, options, slot = commands[number]
            try:
                answers[number] = client.parse_response(connection, words[0], **options)
            except AskError:
                asked.append(number)
            except MovedError as error:
                self.cluster.nodes_manager.move_slot(error)
                moved.add(slot)
                again.append(error)
            except (RedisConnectionError, RedisTimeoutError):
                raise
            except RedisError as error:
                if isinstance(error, AWAY):
                    again.append(error)
                else:
                    answers[number] = error
        for number in numbers:
            # INFO of a server that has lost the slot says nothing about the one that has it now.
            if commands[number].slot in moved:
                answers[number] = _NOT_YET
        for number in asked:
            # This key is on its way to another master: redis-py's own client follows it.
            try:
                answers[number] = self.cluster.execute_command(*commands[number].words, **commands[number].options)
            except RedisError as error:
                if isinstance(error, AWAY):
                    again.append(error)
                else:
                    answers[number] = error
        return again


class ClusterPipeline(CoreCommands):  # type: ignore[type-arg]
    """As redis-py's pipeline without a transaction."""

    _event_dispatcher: Any = None

    def __init__(self, client: ClusterRedis) -> None:
        self._client = client
        self._waiting: list[tuple[list[Command], Callable[[list[Any]], Any] | None]] = []
        self._answers: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._answers)

    def reset(self) -> None:
        """Forget what stands on it."""
        self._waiting, self._answers = [], []

    def execute_command(self, *words: Any, **options: Any) -> Self:
        return self._put(words, options)

    def _put(self, words: tuple[Any, ...], options: dict[str, Any], key: Any = None) -> Self:
        self._waiting.append(([self._client.aimed(words, options, key)], None))
        return self

    def xread(self, streams: Any, count: int | None = None, block: int | None = None) -> Any:
        """Without waiting, of streams in one slot."""
        number = () if count is None else ("COUNT", count)
        return self._put(("XREAD", *number, "STREAMS", *streams.keys(), *streams.values()), {}, next(iter(streams)))

    def mget(self, keys: Any, *args: Any) -> Any:
        names = [keys] if isinstance(keys, str | bytes) else list(keys)
        commands = [self._client.aimed(("GET", name), {}) for name in (*names, *args)]
        self._waiting.append((commands, _values))
        return self

    def info_of(self, key: str, section: str) -> Self:
        """INFO of the master that holds a key."""
        return self._put(("INFO", section), {}, key)

    def flush(self) -> None:
        """Send what stands on it, and keep the answers: what comes next is sent after that."""
        waiting, self._waiting = self._waiting, []
        found = iter(self._client.send([command for commands, _ in waiting for command in commands]))
        for commands, combine in waiting:
            answers = [next(found) for _ in commands]
            self._answers.append(answers[0] if combine is None else combine(answers))

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers.

        Raises:
            redis.exceptions.RedisError: the first error among them, unless that is not wanted.
        """
        try:
            self.flush()
            answers = self._answers
        finally:
            self.reset()
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def _values(answers: list[Any]) -> Any:
    """The answer to MGET; an error, if one of the keys had one."""
    return next((one for one in answers if isinstance(one, Exception)), answers)


def _entries(answer: Any) -> Iterable[Any]:
    """The streams in an answer to XREAD, in either form of redis-py's."""
    return answer.items() if isinstance(answer, Mapping) else answer or ()


def in_order(pipe: Any) -> None:
    """What is put on this pipeline next happens after what stands on it, on whatever server. One server keeps that order
    by itself, without another round trip."""
    if isinstance(pipe, ClusterPipeline):
        pipe.flush()


def ask_which_server(pipe: Any, key: str) -> None:
    """Put INFO on a pipeline, of the server that holds a key."""
    if isinstance(pipe, ClusterPipeline):
        pipe.info_of(key, "server")
    else:
        pipe.info("server")
