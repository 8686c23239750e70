"""`on_commit` and its like: what is published when, under which ids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.result import GroupResult
from celery.signals import before_task_publish
from django.db import transaction

from celery_runpod import Endpoint, JobResult, on_commit
from celery_runpod._publish import caller_task
from celery_runpod.errors import EagerMode, InvalidInput, InvalidOption
from celery_runpod.testing import fake_endpoint
from tests import django_project  # noqa: F401 - configures Django

sdxl = Endpoint("sdxl")


@pytest.fixture
def app() -> Celery:
    made = Celery("shop", broker="memory://", backend="cache+memory://")

    @made.task(name="shop.save", shared=False)
    def save(output: Any, *_: Any) -> Any:
        return {"saved": output}

    made.set_current()
    made.set_default()
    return made


@pytest.fixture
def published(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Every message; that the servers are there is not asked."""
    monkeypatch.setattr(caller_task, "refuse", lambda *_: None)
    found: list[dict[str, Any]] = []

    def note(sender: str, headers: Any, body: Any, **_: Any) -> None:
        found.append({"task": sender, "id": headers["id"], "body": body})

    before_task_publish.connect(note, weak=False)
    yield found
    before_task_publish.disconnect(note)


def save(*args: Any) -> Any:
    from celery import current_app

    return current_app.signature("shop.save", args)


def ids_in(messages: list[dict[str, Any]]) -> set[str]:
    """The ids of the tasks in messages, and in what follows them."""

    def of(one: Any) -> Iterator[str]:
        if isinstance(one, dict):
            yield from [one["task_id"]] if isinstance(one.get("task_id"), str) else []
            for value in one.values():
                yield from of(value)
        elif isinstance(one, list | tuple):
            for value in one:
                yield from of(value)

    return {message["id"] for message in messages} | {one for message in messages for one in of(message["body"][2])}


def tasks_of(result: Any) -> set[str]:
    before = set() if result.parent is None else tasks_of(result.parent)
    if isinstance(result, GroupResult):
        return before | {one for member in result.results for one in tasks_of(member)}
    return before | {result.id}


CANVASES: dict[str, Any] = {
    "call": lambda: sdxl.s(a=1),
    "chain": lambda: chain(sdxl.s(a=1), save(3)),
    "group": lambda: group(sdxl.s(a=1), sdxl.s(a=2)),
    "group of a generator": lambda: group(sdxl.s(a=n) for n in range(3)),
    "chord": lambda: chord([sdxl.s(a=1), sdxl.s(a=2)], save()),
    "nested": lambda: chain(sdxl.s(a=1), chord([sdxl.s(b=1), save(2)], save()), sdxl.s(c=1)),
}


@pytest.mark.parametrize("name", CANVASES)
def test_the_ids_are_known_before_and_each_use_has_its_own(name: str, published: list[dict[str, Any]]) -> None:
    canvas, seen = CANVASES[name](), set()
    for _ in range(2):
        published.clear()
        with transaction.atomic():
            result = on_commit(canvas)
            assert published == []
        assert published and tasks_of(result) <= ids_in(published)
        assert {message["id"] for message in published} <= tasks_of(result)
        assert not seen & tasks_of(result)
        seen |= tasks_of(result)
        assert all(isinstance(step, JobResult) for step in JobResult.of(result).steps)


def test_a_call_gives_a_job_result(published: list[dict[str, Any]]) -> None:
    assert isinstance(on_commit(sdxl.s(a=1)), JobResult)


def test_without_a_transaction_it_is_published_at_once(published: list[dict[str, Any]]) -> None:
    result = on_commit(chain(sdxl.s(a=1), save()))
    assert [message["id"] for message in published] == [result.parent.id]
    assert sdxl.delay_on_commit(a=1) == published[-1]["id"]


def test_nothing_is_published_after_a_rollback(published: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        on_commit(sdxl.s(a=1))
        sdxl.delay_on_commit(a=1)
        transaction.set_rollback(True)
    assert published == []


def test_the_transaction_of_another_database(published: list[dict[str, Any]]) -> None:
    with transaction.atomic(using="other"):
        with transaction.atomic():
            on_commit(sdxl.s(a=1), using="other")
            task_id = sdxl.apply_async_on_commit(kwargs={"a": 2}, using="other", priority=3)
        assert published == []
    assert [message["id"] for message in published][1] == task_id


def test_a_field_may_be_called_using(published: list[dict[str, Any]]) -> None:
    sdxl.delay_on_commit(using="a brush")
    assert published[0]["body"][1]["using"] == "a brush"


def test_a_mistake_is_raised_at_the_call(app: Celery, published: list[dict[str, Any]]) -> None:
    for wrong, error in ((sdxl, InvalidInput), (chain(sdxl.s(a=1).set(link=[3]), save()), InvalidOption)):
        with pytest.raises(error), transaction.atomic():
            on_commit(wrong)
    app.conf.task_always_eager = True
    for canvas in (sdxl.s(a=1), group(sdxl.s(a=1)), chain(save(1), sdxl.s(a=1))):
        with pytest.raises(EagerMode), transaction.atomic():
            on_commit(canvas)
    with pytest.raises(EagerMode), transaction.atomic():
        sdxl.delay_on_commit(a=1)
    assert published == []


def test_a_fake_takes_it_after_the_commit(app: Celery) -> None:
    with fake_endpoint("sdxl", output={"url": "x"}) as fake:
        with transaction.atomic():
            result = on_commit(chain(sdxl.s(a=1), save()))
            fake.assert_not_called()
        assert JobResult(result.id).get(timeout=5) == {"saved": {"url": "x"}}


@pytest.mark.parametrize("option", ["countdown", "eta", "priority", "link_error", "queue"])
def test_an_option_of_celerys_is_not_taken_by_using(option: str) -> None:
    with pytest.raises(InvalidOption, match=rf"apply_async\(\.\.\., {option}=\.\.\.\)"):
        sdxl.using(**{option: 5})


def test_without_django_it_says_so() -> None:
    code = "from celery_runpod import Endpoint, on_commit\n"
    code += "try: on_commit(Endpoint('e').s(a=1))\nexcept Exception as error: print(repr(error))"
    env = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("NotConfigured(") and "Django is not set up" in done.stdout
