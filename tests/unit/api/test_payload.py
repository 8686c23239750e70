"""What cannot be sent is refused before anything is, and the text names the place."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_runpod.api import RunPodClient
from celery_runpod.api._payload import RUN_LIMIT_BYTES, RUNSYNC_LIMIT_BYTES, check_input, encode, encode_body
from celery_runpod.errors import InvalidInput, PayloadTooLarge

from .conftest import KEY, MakeClient, Serve
from .servers import answer

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Colour(enum.IntEnum):
    RED = 1


def itself() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return loop


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "input is nan, which JSON does not have"),
        ({"images": ["a", "b", decimal.Decimal(1)]}, "input.images[2] is a Decimal"),
        ({"a b": {"when": datetime.date(2026, 1, 1)}}, "input['a b'].when is a date"),
        ({"x": [1, [2, float("-inf")]]}, "input.x[1][1] is -inf"),
        ({"x": ({"y": {1, 2}},)}, "input.x[0].y is a set"),
        ({"image": b"\x89PNG"}, "input.image is a bytes"),
        ({("a", "b"): 1}, "input has a key that is a tuple"),
        ({"x": {float("nan"): 1}}, "input.x has the key nan"),
        ({"x": "\ud800"}, "input.x holds a lone surrogate"),
        ({"\ud800": 1}, "input has a key that holds a lone surrogate"),
        ({"x": 1 << 20_000}, "input.x is an integer of too many digits"),
        (itself(), "is nested deeper than 64 levels"),
        (object(), "input is a object"),
    ],
)
def test_what_is_not_json(value: Any, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(value, endpoint="sdxl")
    assert problem in str(caught.value)
    assert caught.value.endpoint == "sdxl"
    assert caught.value.__context__ is None


def test_an_input_nested_without_end() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidInput, match=r"input\[0\]\[0\]\[0\]\.\.\. is nested deeper than 64 levels"):
        check_input(deep)


def test_what_json_takes_is_taken() -> None:
    assert json.loads(encode({1: Colour.RED, None: (1, 2), "é": 1.5})) == {"1": 1, "null": [1, 2], "é": 1.5}


@settings(deadline=None)
@given(JSON)
def test_the_size_is_that_of_the_json(value: Any) -> None:
    assert check_input(value) == len(encode(value))
    assert json.loads(encode_body(value, RUN_LIMIT_BYTES)) == {"input": value}


def test_the_limit_is_in_bytes_of_the_whole_body() -> None:
    fits = "x" * (RUN_LIMIT_BYTES - len('{"input":""}'))
    assert len(encode_body(fits, RUN_LIMIT_BYTES)) == RUN_LIMIT_BYTES
    with pytest.raises(PayloadTooLarge) as caught:
        encode_body(fits, RUN_LIMIT_BYTES, webhook="https://example.com")
    assert caught.value.size_bytes == RUN_LIMIT_BYTES + len(',"webhook":"https://example.com"')
    assert caught.value.limit_bytes == RUN_LIMIT_BYTES
    with pytest.raises(PayloadTooLarge, match=r"is 12\.0 MB, and RunPod takes at most 10 MB"):
        check_input("é" * 6_000_000)


def test_runsync_takes_twice_as_much(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda request: answer({"id": "a", "status": "COMPLETED", "output": len(request.body)}))
    client, large = client_of(server), "x" * 15_000_000
    with pytest.raises(PayloadTooLarge):
        client.run("sdxl", large)
    assert server.requests == []
    assert client.run_sync("sdxl", large).result() == 15_000_012
    with pytest.raises(PayloadTooLarge):
        client.run_sync("sdxl", "x" * RUNSYNC_LIMIT_BYTES)


def test_nothing_is_sent_of_an_input_that_is_not_json(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"id": "a", "status": "IN_QUEUE"}))
    with pytest.raises(InvalidInput):
        client_of(server).run("sdxl", {"x": float("inf")})
    assert server.connections == 0


def test_a_secret_in_a_wrong_s3_config_is_not_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        RunPodClient(KEY).run("sdxl", 1, s3_config={"accessSecret": b"hush"})  # type: ignore[dict-item]
    assert str(caught.value) == (
        "s3_config.accessSecret is a bytes, which is not JSON: give text, numbers, lists or dicts (endpoint sdxl)"
    )
