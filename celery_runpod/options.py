"""The options of a call: what `Endpoint.using(...)` and a profile may set, with bounds.

Durations are seconds or `timedelta`. A bare number over a day is refused, because it is probably milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from celery_runpod._escaping import described
from celery_runpod._protocol import DAY_S
from celery_runpod.api._durations import MAX_S, MIN_EXECUTION_TIMEOUT_S, MIN_TTL_S, in_seconds
from celery_runpod.errors import InvalidOption

__all__ = ["Backoff", "Options"]

_MOST_RETRIES = 20
_CELERYS = frozenset(
    ("countdown", "eta", "expires", "priority", "queue", "headers", "link", "link_error", "task_id", "ignore_result")
)
"""Options that Celery has for a call, and that are not an endpoint's."""
_LABEL = re.compile(r"[^\x00-\x1f\ud800-\udfff]{1,200}")


@dataclass(frozen=True)
class Backoff:
    """When to look at a job again: after `first`, then each time `factor` longer, at most after `cap`; each pause is
    varied at random by the fraction `jitter`. `first` and `cap` are seconds or a `timedelta`."""

    first: float | timedelta = 1.0
    factor: float = 1.5
    cap: float | timedelta = 30.0
    jitter: float = 0.1

    BOUNDS = {"first": (0.05, 3600.0), "factor": (1.0, 10.0), "cap": (0.05, 3600.0), "jitter": (0.0, 0.5)}

    @property
    def first_s(self) -> float:
        return float(in_seconds(self.first))

    @property
    def cap_s(self) -> float:
        return float(in_seconds(self.cap))

    @classmethod
    def parse(cls, value: Backoff | Mapping[str, Any]) -> Backoff:
        """A backoff from itself or from a mapping with any of its fields.

        Raises:
            InvalidOption: an unknown field or one out of its bounds.
        """
        if isinstance(value, Backoff):
            value = {field.name: getattr(value, field.name) for field in fields(value)}
        if not isinstance(value, Mapping):
            raise InvalidOption("backoff", described(value), f"a dict with any of {', '.join(cls.BOUNDS)}")
        numbers = {}
        for name, given in value.items():
            if name not in cls.BOUNDS:
                raise InvalidOption(f"backoff.{name}"[:80], described(given), f"only {', '.join(cls.BOUNDS)}")
            low, high = cls.BOUNDS[name]
            is_time = name in ("first", "cap")
            number = in_seconds(given) if is_time else given
            if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
                allowed = f"a number from {low:g} to {high:g}{' (seconds), or a timedelta' if is_time else ''}"
                raise InvalidOption(f"backoff.{name}", described(given), allowed)
            numbers[name] = float(number)
        backoff = cls(**numbers)
        if backoff.cap_s < backoff.first_s:
            raise InvalidOption("backoff.cap", backoff.cap_s, f"at least first ({backoff.first_s:g})")
        return backoff


@dataclass(frozen=True)
class Options:
    """What `Endpoint.using(...)` may set. None: the profile's value, else the default. Times are seconds."""

    deadline: float | None = None
    start_timeout: float | None = None
    execution_timeout: float | None = None
    ttl: float | None = None
    low_priority: bool | None = None
    retries: int | None = None
    sync: bool | None = None
    backoff: Backoff | None = None
    webhook: bool | None = None
    api_key_name: str | None = None
    labels: tuple[str, ...] | None = None
    on_error: str | None = None
    idempotency_key: str | None = None
    allow_empty_output: bool | None = None
    stream: bool | None = None

    SECONDS = {
        "deadline": (1.0, MAX_S),
        "start_timeout": (1.0, MAX_S),
        "execution_timeout": (MIN_EXECUTION_TIMEOUT_S, MAX_S),
        "ttl": (MIN_TTL_S, MAX_S),
    }

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Options:
        """Options from keyword arguments or from a message.

        Raises:
            InvalidOption: an unknown name, a wrong type, a value out of bounds, or a bare number over a day
                (probably milliseconds; give `timedelta(days=...)` if it is meant).
        """
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name in _CELERYS:
                allowed = f"not here: use apply_async(..., {name}=...), or in a canvas signature(..., {name}=...)"
                raise InvalidOption(name, described(value), allowed)
            if name not in _NAMES:
                raise InvalidOption(str(name)[:80], described(value), f"one of {', '.join(sorted(_NAMES))}")
            values[name] = None if value is None else cls._one(name, value)
        return cls(**values).checked()

    @classmethod
    def refuse_among_celerys(cls, given: Mapping[str, Any]) -> None:
        """Refuse an option of an endpoint that stands among Celery's, which ignores it: a job without its deadline.

        Raises:
            InvalidOption: names the option, and where to give it.
        """
        stamps = given.get("stamped_headers") or ()
        for name in _NAMES:
            if given.get(name) is not None and name not in stamps:
                allowed = f"not here: use Endpoint(...).using({name}=...)"
                raise InvalidOption(name, described(given[name]), allowed)

    @classmethod
    def _one(cls, name: str, value: Any) -> Any:
        if name in cls.SECONDS:
            return _seconds(name, value, *cls.SECONDS[name])
        if name in ("low_priority", "sync", "webhook", "allow_empty_output", "stream"):
            if not isinstance(value, bool):
                raise InvalidOption(name, described(value), "True or False")
            return value
        if name == "backoff":
            return Backoff.parse(value)
        if name == "retries":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_RETRIES:
                raise InvalidOption(name, described(value), f"a whole number from 0 to {_MOST_RETRIES}")
            return value
        if name == "on_error":
            if value not in ("raise", "return"):
                raise InvalidOption(name, described(value), "'raise' or 'return'")
            return value
        if name == "labels":
            if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
                raise InvalidOption(name, described(value), "a list of texts")
            labels = tuple(value)
            if len(labels) > 20 or not all(isinstance(label, str) and _LABEL.fullmatch(label) for label in labels):
                raise InvalidOption(name, described(value), "at most 20 texts of 1 to 200 characters")
            return labels
        if not isinstance(value, str) or not _LABEL.fullmatch(value):
            raise InvalidOption(name, described(value), "a text of 1 to 200 characters")
        return value

    def checked(self) -> Options:
        """These options.

        Raises:
            InvalidOption: two of them exclude each other.
        """
        if self.stream and self.sync:
            raise InvalidOption("stream", True, "without sync: /runsync gives no chunks while the job runs")
        if self.stream and self.idempotency_key is not None:
            raise InvalidOption("stream", True, "without idempotency_key: each call reads the chunks of its own job")
        return self

    def over(self, defaults: Options) -> Options:
        """These options; those that are None are taken from `defaults`."""
        own = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        return replace(defaults, **own) if own else defaults

    def to_message(self) -> dict[str, Any]:
        """The options that are set, as JSON. The inverse of `parse`."""
        message: dict[str, Any] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, Backoff):
                value = {f.name: getattr(value, f.name) for f in fields(value)}
            elif name in self.SECONDS and value > DAY_S:
                value = {"seconds": value}  # `parse` refuses a bare number over a day
            message[name] = list(value) if isinstance(value, tuple) else value
        return message


_NAMES = tuple(field.name for field in fields(Options))


def _seconds(name: str, value: Any, low: float, high: float) -> float:
    allowed = f"{low:g} to {high:g} seconds, or a timedelta"
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, Mapping) and set(value) == {"seconds"} and isinstance(value["seconds"], int | float):
        seconds = float(value["seconds"])
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(name, described(value), allowed)
    elif value > DAY_S:
        raise InvalidOption(name, described(value), f"{allowed}; a number over a day must be a timedelta")
    else:
        seconds = float(value)
    if not low <= seconds <= high:
        raise InvalidOption(name, described(value), allowed)
    return seconds
