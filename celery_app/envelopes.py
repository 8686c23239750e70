"""Messages whose envelope kombu cannot read: broken JSON, JSON that is nested without end, a field of another type.

kombu's Redis transport parses a list's item in the worker's event loop, and what it raises there ends the worker; the
item comes back with the next start where it was a message before. So the text is measured before it is parsed, and an
item that is no message is turned into one: its raw text is the body, under a content type that no task takes. The
consumer then puts it aside like every message that cannot be read.

Not here: what stands in a message's body (``poison.py``). RabbitMQ's messages have no envelope of JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads as kombu_loads

from celery_runpod.api.depth import MAX_DEPTH, is_deeper, too_deep

UNREADABLE = "application/x-celery-runpod-unreadable"
"""The content type of an item that is no message."""


def install(transport: Any) -> None:
    """Guard one connection's transport; others than Redis' are left as they are."""
    if not isinstance(transport, kombu_redis.Transport) or hasattr(transport, "runpod_guarded"):
        return
    guarded_transport: Any = transport
    # The name that kombu's module looks up (kombu 5.7): its channel has no method to override around it.
    vars(kombu_redis)["loads"] = measured_loads
    deliver = guarded_transport._deliver

    def guarded(message: Any, queue: str) -> None:
        deliver(message if problem_of(message) is None else unreadable(message, queue), queue)

    guarded_transport._deliver = guarded
    guarded_transport.runpod_guarded = True


def measured_loads(text: str) -> Any:
    """As kombu's; the text itself where it is not JSON, or is nested too deeply to be parsed."""
    if is_deeper(text, MAX_DEPTH):
        return text
    try:
        return kombu_loads(text)
    except (ValueError, TypeError, LookupError, AttributeError):
        return text


def problem_of(message: Any) -> str | None:
    """Why kombu could not read an envelope, in words; None where it can."""
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
    try:
        base64.b64decode(message.get("body") or "") if properties.get("body_encoding") else None
    except (binascii.Error, ValueError):
        return "its body is not base64"
    return None


def unreadable(item: Any, queue: str) -> dict[str, Any]:
    """A message that carries an item which is none."""
    raw = item if isinstance(item, str) else json.dumps(item) if too_deep(item) is None else repr(type(item))
    return {
        "body": base64.b64encode(raw.encode("utf-8", "replace")).decode(),
        "content-type": UNREADABLE,
        "content-encoding": "utf-8",
        "headers": {"problem": problem_of(item)},
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }
