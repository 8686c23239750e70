"""How deeply JSON is nested: measured and cut without a call that calls itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_runpod.api._answers import parse_chunks, parse_job
from celery_runpod.api._depth import MAX_DEPTH, is_deeper, loads, pruned, text_depth, too_deep
from celery_runpod.api._http_errors import RawAnswer, Where, read
from celery_runpod.errors import BadAnswer, OutputTooDeep


def lists(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


def text(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [65, 500, 5_000, 100_000])
def test_a_value_that_is_too_deep_names_its_place(depth: int) -> None:
    assert too_deep({"a": lists(depth - 1)}) == "input.a[0][0]..."
    assert too_deep(lists(MAX_DEPTH)) is None


def test_a_value_that_contains_itself_or_is_shared_is_measured_in_no_time() -> None:
    itself: list[Any] = []
    itself.append(itself)
    shared: Any = []
    for _ in range(60):
        shared = [shared, shared]
    assert too_deep(itself) and too_deep(shared) is None


def test_brackets_in_texts_count_for_nothing() -> None:
    for value in ("[" * 100, '"[' * 100, "\\[" * 100, "\\"):
        assert text_depth(json.dumps([value])) == 1


def test_a_text_that_does_not_end_is_read_once() -> None:
    assert text_depth('["' + '\\"[' * 200_000) == 1
    assert text_depth("[" * 200_000) == 200_000


@pytest.mark.parametrize("depth", [3, 64, 5_000, 100_000])
def test_what_is_cut_can_be_parsed_and_is_not_deeper(depth: int) -> None:
    value = f'{{"a": {text(depth)}, "b": [1, "]"], "c": {text(depth)}}}'
    cut = pruned(value, 4)
    assert not is_deeper(cut, 4)
    assert json.loads(cut)["b"] == [1, "]"]


def test_only_the_first_elements_are_cut() -> None:
    body = f'[[{text(100)}], {{"fields": {text(100)}}}, {{"chain": {text(100)}}}]'
    args, kwargs, embed = json.loads(pruned(body, 66, elements=2))
    assert too_deep(args, most=65) is None and too_deep(kwargs, most=65) is None
    assert json.dumps(embed["chain"]) == text(100)


@pytest.mark.parametrize("depth", [70, 1_000, 100_000])
def test_an_output_that_is_too_deep_keeps_the_jobs_id(depth: int) -> None:
    body = f'{{"id": "r1", "status": "COMPLETED", "output": {text(depth)}}}'.encode()
    job = parse_job(read(RawAnswer(200, {}, body), Where("status", "e1", "r1")))
    assert job.too_deep and job.has_output and job.output is None
    failed = job.failure("e1", "t1")
    assert isinstance(failed, OutputTooDeep) and failed.job_id == "r1" and "/status/r1" in str(failed)


def test_an_output_at_the_bound_is_taken() -> None:
    body = f'{{"id": "r1", "status": "COMPLETED", "output": {text(MAX_DEPTH)}}}'
    job = parse_job(loads(body))
    assert not job.too_deep and job.failure() is None and json.dumps(job.output) == text(MAX_DEPTH)


def test_a_failure_with_an_error_that_is_too_deep_is_a_failure_in_words() -> None:
    failed = parse_job(loads(f'{{"id": "r1", "status": "FAILED", "error": {text(600)}}}')).failure()
    assert type(failed).__name__ == "JobFailed" and "nested deeper than 64 levels" in str(failed)


def test_progress_and_chunks_that_are_too_deep_are_dropped() -> None:
    assert parse_job(loads(f'{{"id": "r1", "status": "IN_PROGRESS", "output": {text(600)}}}')).output is None
    assert parse_chunks(loads(f'{{"stream": [{{"output": {text(600)}}}, {{"output": 1}}]}}')) == [None, 1]


@pytest.mark.parametrize("body", [text(5_000)[:-1].encode(), b"\xff\xfe[\x00", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(RawAnswer(200, {}, body), Where("health", "e1"))
