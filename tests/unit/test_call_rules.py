"""What a call means: partials of every kind merge as fields, and common Python values travel as JSON."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import pytest
from celery import Celery, chain
from django.utils.functional import lazystr
from pydantic import BaseModel

from celery_runpod import Endpoint
from celery_runpod._call_rules import check_message, unfolded
from celery_runpod._plain_json import plain_json
from celery_runpod._protocol import ARGUMENTS, CALL
from celery_runpod.errors import InvalidInput, InvalidOption
from celery_runpod.testing import FakeEndpoint, fake_endpoint

WIRE = ("endpoint", "options", "format", "fields", "not_before")


class Colour(Enum):
    RED = "red"


class Size(BaseModel):
    width: int
    made: date = date(2026, 1, 2)


@dataclasses.dataclass
class Picture:
    colour: Colour
    sizes: list[Size]


class Scalar:
    """As numpy's scalars are seen from outside."""

    shape = ()

    def item(self) -> float:
        return 1.5


Scalar.__module__ = "numpy"


@pytest.fixture
def app() -> Celery:
    made = Celery("partials", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_always_eager = True
    return made


@pytest.fixture
def fake(app: Celery) -> Iterator[FakeEndpoint]:
    with fake_endpoint("sdxl", output=lambda input: input) as made:
        yield made


@pytest.mark.parametrize("name", WIRE)
def test_a_field_may_have_any_name_in_every_form_of_a_call(app: Celery, fake: FakeEndpoint, name: str) -> None:
    sdxl = Endpoint("sdxl", app=app)
    forms: list[Any] = [
        lambda: sdxl.delay({"a": 1}, **{name: 7}),
        lambda: sdxl.s({"a": 1}, **{name: 7}).delay(),
        lambda: sdxl.s({"a": 1}).delay(**{name: 7}),
        lambda: sdxl.s({"a": 1}).clone(kwargs={name: 7}).delay(),
        lambda: sdxl.s({"a": 1}).apply_async(kwargs={name: 7}),
        lambda: sdxl.s(**{name: 6}).apply_async(({"a": 1},), {name: 7}),
        lambda: chain(sdxl.s({"a": 1}), sdxl.s(**{name: 7})).delay(),
    ]
    assert [form().get() for form in forms] == [{"a": 1, name: 7}] * len(forms)


def test_the_options_of_a_signature_stay_when_a_partial_is_merged(app: Celery, fake: FakeEndpoint) -> None:
    signature = Endpoint("sdxl", app=app).using(deadline=900).s(a=1).set(priority=3)
    signature.delay(b=2)
    (call,) = fake.calls
    assert (call.input, call.options.deadline, call.celery_options["priority"]) == ({"a": 1, "b": 2}, 900.0, 3)


def test_the_one_name_that_no_field_can_have_is_refused(app: Celery) -> None:
    with pytest.raises(InvalidInput, match=CALL):
        Endpoint("sdxl", app=app).s(**{CALL: {}})


@pytest.mark.parametrize("own", [3, "x", [], None, {"fields": {}}, {"fields": 3}])
def test_a_call_whose_own_key_cannot_be_read_is_refused(own: Any) -> None:
    with pytest.raises(InvalidOption):
        check_message(unfolded({CALL: own, "endpoint": "sdxl"}))


def test_a_message_by_name_is_as_documented() -> None:
    by_name: Mapping[str, Any] = {"endpoint": "sdxl", "fields": {"a": 1}, "options": {"deadline": 5}}
    assert unfolded(by_name) == by_name
    assert set(by_name) <= set(ARGUMENTS)
    assert unfolded({CALL: {"endpoint": "sdxl"}}) == {"endpoint": "sdxl"}


VALUES: list[tuple[Any, Any]] = [
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(3, 4), "03:04:00"),
    (Decimal("7.5"), 7.5),
    (Decimal("30"), 30),
    (Colour.RED, "red"),
    (PurePosixPath("a/b"), "a/b"),
    (Scalar(), 1.5),
    (lazystr("a cat"), "a cat"),
    (Size(width=3), {"width": 3, "made": "2026-01-02"}),
    (Picture(Colour.RED, [Size(width=1)]), {"colour": "red", "sizes": [{"width": 1, "made": "2026-01-02"}]}),
    ({Colour.RED: (1, uuid.UUID(int=0))}, {"red": [1, "00000000-0000-0000-0000-000000000000"]}),
]


@pytest.mark.parametrize(("value", "as_json"), VALUES, ids=[type(value).__name__ for value, _ in VALUES])
def test_common_values_travel_as_json(app: Celery, fake: FakeEndpoint, value: Any, as_json: Any) -> None:
    sdxl = Endpoint("sdxl", app=app)
    assert sdxl.delay(x=value).get() == {"x": as_json}
    assert sdxl.delay({"x": value}).get() == {"x": as_json}
    assert sdxl.s(x=0).delay(x=value).get() == {"x": as_json}


def test_a_model_is_an_input(app: Celery, fake: FakeEndpoint) -> None:
    assert Endpoint("sdxl", app=app).delay(Size(width=4), extra=1).get() == {
        "width": 4,
        "made": "2026-01-02",
        "extra": 1,
    }


def test_a_previous_result_is_json_too(app: Celery, fake: FakeEndpoint) -> None:
    @app.task(shared=False)
    def before() -> Any:
        return {"id": uuid.UUID(int=2), "price": Decimal("1.25")}

    flow = chain(before.s(), Endpoint("sdxl", app=app).s(a=1))
    assert flow.delay().get() == {"id": str(uuid.UUID(int=2)), "price": 1.25, "a": 1}


@pytest.mark.parametrize("value", [b"x", {1, 2}, object(), Decimal("NaN"), float("inf")])
def test_what_has_no_one_form_in_json_is_refused(app: Celery, value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"input\.x"):
        Endpoint("sdxl", app=app).s(x=value)


def test_a_value_that_contains_itself_stays_as_it_is() -> None:
    own: list[Any] = []
    own += [own, own, own]
    assert plain_json(own)[0] is own
