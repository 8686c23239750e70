"""Turns common Python values into JSON: what a web application has at hand when it makes a call.

| value | as JSON |
|---|---|
| `UUID`, `Path`, lazy text of Django | its text |
| `datetime`, `date`, `time` | ISO 8601 |
| `Decimal` | a number |
| `Enum` | its value |
| dataclass, pydantic model | an object of its fields |
| numpy scalar | a number, text or truth value |

Bytes, images, arrays and sets stay as they are, and are refused (``api/_payload.py``): how they are to be sent is the
caller's choice, for which ``files.py`` has helpers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

TEXTS = (uuid.UUID, PurePath)
LEVELS = 80
"""More than a call may have (`MAX_DEPTH` of ``api/_depth.py``)."""


def plain_json(value: Any) -> Any:
    """A copy of a value in which each part of the table above is JSON; what is not in it stays as it is, also a value
    that contains itself.

    >>> plain_json({"at": datetime(2026, 1, 2), "steps": Decimal("30")})
    {'at': '2026-01-02T00:00:00', 'steps': 30}
    """
    return _plain(value, (), frozenset())


def answer_json(value: Any) -> Any:
    """As `plain_json`, of what the REST client answers: without the environment variables of pods and endpoints, which
    may be secrets."""
    return _plain(value, (), frozenset({"env"}))


def _plain(value: Any, within: tuple[int, ...], without: frozenset[str]) -> Any:
    """`within`: the identities of what holds the value; `without`: fields of dataclasses that are left out."""
    if value is None or type(value) in (str, int, float, bool) or id(value) in within or len(within) > LEVELS:
        return value
    if isinstance(value, TEXTS) or _is_lazy_text(value):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _number(value)
    within = (*within, id(value))
    if isinstance(value, Enum):
        return _plain(value.value, within, without)
    if isinstance(value, dict):
        return {_key(key): _plain(one, within, without) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, within, without) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in fields(value) if one.name not in without]
        return {name: _plain(getattr(value, name), within, without) for name in names}
    return _of_other_packages(value)


def _key(key: Any) -> Any:
    return plain_json(key) if isinstance(key, Enum | uuid.UUID) else key


def _number(value: Decimal) -> int | float | Decimal:
    if not value.is_finite():
        return value
    return int(value) if value == value.to_integral_value() and value.adjusted() < 300 else float(value)


def _is_lazy_text(value: Any) -> bool:
    """Whether it is what Django's gettext_lazy returns. Django need not be installed."""
    kinds = type(value).__mro__
    return any(kind.__module__ == "django.utils.functional" and kind.__name__ == "Promise" for kind in kinds)


def _of_other_packages(value: Any) -> Any:
    """A pydantic model or a numpy scalar, whose packages need not be installed."""
    package = type(value).__module__.partition(".")[0]
    if package == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    if any(kind.__module__.startswith("pydantic.") and kind.__name__ == "BaseModel" for kind in type(value).__mro__):
        dumped: Mapping[str, Any] = value.model_dump(mode="json")
        return dict(dumped)
    return value
