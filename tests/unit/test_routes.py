"""The queue of what follows a call: written by the caller, because a RunPod worker does not know its routes."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from celery_runpod._publish.routes import pin

TASKS = Exchange("tasks", type="topic")


@pytest.fixture
def app() -> Celery:
    made = Celery("routes", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_default_queue = "usual"
    made.conf.task_default_exchange, made.conf.task_default_exchange_type = "tasks", "topic"
    made.conf.task_default_routing_key = "task.default"
    made.conf.task_queues = [
        Queue("usual", TASKS, routing_key="task.#"),
        Queue("feeds", TASKS, routing_key="feed.*"),
        Queue("mail", Exchange("mail", type="direct"), routing_key="out"),
        Queue("news", Exchange("news", type="fanout")),
    ]
    made.conf.task_routes = {
        "by.queue": {"queue": "feeds", "exchange": "tasks", "routing_key": "feed.import"},
        "by.key": {"exchange": "tasks", "routing_key": "feed.import"},
        "by.direct": {"exchange": "mail", "routing_key": "out"},
        "by.fanout": {"exchange": "news"},
        "elsewhere": {"exchange": "theirs", "exchange_type": "topic", "routing_key": "a.b"},
    }
    return made


def pinned(app: Celery, task: str, **options: Any) -> dict[str, Any]:
    signature: dict[str, Any] = {"task": task, "options": options}
    pin(app, signature)
    return dict(signature["options"])


@pytest.mark.parametrize(
    ("task", "queue"),
    [("other", "usual"), ("by.queue", "feeds"), ("by.key", "feeds"), ("by.direct", "mail"), ("by.fanout", "news")],
)
def test_a_route_becomes_the_queue_that_it_leads_to(app: Celery, task: str, queue: str) -> None:
    assert pinned(app, task) == {"queue": queue}


@pytest.mark.parametrize(
    ("given", "queue"),
    [
        ({"exchange": "tasks", "routing_key": "feed.x"}, "feeds"),
        ({"routing_key": "feed.x"}, "feeds"),
        ({"exchange": "mail", "exchange_type": "direct", "routing_key": "out"}, "mail"),
        ({"queue": "mail"}, "mail"),
    ],
)
def test_a_signatures_own_place_goes_before(app: Celery, given: dict[str, Any], queue: str) -> None:
    assert pinned(app, "by.key" if "queue" in given else "other", **given) == {"queue": queue}


def test_an_exchange_that_leads_to_no_queue_of_the_app_is_kept(app: Celery) -> None:
    assert pinned(app, "elsewhere") == {"exchange": "theirs", "exchange_type": "topic", "routing_key": "a.b"}
    given = {"exchange": "tasks", "routing_key": "feed.x.y"}
    assert pinned(app, "other", **given) == given
