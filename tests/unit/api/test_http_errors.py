"""What an HTTP status and its body mean. No network: these functions are pure."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_runpod.api._http_errors import RawAnswer, Where, read
from celery_runpod.api._ratelimits import retry_after_s
from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    EndpointNotFound,
    JobNotFound,
    PodNotFound,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
)

RUN = Where("run", "sdxl")
STATUS = Where("status", "sdxl", "9f-u1")
PAGE = b"<!DOCTYPE html><html><head><title>sdxl | 502:\n Bad gateway</title></head>" + b"<p>much</p>" * 9999


def error_of(status: int, body: Any = b"", where: Where = STATUS, **headers: str) -> ApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        read(RawAnswer(status, headers, raw), where)
    assert (caught.value.operation, caught.value.endpoint, caught.value.job_id) == (
        where.operation,
        where.endpoint,
        where.job_id,
    )
    assert caught.value.status == status
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "where", "kind"),
    [
        (400, {"error": "input is missing"}, RUN, RequestRejected),
        (401, {"error": "unauthorized"}, RUN, Unauthorized),
        (401, b"", RUN, Unauthorized),
        (403, PAGE, RUN, Unauthorized),
        (404, {"error": "endpoint not found"}, RUN, EndpointNotFound),
        (404, {"error": "endpoint not found"}, STATUS, EndpointNotFound),
        (404, b"Endpoint sdxl not found", STATUS, EndpointNotFound),
        (404, b"", RUN, EndpointNotFound),
        (404, {"error": "job not found"}, STATUS, JobNotFound),
        (404, {"error": "job not found on this endpoint"}, STATUS, JobNotFound),
        (404, b"", STATUS, JobNotFound),
        (404, PAGE, STATUS, Unavailable),
        (404, PAGE, RUN, EndpointNotFound),
        (405, b"", RUN, RequestRejected),
        (408, b"", RUN, Unavailable),
        (413, PAGE, RUN, RequestRejected),
        (422, {"detail": [{"loc": ["input"]}]}, RUN, RequestRejected),
        (425, b"", RUN, Unavailable),
        (429, b"slow down", RUN, RateLimited),
        (499, b"", RUN, Unavailable),
        (500, {"error": "internal"}, RUN, Unavailable),
        (502, PAGE, STATUS, Unavailable),
        (503, b"", RUN, Unavailable),
        (524, PAGE, RUN, Unavailable),
        (302, b"", RUN, Unavailable),
        (304, b"", STATUS, Unavailable),
        (200, b"", RUN, BadAnswer),
        (200, PAGE, RUN, BadAnswer),
        (200, b'{"id": "9f-u1", "stat', RUN, BadAnswer),
        (200, b"\xff\xfe\xfd", RUN, BadAnswer),
        (200, b"[" * 200_000, RUN, BadAnswer),
        (204, b"", RUN, BadAnswer),
    ],
)
def test_each_status_has_its_error(status: int, body: Any, where: Where, kind: type[ApiError]) -> None:
    error = error_of(status, body, where)
    assert type(error) is kind
    if isinstance(error, Unavailable):
        assert error.sent


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": "no such template"}, "no such template"),
        ({"message": "no credit"}, "no credit"),
        ({"title": "Bad Request", "detail": "gpu is unknown"}, "gpu is unknown"),
        ({"error": {"code": 7}}, '{"code": 7}'),
        ("only text", "only text"),
        (b"plain words", "plain words"),
        (b"", "no reason given"),
        ({"error": ""}, "no reason given"),
        ([1, 2], "no reason given"),
        (b"<html><p>no title</p>", "a web page"),
    ],
)
def test_runpods_own_words_are_told(body: Any, told: str) -> None:
    assert error_of(400, body, RUN).message == told


def test_an_input_that_comes_back_in_a_refusal_is_not_told() -> None:
    assert error_of(400, {"input": {"prompt": "private"}, "webhook": "https://x"}, RUN).message == "no reason given"


def test_a_web_page_is_told_by_its_title() -> None:
    assert error_of(502, PAGE).message == "a web page: sdxl | 502: Bad gateway"


@pytest.mark.parametrize(
    "page", [b"<title>" * 9000, b"<title" * 9000, b"<html><TITLE lang=en>\n Bad\n gateway</TITLE>"]
)
def test_a_web_page_of_another_shape(page: bytes) -> None:
    assert error_of(502, page).message in ("a web page", "a web page: Bad gateway")


def test_a_long_reason_is_cut() -> None:
    message = error_of(400, {"error": "x" * 9000}).message
    assert len(message) == 500
    assert message.endswith(" ...")


def test_an_answer_that_broke_off_is_never_a_refusal() -> None:
    with pytest.raises(Unavailable, match="broke off: reset"):
        read(RawAnswer(404, {}, b"{", cut="reset"), STATUS)


def test_a_failed_job_in_a_400_is_a_job() -> None:
    failed = {"id": "pub-1", "status": "FAILED", "error": "no"}
    assert read(RawAnswer(400, {}, json.dumps(failed).encode()), RUN) == failed


@pytest.mark.parametrize(
    "body", [{"status": "FAILED", "error": "no"}, {"id": "", "status": "FAILED"}, {"id": 7, "status": "FAILED"}]
)
def test_a_400_that_is_no_job_is_a_refusal(body: Any) -> None:
    assert type(error_of(400, body, RUN)) is RequestRejected


DATE = "Tue, 24 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("5", None, 5.0),
        ("0.25", None, 0.25),
        ("-3", None, 0.0),
        ("Tue, 24 Nov 2026 08:01:30 GMT", DATE, 90.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", DATE, 0.0),
        ("Tue, 24 Nov 2026 08:01:30 GMT", None, None),
        ("Tue, 24 Nov 2026 08:01:30 -0000", DATE, None),
        ("99999999", None, 3600.0),
        ("nan", None, None),
        ("inf", None, None),
        ("soon", DATE, None),
        ("", DATE, None),
        (None, DATE, None),
    ],
)
def test_retry_after(value: str | None, date: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, date) == seconds


def test_a_rate_limit_carries_its_retry_after() -> None:
    error = error_of(429, b"<html>", RUN, **{"Retry-After": "4"})
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 4


# The management API

POD = Where("stop_pod", pod_id="7h9k")
CREATE = Where("create_pod")


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("answered", [b"", b"{}", b"started"])
def test_a_success_without_a_body_is_a_success(status: int, answered: bytes) -> None:
    assert read(RawAnswer(status, {}, answered, cut="reset"), POD, has_body=False) is None


def test_a_refusal_is_one_where_no_body_is_awaited_too() -> None:
    with pytest.raises(RequestRejected, match="not now"):
        read(RawAnswer(409, {}, b'{"detail": "not now"}'), POD, has_body=False)


@pytest.mark.parametrize(
    ("status", "body", "where", "kind"),
    [
        (404, {"detail": "gone"}, POD, PodNotFound),
        (404, {"detail": "endpoint of the API not found"}, POD, PodNotFound),
        (404, PAGE, POD, Unavailable),
        (404, PAGE, CREATE, RequestRejected),
        (404, {"detail": "template not found"}, CREATE, RequestRejected),
        (400, {"message": "pod 7h9k was not found"}, POD, PodNotFound),
        (400, {"message": "get pod: pod not found"}, POD, PodNotFound),
        (400, {"message": "Invalid Pod ID."}, POD, PodNotFound),
        (400, {"message": "pod template not found"}, POD, RequestRejected),
        (400, {"message": "pod not found"}, CREATE, RequestRejected),
        (400, {"message": "Invalid endpoint ID."}, Where("get_endpoint", "4m7x"), EndpointNotFound),
        (400, {"message": "Invalid endpoint ID."}, STATUS, RequestRejected),
    ],
)
def test_what_is_not_there(status: int, body: Any, where: Where, kind: type[ApiError]) -> None:
    error = error_of(status, body, where)
    assert type(error) is kind
    if isinstance(error, PodNotFound):
        assert error.pod_id == "7h9k"
        assert str(error).endswith("(pod 7h9k)")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            {"title": "Unprocessable", "detail": "2 faults", "errors": ["/gpu: a", "/name: b"]},
            "2 faults: /gpu: a; /name: b",
        ),
        ({"errors": ["/gpu: a"]}, "/gpu: a"),
        ({"detail": "x", "errors": []}, "x"),
        ({"detail": "x", "errors": [{"given": "hush"}, None]}, "x"),
        ({"detail": "x", "errors": "hush"}, "x"),
    ],
)
def test_a_problem_of_rfc_9457(body: Any, told: str) -> None:
    assert error_of(422, body, CREATE).message == told
