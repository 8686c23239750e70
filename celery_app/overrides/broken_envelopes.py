"""Messages whose envelope kombu cannot read: broken JSON, JSON that is nested too deeply, a field of another type.

kombu's Redis transport parses an item of a queue's list in the worker's event loop; an error there ends the worker, and
the item may come back at its next start. So the text is measured before it is parsed, and an item that is not a message
becomes one: its raw text is the body, under a content type that no task accepts. The consumer then puts it aside like
every message that cannot be read.

Not here: what stands in a message's body (``poison.py``). RabbitMQ's messages have no envelope of JSON.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import json
import lzma
import uuid
import zlib
from collections.abc import Callable
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads as kombu_loads

from celery_runpod.api._depth import MAX_DEPTH, is_deeper, pruned, too_deep

UNREADABLE = "application/x-celery-runpod-unreadable"
"""The content type of an item that is not a message."""

MOST_UNPACKED = 64_000_000
"""The most bytes of an unpacked body. An input has at most 20 MB, and 27 in base64."""

DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "application/x-gzip": zlib.decompressobj,
    "gzip": zlib.decompressobj,
    "zlib": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "bzip2": bz2.BZ2Decompressor,
    "bzip": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
    "lzma": lzma.LZMADecompressor,
    "xz": lzma.LZMADecompressor,
}
"""kombu's names of compressions (`task_compression`) whose decompressors take a limit of bytes."""


def install(transport: Any) -> None:
    """Measure what this connection's transport reads; only a Redis transport is changed."""
    if not isinstance(transport, kombu_redis.Transport) or hasattr(transport, "runpod_guarded"):
        return
    guarded_transport: Any = transport
    # kombu 5.7 has no method to override here, so the name in its module is replaced.
    vars(kombu_redis)["loads"] = measured_loads
    deliver = guarded_transport._deliver

    def guarded(message: Any, queue: str) -> None:
        deliver(message if problem_of(message) is None else unreadable(message, queue), queue)

    guarded_transport._deliver = guarded
    guarded_transport.runpod_guarded = True


def measured_loads(text: str) -> Any:
    """As kombu's `loads`; returns the text itself if it is not JSON, or is nested too deeply to parse."""
    if is_deeper(text, MAX_DEPTH):
        return text
    try:
        return kombu_loads(text)
    except (ValueError, TypeError, LookupError, AttributeError):
        return text


def problem_of(message: Any) -> str | None:
    """Why kombu cannot read an envelope; None if it can."""
    if isinstance(message, str):
        return "it is not JSON" if not is_deeper(message, MAX_DEPTH) else f"it is nested deeper than {MAX_DEPTH} levels"
    if not isinstance(message, dict) or not isinstance(message.get("properties"), dict):
        return "it is not an object with properties"
    properties, headers = message["properties"], message.get("headers")
    if headers is not None and not isinstance(headers, dict):
        return "its headers are not an object"
    if not isinstance(properties.get("delivery_tag"), str):
        return "it has no delivery_tag"
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not all(isinstance(info.get(key), str) for key in ("exchange", "routing_key")):
        return "its delivery_info does not name an exchange and a routing_key"
    if not all(isinstance(message.get(key), str | None) for key in ("body", "content-type", "content-encoding")):
        return "its body or content type is not a text"
    if properties.get("body_encoding") not in (None, "base64"):
        return "its body_encoding is unknown"
    body = message.get("body") or ""
    try:
        raw = base64.b64decode(body) if properties.get("body_encoding") else body.encode()
    except (binascii.Error, ValueError):
        return "its body is not base64"
    compression = (headers or {}).get("compression")
    return compressed_problem(raw, compression) if compression is not None else None


def compressed_problem(raw: bytes, compression: Any) -> str | None:
    """Why kombu must not decompress a body in the event loop (a few kilobytes may become gigabytes); None if it may."""
    decompressor = DECOMPRESSORS.get(compression) if isinstance(compression, str) else None
    if decompressor is None:
        return f"its compression is none of {', '.join(sorted(DECOMPRESSORS))}"
    try:
        unpacked = decompressor().decompress(raw, MOST_UNPACKED + 1)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
        return "its body is not compressed as its header says"
    too_large = f"its body is over {MOST_UNPACKED // 1_000_000} MB when it is unpacked"
    return too_large if len(unpacked) > MOST_UNPACKED else None


def unreadable(item: Any, queue: str) -> dict[str, Any]:
    """A message that carries an item which is not a message."""
    raw = item if isinstance(item, str) else json.dumps(item) if too_deep(item) is None else repr(type(item))
    return {
        "body": base64.b64encode(raw.encode("utf-8", "replace")).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "utf-8",
        "headers": {**_names(raw), "problem": problem_of(item)},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }


def _names(raw: str) -> dict[str, str]:
    """The id and the name of the item's task, if they can be read, so that the task can be ended."""
    try:
        item = json.loads(pruned(raw, MAX_DEPTH))
    except ValueError:
        return {}
    headers = item.get("headers") if isinstance(item, dict) else None
    found = {name: headers.get(name) for name in ("id", "task")} if isinstance(headers, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}
