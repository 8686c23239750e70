"""Checks what is sent to RunPod: it must be JSON, and within RunPod's limit of size.

A call that RunPod would refuse raises here, with the place in the text: `input.images[2] is a Decimal`. Values are never
quoted: they may be large or secret.

Not here: sending (``_transport.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from celery_runpod.api._answers import Policy
from celery_runpod.api._depth import MAX_DEPTH, too_deep
from celery_runpod.api._fields import can_be_encoded
from celery_runpod.errors import InvalidInput, PayloadTooLarge

RUN_LIMIT_BYTES = 10_000_000
"""The largest body of POST /run (docs.runpod.io/serverless/endpoints/operation-reference)."""

RUNSYNC_LIMIT_BYTES = 20_000_000
"""The largest body of POST /runsync (same page)."""

FILE_PACKAGES = frozenset({"PIL", "numpy", "torch"})
"""Packages whose values are files rather than JSON; none of them is needed."""


def check_input(value: Any, *, endpoint: str | None = None, limit_bytes: int = RUN_LIMIT_BYTES) -> int:
    """The size of an input in bytes, as JSON in UTF-8.

    Raises:
        InvalidInput: it is not JSON (NaN and Infinity are not), or is nested deeper than 64 levels; the text names the
            place.
        PayloadTooLarge: it is over the limit.

    >>> check_input({"prompt": "an astronaut"})
    25
    >>> check_input({"images": [1.0, float("nan")]})
    Traceback (most recent call last):
    celery_runpod.errors.InvalidInput: input.images[1] is nan, which JSON does not have
    """
    size = len(encode(value, endpoint=endpoint))
    check_size(size, limit_bytes, endpoint)
    return size


def encode_body(
    input: Any,
    limit_bytes: int,
    endpoint: str | None = None,
    webhook: str | None = None,
    policy: Policy | None = None,
    s3_config: Mapping[str, str] | None = None,
) -> bytes:
    """The body of a POST /run or /runsync (docs.runpod.io/serverless/endpoints/send-requests).

    Raises:
        InvalidInput: the input (or `s3_config`) is not JSON.
        PayloadTooLarge: the body is over the limit.
    """
    fields = [(b"input", encode(input, endpoint=endpoint))]
    if webhook is not None:
        fields.append((b"webhook", encode(webhook, endpoint=endpoint, name="webhook")))
    if policy is not None and (limits := policy.to_json()):
        fields.append((b"policy", encode(limits, endpoint=endpoint, name="policy")))
    if s3_config:
        fields.append((b"s3Config", encode(s3_config, endpoint=endpoint, name="s3_config")))
    # Joined by hand, so that an input of megabytes is encoded once.
    body = b"{" + b",".join(b'"%s":%s' % (name, value) for name, value in fields) + b"}"
    check_size(len(body), limit_bytes, endpoint)
    return body


def encode(value: Any, *, endpoint: str | None = None, name: str = "input") -> bytes:
    """A value as JSON in UTF-8, without spaces.

    Raises:
        InvalidInput: it is not JSON, or is nested too deeply; `name` begins the path in the text.
    """
    check_depth(value, name, endpoint)
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        problem = _find(value, name) or f"{name} cannot be written as JSON"
    raise InvalidInput(problem, endpoint)


def check_depth(value: Any, name: str, endpoint: str | None) -> None:
    """Raises InvalidInput for a value that is nested deeper than 64 levels, or contains itself; `name` begins the path in
    the text."""
    if place := too_deep(value, name):
        raise InvalidInput(f"{place} is nested deeper than {MAX_DEPTH} levels", endpoint)


def check_size(size_bytes: int, limit_bytes: int, endpoint: str | None) -> None:
    """Raises PayloadTooLarge for a body over the limit."""
    if size_bytes > limit_bytes:
        problem = (
            f"the request is {size_bytes / 1e6:.1f} MB, and RunPod takes at most {limit_bytes / 1e6:g} MB: "
            "put large data where the handler can fetch it (celery_runpod.files.upload), and send its URL"
        )
        raise PayloadTooLarge(problem, endpoint, None, size_bytes, limit_bytes)


def _find(value: Any, path: str) -> str | None:
    """Why a value is not JSON: its first part that is not."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return None if can_be_encoded(value) else f"{path} holds a lone surrogate, which is not text"
    if isinstance(value, int):
        return None if abs(value) < 1 << 8192 else f"{path} is an integer of too many digits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {float(value)!r}, which JSON does not have"
    if isinstance(value, dict):
        return _find_in_dict(value, path)
    if isinstance(value, list | tuple):
        found = (_find(one, f"{path}[{index}]") for index, one in enumerate(value))
        return next(filter(None, found), None)
    advice = "give text, numbers, lists or dicts"
    if path.startswith("input") and _is_file(value):
        advice = (
            "send the URL of a file (celery_runpod.files.upload), or a small one as text (celery_runpod.files.data_url)"
        )
    return f"{path} is a {type(value).__name__}, which is not JSON: {advice}"


def _is_file(value: Any) -> bool:
    """Whether ``celery_runpod/files.py`` can help: bytes, an open file, a picture, an array."""
    packages = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    return isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "read") or bool(packages & FILE_PACKAGES)


def _find_in_dict(value: dict[Any, Any], path: str) -> str | None:
    for key, one in value.items():
        if not isinstance(key, str | int | float) and key is not None:
            return f"{path} has a key that is a {type(key).__name__}; JSON's keys are text"
        if isinstance(key, float) and not math.isfinite(key):
            return f"{path} has the key {float(key)!r}, which JSON does not have"
        if isinstance(key, str) and not can_be_encoded(key):
            return f"{path} has a key that holds a lone surrogate, which is not text"
        place = f"{path}.{key}" if isinstance(key, str) and key.isidentifier() else f"{path}[{key!r}]"
        if found := _find(one, place):
            return found
    return None
