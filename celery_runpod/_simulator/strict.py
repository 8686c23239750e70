"""JSON as it is taken from others: what was read can be written again, and is JSON then too. Pure.

Python's own reader takes `NaN` and `1e999`, and its writer makes `NaN` and `Infinity` of them, which no other reader
takes. Not here: what a body must contain (``submission.py``, ``worker_protocol.py``, ``management/bodies.py``).
"""

from __future__ import annotations

import json
import math
from typing import Any


def loads(raw: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, has a number that is none, or is nested too deep.
    """
    try:
        return json.loads(raw, parse_constant=_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
