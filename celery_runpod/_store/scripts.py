"""The Lua scripts of the store: each declares its keys and arguments by name, and is called by these names.

A script's header is read here, so that neither side counts positions:

    KEYS  job(endpoint, task_id); due(endpoint); gate = pause(endpoint, "run")
    ARGV  task_id; now (s); fields ... (field, value, field, value)

A key is a method of `Keys` with what the call gives, or a fixed text; it is a local of the script under its own name, or
under the one before "=". An argument is a local too; the last one may be a list ("..."). What stands in parentheses
after an argument is for the reader. In front of each script stand the table of states (``states.py``) and the functions
that scripts share (``gate.lua``, ``lease.lua``, ``inputs.lua``, ``cancel.lua``, ``plan.lua``, ``stream.lua``), of those
that it calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from celery_runpod._connect import RedisClient
from celery_runpod._store.keys import Keys
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import lua_prelude

FOLDER = Path(__file__).parent / "scripts"
OF_A_JOB = ("endpoint", "task_id", "attempt", "api_key_name")
SHARED = ("gate", "lease", "inputs", "cancel", "plan", "stream")
_KEY = re.compile(r"(?:(\w+) = )?(\w+)\(([^()]*)\)")
_ARGUMENT = re.compile(r"(\w+)( \.\.\.)?")


@dataclass(frozen=True)
class Key:
    """A key of a script: its name there, the method of `Keys` that makes it, and that method's arguments, each the name
    of what the call gives or a text in quotes."""

    name: str
    method: str
    arguments: tuple[str, ...]

    def made(self, keys: Keys, given: Mapping[str, Any]) -> str | bytes:
        parts = [given[one] if one[0] != '"' else one[1:-1] for one in self.arguments]
        made: str | bytes = getattr(keys, self.method)(*parts)
        return made


@dataclass(frozen=True)
class Header:
    """What a script declares. `rest`: the last argument is a list."""

    keys: tuple[Key, ...]
    arguments: tuple[str, ...]
    rest: bool = False

    @cached_property
    def names(self) -> frozenset[str]:
        """What a call has to give."""
        of_keys = {one for key in self.keys for one in key.arguments if not one.startswith('"')}
        return frozenset(of_keys | set(self.arguments))

    @cached_property
    def of_a_job(self) -> tuple[str, ...]:
        """What of it stands in a job's record."""
        return tuple(name for name in OF_A_JOB if name in self.names)

    @cached_property
    def single(self) -> tuple[str, ...]:
        """The arguments that are no list."""
        return self.arguments[:-1] if self.rest else self.arguments

    def locals(self) -> str:
        """The Lua that gives keys and arguments their names."""
        lines = [f"local {key.name} = KEYS[{number}]" for number, key in enumerate(self.keys, 1)]
        lines += [f"local {name} = ARGV[{number}]" for number, name in enumerate(self.single, 1)]
        if self.rest:
            lines.append(f"local {self.arguments[-1]} = {{}}")
            lines.append(
                f"for i = {len(self.single) + 1}, #ARGV do {self.arguments[-1]}[#{self.arguments[-1]} + 1] = ARGV[i] end"
            )
        return "".join(f"{line}\n" for line in lines)


def header_of(text: str) -> Header:
    """The header in a script's text."""
    head = text.partition("]]")[0]
    keys, arguments = (_section(head, name) for name in ("KEYS", "ARGV"))
    found = [_ARGUMENT.match(one.strip()) for one in re.sub(r"\([^()]*\)", "", arguments).split(";") if one.strip()]
    if None in found:
        raise ValueError(f"an argument without a name: {arguments}")
    names = [match for match in found if match is not None]
    return Header(
        tuple(
            Key(name or method, method, tuple(part.strip() for part in inside.split(",") if part.strip()))
            for name, method, inside in _KEY.findall(keys)
        ),
        tuple(match[1] for match in names),
        bool(names and names[-1][2]),
    )


def _section(head: str, name: str) -> str:
    """The lines that begin with this word, as far as the next word at the same place."""
    found = re.search(rf"\n  {name}  (.*?)(?=\n  \S|\Z)", head, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def texts() -> dict[str, str]:
    """The scripts as they stand in their files, by name."""
    return {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}


@cache
def loaded() -> dict[str, tuple[Header, str, str]]:
    """Header and whole source of each script, and by which name Redis knows it."""
    parts = [lua_prelude(), *((FOLDER.parent / f"{part}.lua").read_text() for part in SHARED)]
    found = {name: (header_of(text), text) for name, text in texts().items()}
    sources = {name: _with_shared(parts, header.locals() + text) for name, (header, text) in found.items()}
    return {name: (found[name][0], source, sha1(source.encode()).hexdigest()) for name, source in sources.items()}


def _with_shared(parts: list[str], text: str) -> str:
    """The text behind those of the parts that it, or a part behind them, calls: Redis runs all of them at each call."""
    for part in reversed(parts):
        if any(f"{name}(" in text for name in re.findall(r"local function (\w+)", part)):
            text = part + text
    return text


class Scripts:
    """Runs the scripts in one Redis, on the keys of one namespace."""

    def __init__(self, redis: RedisClient, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def run(self, script: str, /, *, job: JobRecord | None = None, on: Any = None, **given: Any) -> Any:
        """The script's answer; or, on a pipeline of `together`, nothing until that is executed. `job` gives what the
        script asks of `OF_A_JOB`.

        Raises:
            TypeError: a name is missing, or unknown to the script.
        """
        header, source, sha = loaded()[script]
        if job is not None:
            given |= {name: getattr(job, name) for name in header.of_a_job}
        if given.keys() != header.names:
            missing, unknown = sorted(header.names - given.keys()), sorted(given.keys() - header.names)
            raise TypeError(f"script {script}: missing {missing}, unknown {unknown}")
        command = ["EVALSHA", sha, len(header.keys), *[key.made(self._keys, given) for key in header.keys]]
        command += [_text(given[name]) for name in header.single]
        if header.rest:
            command += [_text(one) for one in given[header.arguments[-1]]]
        if on is not None:
            return on.execute_command(*command)
        client: Any = self._redis
        try:
            return client.execute_command(*command)
        except NoScriptError:
            client.script_load(source)
        return client.execute_command(*command)

    def word(self, script: str, /, *, job: JobRecord | None = None, **given: Any) -> str:
        """The answer of a script that answers with one word."""
        return str(self.run(script, job=job, **given))

    def together(self, build: Callable[[Any], None], on: Redis | None = None) -> list[Any]:
        """Commands and scripts in one round trip; their answers. `build` puts them on a pipeline, and is called again
        where Redis has forgotten the scripts: so each of them must allow to be repeated. `on`: this one server.

        Raises:
            redis.exceptions.RedisError: the first error among the answers.
        """
        try:
            return self._executed(build, on or self._redis)
        except NoScriptError:
            for _, source, _ in loaded().values():
                (on or self._redis).script_load(source)
        return self._executed(build, on or self._redis)

    def _executed(self, build: Callable[[Any], None], redis: RedisClient) -> list[Any]:
        with redis.pipeline(transaction=False) as pipe:
            build(pipe)
            return list(pipe.execute())


def _text(value: Any) -> str | int | bytes:
    """None is "", False too, True is "1"; a fraction leaves with all its digits."""
    kind = type(value)
    if kind is str or kind is int:
        return value  # type: ignore[no-any-return]
    if kind is float:
        return repr(value)
    if value is None or value is False:
        return ""
    return "1" if value is True else value if kind is bytes else str(value)
