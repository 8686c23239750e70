"""Large answers that come together take turns, so that they fit into the memory of a process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from celery_runpod.api import RunPodClient, _transport
from celery_runpod.api._large_answers import AT_ONCE, LARGE_BYTES, one_answer, take_turn
from celery_runpod.errors import Unavailable

from .conftest import MakeClient, Serve
from .servers import answer

LARGE = answer({"id": "9f-u1", "status": "COMPLETED", "output": "x" * (2 * LARGE_BYTES)})
SMALL = answer({"id": "9f-u1", "status": "COMPLETED", "output": "x" * (LARGE_BYTES // 2)})


@pytest.fixture
def client(serve: Serve, client_of: MakeClient) -> RunPodClient:
    return client_of(serve(lambda request: SMALL if "small" in request.path else LARGE))


def turns_of(client: RunPodClient) -> threading.Semaphore:
    return client._http._session().turns


def test_so_many_are_worked_on_at_once(client: RunPodClient) -> None:
    inside, most, full = 0, 0, threading.Event()
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with one_answer():
            client.status("sdxl", "9f-u1")
            with counting:
                inside, most = inside + 1, max(most, inside + 1)
                if inside == AT_ONCE:
                    full.set()
            # The others have the time to read theirs, if they may.
            assert full.wait(60)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(3 * AT_ONCE) as threads:
        for done in [threads.submit(work) for _ in range(3 * AT_ONCE)]:
            done.result()
    assert most == AT_ONCE


def test_a_turn_is_over_when_the_answer_is_parsed_if_nothing_more_is_said(client: RunPodClient) -> None:
    for _ in range(2 * AT_ONCE):
        client.status("sdxl", "9f-u1")


def test_two_answers_of_one_work_have_one_turn(client: RunPodClient) -> None:
    for _ in range(AT_ONCE - 1):
        turns_of(client).acquire()
    with one_answer():
        client.status("sdxl", "9f-u1")
        client.status("sdxl", "9f-u1")


@pytest.fixture
def no_turn(client: RunPodClient) -> RunPodClient:
    for _ in range(AT_ONCE):
        turns_of(client).acquire()
    return client


def test_an_answer_that_gets_no_turn_in_its_time_is_asked_for_again(no_turn: RunPodClient) -> None:
    with pytest.raises(Unavailable, match="other answers of more than 1,000,000 bytes") as caught:
        no_turn.status("sdxl", "9f-u1", timeout=0.2)
    # By it a check knows that RunPod's API works (`tasks/order_of_looks.py`).
    assert caught.value.status == 200


def test_what_was_sent_by_post_is_read_in_any_case(no_turn: RunPodClient) -> None:
    assert no_turn.run("sdxl", {}, timeout=0.2).id == "9f-u1"


def test_small_answers_need_no_turn(no_turn: RunPodClient) -> None:
    assert no_turn.status("small", "9f-u1").id == "9f-u1"


def test_the_wait_for_a_turn_does_not_count_as_runpods(client: RunPodClient, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(client._http, "_clock", lambda: now)

    def late(*given: Any) -> bool:
        nonlocal now
        now += 1000
        return take_turn(*given)

    monkeypatch.setattr(_transport, "take_turn", late)
    assert client.status("sdxl", "9f-u1", timeout=5).id == "9f-u1"
