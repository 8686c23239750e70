"""Large answers that come together take turns, so that they fit into the memory of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from celery_runpod.api import RunPodClient
from celery_runpod.api._large_answers import AT_ONCE, LARGE_BYTES, NoTurn, one_answer, turns

from .conftest import MakeClient, Serve
from .servers import answer

LARGE = answer({"id": "9f-u1", "status": "COMPLETED", "output": "x" * (2 * LARGE_BYTES), "stream": []})
SMALL = answer({"id": "9f-u1", "status": "COMPLETED", "output": "x" * (LARGE_BYTES // 2)})


@pytest.fixture
def client(serve: Serve, client_of: MakeClient) -> RunPodClient:
    return client_of(serve(lambda request: SMALL if "small" in request.path else LARGE))


@contextmanager
def taken(number: int) -> Iterator[None]:
    """So many turns are in the hands of others."""
    for _ in range(number):
        turns().acquire()
    try:
        yield
    finally:
        for _ in range(number):
            turns().release()


@pytest.fixture
def no_turn() -> Iterator[None]:
    with taken(AT_ONCE):
        yield


def test_so_many_are_in_work_at_once(client: RunPodClient) -> None:
    inside, most, go_on = 0, 0, threading.Event()
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with one_answer():
            client.status("sdxl", "9f-u1", timeout=120)
            with counting:
                inside, most = inside + 1, max(most, inside + 1)
            assert go_on.wait(60)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(2 * AT_ONCE) as threads:
        begun = [threads.submit(work) for _ in range(2 * AT_ONCE)]
        while inside < AT_ONCE:
            time.sleep(0.01)
        # The others have the time to read theirs, if they may.
        time.sleep(0.2)
        go_on.set()
        for each in begun:
            each.result()
    assert most == AT_ONCE


def test_two_answers_of_one_work_have_one_turn(client: RunPodClient) -> None:
    with taken(AT_ONCE - 1):
        for _ in range(2):
            with one_answer():
                client.status("sdxl", "9f-u1")
                client.status("sdxl", "9f-u1")


@pytest.mark.usefixtures("no_turn")
def test_an_answer_that_gets_no_turn_is_given_up(client: RunPodClient) -> None:
    with one_answer(), pytest.raises(NoTurn):
        client.status("sdxl", "9f-u1", timeout=0.2)


@pytest.mark.usefixtures("no_turn")
def test_small_answers_need_no_turn(client: RunPodClient) -> None:
    with one_answer():
        assert client.status("small", "9f-u1").id == "9f-u1"


@pytest.mark.usefixtures("no_turn")
def test_what_cannot_be_asked_for_again_needs_no_turn(client: RunPodClient) -> None:
    """A POST may have been accepted, and GET /stream gives each chunk once."""
    with one_answer():
        assert client.run("sdxl", {}).id == "9f-u1"
        assert client.take_chunks("sdxl", "9f-u1")[0].id == "9f-u1"


@pytest.mark.usefixtures("no_turn")
def test_a_users_own_call_needs_no_turn(client: RunPodClient) -> None:
    assert client.status("sdxl", "9f-u1").id == "9f-u1"
