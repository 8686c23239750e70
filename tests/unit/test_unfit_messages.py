"""Messages that no task can begin with: refused once, in words, before they begin."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from celery_app.overrides.loss_tolerant_consumer import LossTolerantConsumer
from celery_app.overrides.unfit_messages import misfit
from celery_runpod._protocol import (
    CANCEL,
    CHECK_STATUS,
    FINISH,
    HEALTH,
    PAUSE,
    PURGE_QUEUE,
    RETRY,
    RUN,
    SUBMIT_SYNC,
    WAIT_FOR_POD,
)
from celery_runpod.errors import InvalidOption, decode
from tests.builders import Bench


def message(task: str, args: Any = (), kwargs: Any = None, **headers: Any) -> Any:
    body = [args, {} if kwargs is None else kwargs, {}]
    return SimpleNamespace(
        body=json.dumps(body).encode(),
        payload=json.loads(json.dumps(body)),
        headers={"id": "t1", "task": task, **headers},
        content_type="application/json",
        acknowledged=False,
    )


BAD = [
    (FINISH, [], {}),
    (FINISH, [["e1"], "t1", 1], {}),
    (FINISH, ["e1", "t1", "1"], {}),
    (FINISH, ["e1", "t1", 1], {"more": 1}),
    (FINISH, ["e1", "t1\ud800", 1], {}),
    (CHECK_STATUS, [None], {}),
    (CHECK_STATUS, [], {"endpoint": {"a": 1}}),
    (CANCEL, ["t1"], {}),
    (CANCEL, [[1]], {}),
    (RETRY, [[1]], {}),
    (RETRY, ["t1"], {"force": "yes"}),
    (PAUSE, [{}], {}),
    (HEALTH, ["e1", "key", 3], {}),
    (PURGE_QUEUE, [], {"\ud800": 1}),
    (WAIT_FOR_POD, ["p1", 5.0, None, None, "x"], {}),
]

GOOD = [
    (FINISH, ["e1", "t1", 1], {}),
    (CHECK_STATUS, ["e1"], {}),
    (SUBMIT_SYNC, ["e1", "t1", 1_790_000_000.5], {}),
    (CANCEL, [["t1"]], {"scope": "step"}),
    (RETRY, ["t1", None], {"force": True}),
    (WAIT_FOR_POD, ["p1", 600, None, 1_790_000_000.5, 2], {}),
    ("runpod.pods.list", [1, 2, 3], {"whatever": 1}),
    (RUN, [1, 2, 3], {"whatever": 1}),
    ("not.ours", [], {"whatever": 1}),
]


@pytest.mark.parametrize(("task", "args", "kwargs"), BAD)
def test_arguments_that_a_task_does_not_take_are_refused_in_words(task: str, args: Any, kwargs: Any) -> None:
    why = misfit(Bench().app, message(task, args, kwargs))
    assert why is not None and why.startswith(f"{task} does not take these arguments: ") and why.isascii()


@pytest.mark.parametrize(("task", "args", "kwargs"), GOOD)
def test_what_a_task_takes_is_let_through(task: str, args: Any, kwargs: Any) -> None:
    assert misfit(Bench().app, message(task, args, kwargs)) is None


@pytest.mark.parametrize(("args", "kwargs"), [({"a": 1}, {}), ([], []), ("a", {}), ([], "a"), (None, {})])
@pytest.mark.parametrize("task", [RUN, FINISH, "not.ours"])
def test_arguments_of_another_kind_are_refused_for_every_task(task: str, args: Any, kwargs: Any) -> None:
    assert "allowed: a list, a dict" in str(misfit(Bench().app, message(task, args, kwargs)))


def test_links_of_another_kind_are_refused() -> None:
    given = message(RUN)
    given.payload[2] = "text"
    assert "holds a list, dict, str" in str(misfit(Bench().app, given))


@pytest.mark.parametrize(
    "headers",
    [
        {"timelimit": "x"},
        {"timelimit": [1]},
        {"timelimit": [1, "a"]},
        {"timelimit": [float("inf"), None]},
        {"eta": 5},
        {"expires": {}},
        {"expires": 1e308},
        {"retries": "x"},
        {"group": {}},
        {"group_index": {}},
        {"root_id": [1]},
        {"parent_id": 7},
        {"shadow": []},
        {"replaced_task_nesting": "x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", [RUN, FINISH, HEALTH])
def test_a_header_of_another_type_is_refused_in_words(task: str, headers: dict[str, Any]) -> None:
    [name] = headers
    given = message(task, ["e1", "t1", 1] if task == FINISH else ["e1"], {}, **headers)
    assert f"the header {name!r} is a " in str(misfit(Bench().app, given))


def test_the_headers_that_celery_sends_are_let_through() -> None:
    usual = {"eta": None, "expires": "2030-01-01T00:00:00+00:00", "retries": 0, "timelimit": [None, 5.0]}
    assert misfit(Bench().app, message(RUN, [], {}, group=None, group_index=0, **usual)) is None


def test_the_consumer_gives_what_fits_no_task_to_the_ward_before_it_begins() -> None:
    bench, begun = Bench(), []
    controller = SimpleNamespace(use_eventloop=True, _process_task=begun.append)
    consumer = LossTolerantConsumer(lambda request: None, app=bench.app, pool=None, controller=controller)
    taken: list[str] = []
    consumer.ward.take = lambda message, why, **_: taken.append(why)  # type: ignore[method-assign]
    consumer.strategies = {FINISH: lambda *given: begun.append(given)}
    consumer.create_task_handler()(message(FINISH, ["e1"]))
    assert begun == [] and "missing a required argument: " in taken[0]


@pytest.mark.parametrize("name", ["task", "self", "body"])
def test_an_argument_that_is_called_like_a_parameter_of_the_worker_is_refused_like_every_unknown_one(name: str) -> None:
    bench = Bench()
    task = bench.app.tasks[RUN]
    task.push_request(id="t1", task=RUN)
    try:
        with pytest.raises(BaseException) as caught:
            task.run({"a": 1}, endpoint="e1", **{name: 1})
    finally:
        task.pop_request()
    assert type(caught.value).__name__ == "Ignore"
    [found] = bench.store.jobs("_", ["t1"])
    error = decode(found.outcome["error"])
    assert isinstance(error, InvalidOption) and name in str(error)
