"""Messages that would end the worker: measured, ended by their id, or put aside."""

from __future__ import annotations

import base64
import bz2
import json
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kombu.utils.json import dumps, loads

from celery_app.overrides.broken_envelopes import MOST_UNPACKED, measured_loads, problem_of, unreadable
from celery_app.overrides.loss_tolerant_consumer import LossTolerantConsumer
from celery_app.overrides.poison import MOST_MESSAGE_DEPTH, PoisonWard, measure, settle
from celery_runpod._protocol import REFUSED, RUN
from celery_runpod.errors import InvalidInput
from tests.builders import Bench
from tests.waiting import eventually


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def message(body: str, **headers: Any) -> Any:
    return SimpleNamespace(
        body=body.encode(),
        headers={"id": "t1", "task": RUN, **headers},
        content_type="application/json",
        content_encoding="utf-8",
        properties={"priority": 3},
        delivery_info={"exchange": "", "routing_key": "runpod"},
        acknowledged=False,
    )


def envelope(**changes: Any) -> dict[str, Any]:
    info = {"exchange": "", "routing_key": "runpod"}
    properties = {"delivery_tag": "1", "delivery_info": info, "body_encoding": "base64"}
    body = base64.b64encode(b"{}").decode()
    return {"body": body, "headers": {}, "properties": properties, **changes}


@pytest.mark.parametrize("depth", [MOST_MESSAGE_DEPTH, 5_000, 100_000])
def test_the_input_of_a_call_is_cut_out_and_its_canvas_stays(depth: int) -> None:
    given = message(f'[[{nested(depth)}], {{"endpoint": "e1"}}, {{"chord": {{"task": "x", "args": {nested(90)}}}}}]')
    assert measure(given) is None
    assert "nested deeper than 64 levels" in given.headers[REFUSED]
    _, kwargs, embed = json.loads(given.body)
    assert kwargs == {"endpoint": "e1"} and json.dumps(embed["chord"]["args"]) == nested(90)


def test_a_message_within_the_bound_is_left_as_it_is() -> None:
    body = f"[[{nested(MOST_MESSAGE_DEPTH - 2)}], {{}}, {{}}]"
    given = message(body)
    assert measure(given) is None and given.body == body.encode() and REFUSED not in given.headers


def test_what_cannot_be_cut_is_refused_in_words() -> None:
    canvas = f'[[], {{}}, {{"chain": {nested(MOST_MESSAGE_DEPTH)}}}]'
    assert "the message is nested deeper" in str(measure(message(canvas)))
    assert "the message is nested deeper" in str(measure(message(canvas, task="unit.other")))
    assert "headers" in str(measure(message("[]", deep=json.loads(nested(70)))))
    assert "'id'" in str(measure(message("[]", id=["no", "text"])))


def test_a_call_ends_by_its_id_and_leaves_the_outbox() -> None:
    bench = Bench()
    bench.store.outbox.keep_message("t1", bench.now, "{}", "{}")
    settle(bench.services, message("[[], {}, {}]"), "why", True)
    result = bench.app.AsyncResult("t1")
    assert isinstance(result.result, InvalidInput) and "why" in str(result.result)
    assert bench.store.aside.messages_aside() == [] and bench.store.outbox.published_at("t1") is None


def test_the_copy_of_a_call_whose_id_is_no_text_is_not_published_again() -> None:
    bench = Bench()
    bench.store.outbox.keep_message("5", bench.now, "{}", "{}")
    settle(bench.services, message("[[], {}, {}]", id=5), "why", True)
    assert len(bench.store.aside.messages_aside()) == 1 and bench.store.outbox.published_at("5") is None


def test_a_call_that_was_accepted_is_not_ended_by_a_copy_of_its_message() -> None:
    bench = Bench()
    bench.accepted("t1")
    settle(bench.services, message("[[], {}, {}]"), "why", True)
    assert bench.app.AsyncResult("t1").state == "PENDING"
    assert [one.id for one in bench.store.aside.messages_aside()] == ["message-t1"]


def test_what_has_no_result_is_put_aside_with_all_that_a_release_needs() -> None:
    bench = Bench()
    settle(bench.services, message("[[], {}, {}]", task="runpod.cancel", ignore_result=True), "why", True)
    [kept] = bench.store.aside.messages_aside()
    assert (kept.name, kept.queue, kept.body) == ("runpod.cancel", "runpod", "[[], {}, {}]")
    assert kept.properties == {"priority": 3} and kept.headers["id"] == "t1" and kept.readable and kept.whole


def test_a_message_of_which_nothing_can_be_read_keeps_no_place_of_the_worker() -> None:
    bench, released = Bench(), []
    ward = PoisonWard(lambda: bench.services, released.append)
    given = message("[[], {}, {}]", task="unit.unknown")
    given.properties = ["no", "object"]
    ward.take(given, "why")
    eventually(lambda: released, [given])
    (kept,) = bench.store.aside.messages_aside()
    assert kept.why.startswith("why; and it cannot be kept whole: AttributeError") and "[[], {}, {}]" in kept.body


def test_ids_that_are_uuids_become_text() -> None:
    given = message("[[], {}, {}]", id=UUID(int=1), root_id=UUID(int=1), group=None, order=UUID(int=2))
    assert measure(given) is None
    assert given.headers["id"] == given.headers["root_id"] == str(UUID(int=1))
    assert given.headers["group"] is None and given.headers["order"] == UUID(int=2)


@pytest.mark.parametrize("value", [UUID(int=1), datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.5"), b"\xff"])
def test_a_message_is_put_aside_with_headers_of_any_type_that_kombu_reads(value: Any) -> None:
    bench = Bench()
    settle(bench.services, message("[[], {}, {}]", ignore_result=True, order=loads(dumps(value))), "why", True)
    [kept] = bench.store.aside.messages_aside()
    assert kept.headers["order"] == value


@pytest.mark.parametrize(
    "item",
    [
        "no JSON {",
        nested(100_000),
        "[1, 2]",
        '{"properties": {}}',
        dumps(envelope(headers=[1])),
        dumps(envelope(body="a")),
        dumps(envelope(body={"a": 1})),
        dumps(envelope(properties={"delivery_tag": "1", "delivery_info": {}})),
        dumps(envelope(properties={**envelope()["properties"], "body_encoding": "rot13"})),
    ],
)
def test_an_item_that_is_no_message_becomes_one_that_no_task_takes(item: str) -> None:
    read = measured_loads(item)
    assert problem_of(read) is not None
    made = unreadable(read, "runpod")
    assert problem_of(made) is None
    given = SimpleNamespace(content_type=made["content-type"], headers=made["headers"], body=b"")
    assert "cannot be read" in str(measure(given))


def test_a_message_is_a_message() -> None:
    assert problem_of(measured_loads(dumps(envelope()))) is None


class Ward:
    def __init__(self) -> None:
        self.taken: list[str] = []

    def take(self, message: Any, why: str, **_: Any) -> None:
        self.taken.append(why)


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), TypeError("no pickle")])
def test_what_the_pool_raises_ends_the_task_and_not_the_worker(error: Exception) -> None:
    bench, released = Bench(), []

    def refuse(request: Any) -> None:
        raise error

    controller = SimpleNamespace(use_eventloop=True, _process_task=refuse, _quick_release=lambda: released.append(True))
    consumer = LossTolerantConsumer(lambda request: None, app=bench.app, pool=None, controller=controller)
    consumer.ward = ward = Ward()  # type: ignore[assignment]

    class Request:
        id, acknowledged, message = "t1", False, SimpleNamespace(acknowledged=False)

    controller._process_task(Request())
    assert type(error).__name__ in ward.taken[0] and released == [True]


@pytest.mark.parametrize(("compression", "compress"), [("gzip", zlib.compress), ("application/x-bz2", bz2.compress)])
def test_a_body_is_not_unpacked_beyond_its_bound(compression: str, compress: Any) -> None:
    def packed(raw: bytes) -> dict[str, Any]:
        return envelope(body=base64.b64encode(compress(raw)).decode(), headers={"compression": compression})

    assert problem_of(packed(b"[[], {}, {}]")) is None
    assert "when it is unpacked" in str(problem_of(packed(bytes(MOST_UNPACKED + 1))))
    assert "compressed as its header says" in str(problem_of(envelope(headers={"compression": compression})))


@pytest.mark.parametrize("compression", ["brotli", "zstd", "none", 3, ["gzip"]])
def test_a_compression_that_cannot_be_bounded_is_refused(compression: Any) -> None:
    assert "its compression is none of" in str(problem_of(envelope(headers={"compression": compression})))


@pytest.mark.parametrize(
    "headers", [{"id": "x\ud800"}, {"root_id": "\udfff"}, {"stamps": {"a": ["\ud800"]}}], ids=["id", "root", "stamp"]
)
def test_a_header_that_can_be_written_nowhere_is_refused(headers: dict[str, Any]) -> None:
    assert "lone surrogate" in str(measure(message("[[], {}, {}]", **headers)))


def test_of_an_envelope_that_is_nested_without_end_the_task_is_known() -> None:
    text = json.dumps(envelope(headers={"id": "t1", "task": RUN, "extra": "HERE"})).replace('"HERE"', nested(5_000))
    found = unreadable(measured_loads(text), "runpod")
    assert (found["headers"]["id"], found["headers"]["task"]) == ("t1", RUN)
    assert unreadable("garbage", "runpod")["headers"].keys() == {"problem"}


def test_a_worker_listens_to_no_other_workers_events() -> None:
    consumer = LossTolerantConsumer(
        lambda request: None,
        app=Bench().app,
        pool=None,
        controller=SimpleNamespace(use_eventloop=True),
        # As the worker's command gives them.
        worker_options={"without_gossip": False, "without_mingle": False},
    )
    names = {type(step).__name__ for step in consumer.steps}
    assert {"Tasks", "Control", "Heart"} < names and not names & {"Gossip", "Mingle"}
