"""What may be sent to RunPod: JSON, and not too much of it. Checked before anything leaves the process.

Not here: sending (``transport.py``).

Next: ``answers.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from celery_runpod.errors import InvalidInput, PayloadTooLarge

# docs.runpod.io/serverless/endpoints/operation-reference: 10 MB for /run, 20 MB for /runsync
RUN_LIMIT_BYTES = 10_000_000
RUNSYNC_LIMIT_BYTES = 20_000_000


def encode(value: Any, *, endpoint: str | None = None) -> bytes:
    """The value as JSON.

    Raises:
        InvalidInput: it is not JSON; the text names the place, such as `input.images[2]`.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = _find(value, "input") or f"input cannot be written as JSON: {error}"
    raise InvalidInput(problem, endpoint)


def check_input(value: Any, *, endpoint: str | None = None, limit_bytes: int = RUN_LIMIT_BYTES) -> int:
    """The size in bytes of an input as JSON.

    Raises:
        InvalidInput: it is not JSON.
        PayloadTooLarge: it is over the limit.
    """
    size = len(encode(value, endpoint=endpoint))
    check_size(size, limit_bytes, endpoint)
    return size


def check_size(size: int, limit_bytes: int, endpoint: str | None) -> None:
    """Raises PayloadTooLarge for a body over the limit."""
    if size > limit_bytes:
        problem = (
            f"the request is {size / 1e6:.1f} MB; RunPod takes at most {limit_bytes / 1e6:.0f} MB: "
            "put large data where the handler can fetch it, and send its URL"
        )
        raise PayloadTooLarge(problem, endpoint, None, size, limit_bytes)


def _find(value: Any, path: str, depth: int = 0) -> str | None:
    """The first thing in a value that is not JSON, in words."""
    if depth > 200:
        return f"{path} is nested too deeply, or contains itself"
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON does not have"
    if isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str | int | float | bool) and name is not None:
                return f"{path} has the key {name!r}; JSON keys are texts"
            if found := _find(one, f"{path}.{name}", depth + 1):
                return found
        return None if isinstance(value, dict) else f"{path} is a {type(value).__name__}, not a dict"
    if isinstance(value, list | tuple):
        for index, one in enumerate(value):
            if found := _find(one, f"{path}[{index}]", depth + 1):
                return found
        return None
    return f"{path} is a {type(value).__name__}, which is not JSON: give text, numbers, lists or dicts"
