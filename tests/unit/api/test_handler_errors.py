"""What a handler's error says, in every shape that RunPod hands it on."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

from celery_runpod.api import Job
from celery_runpod.api._handler_errors import HandlerError, read_error
from celery_runpod.errors import JobFailed, decode, encode


class NoFaceError(Exception):
    """As a user's handler would have it."""


def written_by_runpods_worker(error: BaseException) -> str:
    """As runpod 1.12 writes it, `serverless/modules/rp_job.py`."""
    return json.dumps(
        {
            "error_type": str(type(error)),
            "error_message": str(error),
            "error_traceback": "".join(traceback.format_exception(error)),
            "hostname": "h",
            "worker_id": "w7",
            "runpod_version": "1.12",
        }
    )


def written_for_a_generator(error: BaseException) -> str:
    return f"handler: {error} \ntraceback: {''.join(traceback.format_exception(error))}"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def failed(error: Any, **fields: Any) -> JobFailed:
    failure = Job("9f-u1", "FAILED", error=error, **fields).failure("sdxl", "task-1")
    assert isinstance(failure, JobFailed)
    assert failure.error == error
    assert (failure.endpoint, failure.task_id, failure.job_id) == ("sdxl", "task-1", "9f-u1")
    return failure


def test_an_exception_of_a_plain_handler() -> None:
    failure = failed(written_by_runpods_worker(raised(NoFaceError("no face\nin the image"))))
    assert failure.message == "no face\nin the image"
    assert failure.error_type == "NoFaceError"
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback (most recent call last)")
    assert failure.worker_id == "w7"


def test_an_exception_of_a_generator_handler() -> None:
    failure = failed(written_for_a_generator(raised(ValueError("bad seed\nof two lines"))))
    assert failure.message == "bad seed\nof two lines"
    assert failure.error_type == "ValueError"
    assert failure.traceback is not None
    assert "raise error" in failure.traceback


@pytest.mark.parametrize("error", [KeyError("seed"), NoFaceError("none"), ValueError()])
def test_the_type_of_a_generators_exception_is_in_its_traceback(error: Exception) -> None:
    failure = failed(written_for_a_generator(raised(error)))
    assert failure.error_type == type(error).__name__
    assert failure.message


def test_an_exception_without_a_text_is_told_by_its_type() -> None:
    assert failed(written_by_runpods_worker(raised(ValueError()))).message == "ValueError"


def test_the_workers_id_of_the_answer_comes_first() -> None:
    assert failed(written_by_runpods_worker(ValueError("x")), worker_id="w1").worker_id == "w1"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("out of memory", HandlerError("out of memory")),
        ("{not json", HandlerError("{not json")),
        ('{"error": "from a dict"}', HandlerError("from a dict")),
        ({"message": "m", "type": "E", "traceback": ["line"]}, HandlerError("m", "E", '["line"]')),
        ({"error_type": "<class 'torch.cuda.OutOfMemoryError'>"}, HandlerError("OutOfMemoryError", "OutOfMemoryError")),
        ({"error_type": 7, "error_message": {"code": 1}, "worker_id": 3}, HandlerError('{"code": 1}', "7")),
        ({"code": 12}, HandlerError('{"code": 12}')),
        ({}, HandlerError(None)),
        ([], HandlerError("[]")),
        (["a", 1], HandlerError('["a", 1]')),
        (0, HandlerError("0")),
        (False, HandlerError("false")),
        ("", HandlerError(None)),
        ("  ", HandlerError(None)),
        (None, HandlerError(None)),
    ],
)
def test_errors_of_any_json_type(error: Any, told: HandlerError) -> None:
    assert read_error(error) == told


def test_a_long_error_is_cut_in_the_message_alone() -> None:
    failure = failed("x" * 10_000)
    assert len(failure.message) == 2000
    assert len(failure.error) == 10_000


@pytest.mark.parametrize("filling", ["\n", " ", "\ntraceback", "handler: "])
def test_an_error_made_to_be_slow_to_read_is_read(filling: str) -> None:
    """A webhook's body comes from anybody: what is quadratic in its length would hang here for minutes."""
    error = f"handler: {filling * 200_000}x"
    assert failed(error).error == error


def test_neither_error_nor_output() -> None:
    assert "neither an error nor an output" in failed(None).message


def test_an_output_without_an_error() -> None:
    failure = failed(None, output={"error": "inside"}, has_output=True)
    assert "`output`" in failure.message
    assert failure.output == {"error": "inside"}


def test_a_failure_survives_its_way_through_json() -> None:
    failure = failed(written_by_runpods_worker(raised(NoFaceError("none"))), output=[1])
    assert decode(json.loads(json.dumps(encode(failure)))).args == failure.args
