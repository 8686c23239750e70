"""What may be said about a pod or an endpoint that is to be made or changed: one table, a line for each field.

RunPod would refuse most of this too, in its own words and after the request; here the text names the field, what was
given and what is allowed. What only RunPod knows is left to it: which GPUs, images and data centers there are.

Values of `env` are secrets as often as not: they are in no error.

Not here: rules between fields (``_podspec.py``, ``_endpointspec.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from celery_runpod.api._durations import MAX_S, bounded
from celery_runpod.errors import InvalidOption

MAX_NAME = 191
"""Characters of a name (RunPod's REST API)."""

Check = Callable[[str, Any], None]
T = TypeVar("T")


def check(spec: Any) -> None:
    """Check the fields of a dataclass, each by its line of the table; None is "not said".

    Raises:
        InvalidOption: a value that cannot be.
    """
    for field in fields(spec):
        value = getattr(spec, field.name)
        if value is not None:
            FIELDS[field.name](field.name, value)


def made(cls: type[T], given: T | Mapping[str, Any]) -> T:
    """A spec from itself, or from a mapping with any of its fields.

    Raises:
        InvalidOption: an unknown field, or a value that cannot be.
    """
    if isinstance(given, cls):
        return given
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(given, Mapping):
        raise InvalidOption(cls.__name__, f"a {type(given).__name__}", f"a {cls.__name__}, or a dict of its fields")
    for name in given:
        if name not in known:
            raise InvalidOption(str(name)[:80], "an unknown field", f"one of {', '.join(sorted(known))}")
    return cls(**given)


def refuse_unless(true: bool, option: str, given: Any, allowed: str) -> None:
    """Raises InvalidOption, where a rule between fields does not hold."""
    if not true:
        raise InvalidOption(option, given, allowed)


def _text(most: int = 4000, *, empty: bool = False) -> Check:
    def check_text(option: str, value: Any) -> None:
        if not isinstance(value, str) or len(value) > most or not (empty or value.strip()):
            raise InvalidOption(option, _shown(value), f"a text of {0 if empty else 1} to {most} characters")

    return check_text


def _whole(least: int, most: int | None = None) -> Check:
    def check_whole(option: str, value: Any) -> None:
        number = isinstance(value, int) and not isinstance(value, bool)
        if not number or value < least or (most is not None and value > most):
            upper = "or more" if most is None else f"to {most}"
            raise InvalidOption(option, _shown(value), f"a whole number, {least} {upper}")

    return check_whole


def _duration(least_s: float, most_s: float, *, whole: bool = False) -> Check:
    def check_duration(option: str, value: Any) -> None:
        seconds = bounded(option, value, least_s, most_s)
        if whole and seconds != int(seconds):
            raise InvalidOption(option, seconds, f"whole seconds, {least_s:g} to {most_s:g}")

    return check_duration


def _number(least: float, most: float) -> Check:
    def check_number(option: str, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not least <= value <= most:
            raise InvalidOption(option, _shown(value), f"a number from {least:g} to {most:g}")

    return check_number


def _one_of(*words: str) -> Check:
    def check_word(option: str, value: Any) -> None:
        if value not in words:
            raise InvalidOption(option, _shown(value), f"one of {', '.join(words)}")

    return check_word


def _flag(option: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(option, _shown(value), "True or False")


def _texts(*, least: int = 0) -> Check:
    def check_texts(option: str, value: Any) -> None:
        listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        if not listed or len(value) < least or not all(isinstance(one, str) and one.strip() for one in value):
            raise InvalidOption(option, _shown(value), f"a list of texts, {least} or more, none of them empty")

    return check_texts


def _variables(option: str, value: Any) -> None:
    allowed = "a dict of names to texts"
    if not isinstance(value, Mapping):
        raise InvalidOption(option, f"a {type(value).__name__}", allowed)
    for name, content in value.items():
        if not isinstance(name, str) or not name or "=" in name or not isinstance(content, str):
            raise InvalidOption(f"{option}[{str(name)[:80]!r}]", f"a {type(content).__name__}", allowed)


def _power_of_two(option: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 2 or value & (value - 1):
        raise InvalidOption(option, _shown(value), "a power of two, 2 or more")


def _shown(value: Any) -> Any:
    """As an error may carry it through JSON."""
    return value if isinstance(value, int | bool) else str(value)[:200] if isinstance(value, str) else repr(value)[:200]


# The bounds are those of docs.runpod.io/api-reference-v2.
FIELDS: dict[str, Check] = {
    "name": _text(MAX_NAME),
    "image": _text(),
    "template_id": _text(),
    "registry": _text(),
    "args": _text(empty=True),
    "env": _variables,
    "ports": _texts(),
    "disk_gb": _whole(1),
    "volume_gb": _whole(10),
    "volume_path": _text(),
    "network_volume": _text(),
    "network_volumes": _texts(),
    "data_centers": _texts(),
    "cloud": _one_of("SECURE", "COMMUNITY"),
    "gpu": _text(),
    "gpu_count": _whole(1),
    "gpu_pools": _texts(least=1),
    "gpu_types": _texts(least=1),
    "excluded_gpu_types": _texts(),
    "cuda_versions": _texts(),
    "min_cuda": _text(),
    "cpu": _text(),
    "vcpus": _power_of_two,
    "global_networking": _flag,
    "start_ssh": _flag,
    "start_jupyter": _flag,
    "interruptible": _flag,
    "locked": _flag,
    "type": _one_of("QUEUE", "LOAD_BALANCER"),
    "workers_min": _whole(0),
    "workers_max": _whole(0),
    "idle_timeout": _duration(1.0, 3600.0, whole=True),
    "scaler": _one_of("QUEUE_DELAY", "REQUEST_COUNT"),
    "scaler_value": _number(0.5, 1e6),
    "execution_timeout": _duration(0.0, MAX_S),
    "flashboot": _flag,
}
