"""What a check of `doctor` found, how long it may take, and which texts it must not show."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from urllib.parse import unquote

from celery_runpod._connect import QUERY_SECRET

T = TypeVar("T")

CHECK_S = 12.0
"""What a check may take, in seconds, even when a server never answers."""
MASK = "***"
# As far as the last "@": in a mistaken URL the password may hold what would have to be encoded.
_IN_URL = re.compile(r"(?<=://)([^\s/@:]*):\S*@")
SECRET_NAMES = re.compile(r"(?i)(KEY|SECRET|PASSWORD|TOKEN)")


class Level(StrEnum):
    """How bad it is. Only `WRONG` makes doctor fail."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of doctor: what was looked at, what was found, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str = "") -> Finding:
    return Finding(check, Level.WARNING, found, advice)


def wrong(check: str, found: str, advice: str = "") -> Finding:
    return Finding(check, Level.WRONG, found, advice)


class Redactor:
    """Takes secrets out of texts that others wrote: an exception may hold a URL, and the URL a password."""

    def __init__(self, env: Mapping[str, str], more: Iterable[str] = ()) -> None:
        secrets = {value.strip() for name, value in env.items() if _holds_secret(name)}
        secrets |= {given.strip() for given in more}
        for value in env.values():
            secrets |= _password_of(value)
        # A shorter text would take ordinary words apart.
        self._secrets = sorted((one for one in secrets if len(one) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        text = QUERY_SECRET.sub(rf"\1{MASK}", _IN_URL.sub(rf"\1:{MASK}@", text))
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _holds_secret(variable: str) -> bool:
    """`..._FILE` holds a path, and `..._API_KEY_NAMES` the names of keys."""
    return bool(SECRET_NAMES.search(variable)) and "_FILE" not in variable and not variable.endswith("_KEY_NAMES")


def _password_of(value: str) -> set[str]:
    credentials = value.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2]
    return {password, unquote(password)} if password else set()


class TookTooLong(Exception):
    """A call did not return in time; its thread is left behind."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What the call returns, in bounded time whatever it waits for: a name lookup has no deadline of its own.

    Raises:
        TookTooLong: it did not return in time. Else what the call raises.
    """
    return together(seconds, [call])[0].result()


def together(seconds: float, calls: Iterable[Callable[[], T]]) -> list[Future[T]]:
    """Make all calls side by side. Each future holds what the call returned or raised, or `TookTooLong`."""
    futures = [_begun(call) for call in calls]
    for late in wait(futures, timeout=seconds).not_done:
        with suppress(InvalidStateError):
            late.set_exception(TookTooLong(f"no answer within {seconds:g} s"))
    return futures


def _begun(call: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def run() -> None:
        # A call that is too late finds its future set.
        with suppress(InvalidStateError):
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)

    # A daemon, unlike the threads of an executor: one that never returns does not keep the process.
    threading.Thread(target=run, daemon=True).start()
    return future
