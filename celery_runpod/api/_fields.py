"""Reads one field of an answer. A value of another type counts as missing and is never an error. Pure.

    text, texts             a text that is not empty; the texts of a list
    number, whole, count    a number that is finite and not below 0; the same as an integer; 0 if there is none
    seconds_of              RunPod's milliseconds as seconds
    moment                  a time, with its zone
    mapping, objects        an object; the objects of a list
    listed                  the objects of an answer that is a list, or holds one under a name; else BadAnswer
    identified              an object with an id; else BadAnswer

Not here: which fields an answer has (``_answers.py``, ``_restv1.py``, ``_restv2.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery_runpod.errors import BadAnswer

_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")


def can_be_encoded(value: str) -> bool:
    """Whether a text holds no half of a surrogate pair. JSON may have one, UTF-8 has none."""
    return not _HALF_OF_A_PAIR.search(value)


def text(value: Any) -> str | None:
    """A text that is not empty and can be encoded; else None."""
    return value if isinstance(value, str) and value and can_be_encoded(value) else None


def texts(value: Any) -> tuple[str, ...]:
    """The texts of a list, or of a text with commas.

    >>> texts(["8888/http", 7]), texts("EU-NL-1,EU-RO-1")
    (('8888/http',), ('EU-NL-1', 'EU-RO-1'))
    """
    if isinstance(value, str):
        return tuple(one.strip() for one in value.split(",") if one.strip())
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def number(value: Any) -> float | None:
    """A number, also from a text; None for anything else, and for one that is below 0 or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) and read >= 0 else None


def whole(value: Any) -> int | None:
    """A number as an integer."""
    read = number(value)
    return None if read is None else int(read)


def count(value: Any) -> int:
    """A number as an integer; 0 where there is none."""
    return whole(value) or 0


def seconds_of(milliseconds: Any) -> float | None:
    """RunPod's milliseconds as seconds."""
    read = number(milliseconds)
    return None if read is None else read / 1000


def moment(value: Any) -> datetime | None:
    """A time in ISO 8601, or as Go writes it; one without a zone is UTC.

    >>> moment("2026-06-01T12:02:00Z").hour, moment("2024-07-12 19:14:40.144 +0000 UTC").hour
    (12, 19)
    """
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value.removesuffix(" UTC").replace(" +", "+"))
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def listed(data: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects of an answer that is a list, or holds one under a name.

    Raises:
        BadAnswer: there is no list.
    """
    found = data if isinstance(data, list) else mapping(data).get(name)
    if not isinstance(found, list):
        raise BadAnswer(f"the answer is {kind_of(data)} without a list of {name}")
    return objects(found)


def identified(data: Any, kind: str) -> tuple[Mapping[str, Any], str]:
    """An object and its id.

    Raises:
        BadAnswer: it is not an object, or has no id.
    """
    if not isinstance(data, Mapping):
        raise BadAnswer(f"the answer is {kind_of(data)}, not a {kind}")
    found = text(data.get("id"))
    if found is None:
        raise BadAnswer(f"the answer has no {kind} id")
    return data, found


def kind_of(value: Any) -> str:
    """The kind of a value, for an error that must not quote it."""
    return "null" if value is None else f"a {type(value).__name__}"
