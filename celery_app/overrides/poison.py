"""Messages that would end the worker, or come back for ever: measured before they are decoded or pickled.

The worker's main process decodes a message and pickles it for a child of its pool. Both recurse once or twice for each
level of nesting, and an error there ends the main process; the message comes back and ends the next one.

    the message                                      what happens
    a call whose input is nested too deeply          the input is removed; `run` ends the call with InvalidInput
    another one that is nested too deeply, or that   its task ends with InvalidInput, if it has an id and keeps a
    the pool refuses                                 result; else the message is put aside in the store
    one that cannot be read                          the message is put aside

A thread writes the result or the entry, so that the event loop never waits. Until then the message stays unacknowledged.

Not here: an envelope that kombu cannot read (``broken_envelopes.py``), headers and arguments of another
type (``unfit_messages.py``), the consumer that calls this (``loss_tolerant_consumer.py``).
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from celery import states
from celery.app.task import Context
from redis.exceptions import RedisError

from celery_app.overrides.broken_envelopes import UNREADABLE
from celery_runpod._call_rules import MOST_ID
from celery_runpod._protocol import FINISH, REFUSED, RUN
from celery_runpod._store.put_aside import MOST_BODY, AsideMessage
from celery_runpod.api._depth import MAX_DEPTH, is_deeper, loads, pruned, too_deep
from celery_runpod.api._fields import can_be_encoded
from celery_runpod.errors import InvalidInput
from tasks.job_ended import end_of, tell_by_request
from tasks.services import Services

log = logging.getLogger(__name__)

MOST_MESSAGE_DEPTH = 200
"""The most levels of a whole message: a canvas has about four for each nested step. Pickling fails first: at 496 levels
on Python 3.11, 748 on 3.12 and 4,996 on 3.13 (measured), minus the depth of the stack."""

AROUND_INPUT = 2
"""The body is `[args, kwargs, embed]`: an input lies in two lists, a field in a list and an object."""

IDS = ("id", "root_id", "parent_id", "group")
"""Headers that may be a UUID, as Celery's own: kombu's JSON keeps the type."""

JSON = "application/json"


def measure(message: Any) -> str | None:
    """Why a message cannot be run; None if it can. If only the input of a call is nested too deeply, the input becomes
    null and a header says why. Ids become text."""
    if message.content_type == UNREADABLE:
        return f"the message cannot be read: {message.headers.get('problem')}"
    headers = message.headers
    if not isinstance(headers, dict):
        return None
    headers.update({name: str(headers[name]) for name in IDS if isinstance(headers.get(name), uuid.UUID)})
    if place := too_deep(headers, "headers"):
        return f"{place} is nested deeper than {MAX_DEPTH} levels"
    if not can_be_encoded(json.dumps(headers, ensure_ascii=False, default=repr)):
        return "a header holds a lone surrogate, which is not text"
    for name in ("task", "id"):
        given = headers.get(name)
        if "task" in headers and not (isinstance(given, str) and 0 < len(given) <= MOST_ID):
            return f"the header {name!r} is not a text of 1 to {MOST_ID} characters"
    text = text_of(message)
    if text is None or not is_deeper(text, MOST_MESSAGE_DEPTH):
        return None
    if headers.get("task") == RUN:
        cut = pruned(text, MAX_DEPTH + AROUND_INPUT, elements=2)
        if not is_deeper(cut, MOST_MESSAGE_DEPTH):
            message.body = cut.encode()
            message.headers = {**headers, REFUSED: f"the input is nested deeper than {MAX_DEPTH} levels"}
            return None
    return f"the message is nested deeper than {MOST_MESSAGE_DEPTH} levels"


def text_of(message: Any) -> str | None:
    """The body of a JSON message as kombu reads it; None for another message."""
    if message.content_type != JSON or message.body is None:
        return None
    if isinstance(message.body, str):
        return message.body
    try:
        return bytes(message.body).decode()
    except UnicodeDecodeError:
        return None  # kombu refuses it too


class Refused(NamedTuple):
    message: Any
    why: str
    ends_task: bool


class PoisonWard:
    """Ends or keeps messages in its own thread, one after the other. `done` releases a message."""

    def __init__(self, services: Callable[[], Services], done: Callable[[Any], None]) -> None:
        self._services = services
        self._done = done
        self._waiting: queue.Queue[Refused] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, message: Any, why: str, *, ends_task: bool = True) -> None:
        """Queue a message for the thread. `ends_task` is False if the message is not a task's."""
        self._waiting.put(Refused(message, why, ends_task))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runpod-poison", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            refused = self._waiting.get()
            try:
                self._insist(refused)
                self._done(refused.message)
            except Exception:
                # The message stays unacknowledged, and comes back after the visibility timeout.
                log.exception("message.not_settled")

    def _insist(self, refused: Refused) -> None:
        def away(error: Exception) -> None:
            log.error("message.store_away", extra={"error": str(error)})

        services = self._services()
        try:
            services.insist(lambda: settle(services, *refused), away)
        except (RedisError, OSError):
            raise
        except Exception as error:
            # Each message that stays unacknowledged keeps one of the few places for messages, also when it comes back.
            log.exception("message.not_settled")
            kept = bare(services, refused.message, f"{refused.why}; and it cannot be kept whole: {error!r:.200}")
            services.insist(lambda: services.store.aside.put_message_aside(kept), away)


def settle(services: Services, message: Any, why: str, ends_task: bool) -> None:
    """End the message's task with a typed error, or put the message aside."""
    headers = message.headers if isinstance(message.headers, dict) else {}
    task_id, name = _text(headers.get("id")), _text(headers.get("task"))
    shown = {"task_id": task_id, "task": name, "why": why}
    if ends_task and task_id and _end(services, message, task_id, name, why):
        log.error("message.refused", extra=shown)
    else:
        services.store.aside.put_message_aside(as_aside(services, message, task_id, name, why))
        log.critical("message.put_aside: celery-runpod jobs --aside", extra=shown)
    if name == RUN and headers.get("id"):
        # Otherwise the watchdog would publish its copy, again and again. The caller keeps it under the id's text.
        services.store.outbox.drop_message(str(headers["id"])[:MOST_ID])


def _end(services: Services, message: Any, task_id: str, name: str, why: str) -> bool:
    """Store the error under the task's id; False if nothing reads it."""
    task = services.app.tasks.get(name)
    if task is None or name == FINISH or (name == RUN and services.store.ids.is_job(task_id)):
        # A call that a worker has accepted ends as its record says.
        return False
    ignored = message.headers.get("ignore_result")
    ignored = task.ignore_result if ignored is None else bool(ignored)
    embed = _embed(message)
    if ignored and not embed:
        return False
    headers = message.headers
    request = Context(
        id=task_id,
        task=name,
        root_id=_text(headers.get("root_id")) or task_id,
        parent_id=_text(headers.get("parent_id")) or None,
        group=_text(headers.get("group")) or None,
        group_index=headers.get("group_index"),
        chord=embed.get("chord"),
        chain=embed.get("chain"),
        errbacks=embed.get("errbacks"),
        ignore_result=ignored,
        callbacks=embed.get("callbacks"),
        headers=headers,
    )
    error = InvalidInput(why, None, task_id)
    try:
        # Not `app.tasks[name].backend`, which accepts only a verdict of the running task.
        services.app.backend.mark_as_failure(task_id, error, request=request, store_result=not ignored)
        tell_by_request(services.app, request, end_of(states.FAILURE, error))
    except (RedisError, OSError):
        raise
    except Exception as problem:
        log.error("message.not_ended", extra={"task_id": task_id, "error": f"{type(problem).__name__}: {problem}"})
        return False
    return True


def _embed(message: Any) -> dict[str, Any]:
    """The links, errbacks, chain and chord of a task, without those that are nested too deeply."""
    text = text_of(message)
    try:
        body = None if text is None else loads(text, MOST_MESSAGE_DEPTH)
    except ValueError:
        return {}
    embed = body[2] if isinstance(body, list) and len(body) == 3 else None
    if not isinstance(embed, dict):
        return {}
    whole = MOST_MESSAGE_DEPTH - AROUND_INPUT - 1
    return {key: value for key, value in embed.items() if value and too_deep(value, most=whole) is None}


def as_aside(services: Services, message: Any, task_id: str, name: str, why: str) -> AsideMessage:
    """A message as the store keeps it."""
    body = message.body
    text = body if isinstance(body, str) else bytes(body or b"").decode("utf-8", "replace")
    headers = message.headers if isinstance(message.headers, dict) and too_deep(message.headers) is None else {}
    properties = {
        key: value
        for key, value in (message.properties or {}).items()
        if key in ("correlation_id", "reply_to", "priority") and isinstance(value, str | int | None)
    }
    info = message.delivery_info or {}
    return AsideMessage(
        id=f"message-{task_id or uuid.uuid4()}",
        name=name,
        endpoint=_endpoint(headers),
        queue=_text(info.get("routing_key")) or services.settings.queues.run,
        since=services.clock(),
        why=why,
        size=len(text),
        body=text[:MOST_BODY],
        headers=headers if len(repr(headers)) <= MOST_BODY else {"id": task_id, "task": name},
        properties=properties,
        content_type=_text(message.content_type) or JSON,
        content_encoding=_text(message.content_encoding) or "utf-8",
        readable=message.content_type == JSON and bool(name),
    )


def bare(services: Services, message: Any, why: str) -> AsideMessage:
    """A message of which nothing but its body can be kept, and not run again."""
    text = repr(message.body)
    return AsideMessage(
        id=f"message-{uuid.uuid4()}",
        name="",
        endpoint="",
        queue=services.settings.queues.run,
        since=services.clock(),
        why=why,
        size=len(text),
        body=text[:MOST_BODY],
        headers={},
        properties={},
        content_type="text/plain",
        content_encoding="utf-8",
        readable=False,
    )


def _endpoint(headers: dict[str, Any]) -> str:
    """The endpoint of a call, from the name that Flower shows: `runpod.run[sdxl]`."""
    shadow = _text(headers.get("shadow"))
    return shadow.partition("[")[2].removesuffix("]")[:128] if shadow.startswith(f"{RUN}[") else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= MOST_ID and can_be_encoded(value) else ""
