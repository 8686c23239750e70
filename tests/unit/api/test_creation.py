"""A create happens once: an answer that is lost is looked for by name, and the request never sent again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from celery_runpod.api import EndpointSpec, PodSpec
from celery_runpod.api._creation import LOOKS_AFTER_S
from celery_runpod.errors import (
    ApiError,
    CreateUnconfirmed,
    NameTaken,
    NotConfigured,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
)

from .conftest import KEY, MakeManager, Serve
from .servers import Act, Request, answer, hang_up, only, reset

SPEC = PodSpec(name="train", image="me/train:3", gpu="NVIDIA L4")
NAMELESS = PodSpec(image="me/train:3", gpu="NVIDIA L4")
ENDPOINT = EndpointSpec(image="me/sdxl:3", gpu_pools=["ADA_24"])

LOST: dict[str, bytes | Act] = {
    "500": answer({"title": "Internal Server Error", "status": 500, "detail": "no column NetworkVolume.userId"}, 500),
    "502": answer(b"<html><title>Bad gateway</title>", 502),
    "408": answer(b"", 408),
    "a redirect": answer(b"", 302, location="http://127.0.0.1/"),
    "hung up": hang_up,
    "reset": reset,
    "cut": only(b'HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"id": "7h'),
    "empty": answer(b"", 201),
    "not JSON": answer(b"created", 201),
    "no id": answer({"name": "train"}, 201),
}


class Account:
    """The pods (or endpoints) of an account. A create is made, after `lag` looks, and answered as the test says."""

    def __init__(self, told: bytes | Act, *, lag: int = 0, creates: bool = True, existing: list[Any] | None = None):
        self.told, self.lag, self.creates = told, lag, creates
        self.things: list[dict[str, Any]] = existing or []
        self.posts: list[dict[str, Any]] = []
        self.looks: list[bytes | Act] = []

    def __call__(self, request: Request) -> bytes | Act:
        if request.method == "POST":
            self.posts.append(request.json())
            return self.told
        if self.posts and self.looks:
            return self.looks.pop(0)
        if self.posts and self.creates:
            if self.lag == 0:
                self.things.append({"id": "new", "name": self.posts[0]["name"], "status": "PROVISIONING"})
            self.lag -= 1
        return answer({"pods": self.things, "endpoints": self.things})


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.mark.parametrize("lost", LOST)
def test_a_pod_whose_answer_is_lost_is_found_by_its_name(serve: Serve, manager_of: MakeManager, lost: str) -> None:
    account, sleeps = Account(LOST[lost], lag=2), Sleeps()
    pod = manager_of(serve(account)).create_pod(SPEC, sleep=sleeps)
    assert (pod.id, pod.name, pod.status) == ("new", "train", "PROVISIONING")
    assert len(account.posts) == 1
    assert sleeps == list(LOOKS_AFTER_S[:3])


@pytest.mark.parametrize("lost", LOST)
def test_one_that_is_not_found_is_never_asked_for_again(serve: Serve, manager_of: MakeManager, lost: str) -> None:
    account, sleeps = Account(LOST[lost], creates=False), Sleeps()
    with pytest.raises(CreateUnconfirmed, match="it may exist and be paid for") as caught:
        manager_of(serve(account)).create_pod(SPEC, sleep=sleeps)
    assert (caught.value.kind, caught.value.name) == ("pod", "train")
    assert "create_pod: " in (caught.value.problem or "")
    assert (len(account.posts), sleeps) == (1, list(LOOKS_AFTER_S))


def test_an_endpoint_is_found_too_also_by_the_name_that_flashboot_gives_it(
    serve: Serve, manager_of: MakeManager
) -> None:
    account = Account(LOST["500"])
    assert manager_of(serve(account)).create_endpoint(ENDPOINT, sleep=Sleeps()).id == "new"
    account = Account(LOST["500"], creates=False)
    looks: Callable[[Request], Any] = account

    def renamed(request: Request) -> Any:
        if request.method == "GET" and account.posts:
            account.things = [{"id": "fb", "name": f"{account.posts[0]['name']} -fb"}]
        return looks(request)

    assert manager_of(serve(renamed)).create_endpoint(ENDPOINT, sleep=Sleeps()).id == "fb"
    assert len(account.posts) == 1


def test_an_endpoint_that_is_not_found(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(LOST["hung up"], creates=False)
    with pytest.raises(CreateUnconfirmed) as caught:
        manager_of(serve(account)).create_endpoint(ENDPOINT, sleep=Sleeps())
    assert (caught.value.kind, len(account.posts)) == ("endpoint", 1)


@pytest.mark.parametrize("look", [hang_up, answer({}, 503), answer({"detail": "no"}, 401), answer([7], 200)])
def test_a_look_that_fails_is_a_look_without_a_find(serve: Serve, manager_of: MakeManager, look: bytes | Act) -> None:
    account, sleeps = Account(LOST["500"]), Sleeps()
    account.looks = [look, look]
    assert manager_of(serve(account)).create_pod(SPEC, sleep=sleeps).id == "new"
    assert sleeps == list(LOOKS_AFTER_S[:3])


def test_nothing_that_keeps_us_from_looking_hides_that_it_may_exist(serve: Serve, manager_of: MakeManager) -> None:
    keys = iter([KEY, KEY])

    def key() -> str:
        if (found := next(keys, None)) is None:
            raise NotConfigured("the key was taken away")
        return found

    account = Account(LOST["500"])
    with pytest.raises(CreateUnconfirmed):
        manager_of(serve(account), api_key=key).create_pod(SPEC, sleep=Sleeps())


def test_a_rate_limit_of_the_looks_is_kept(serve: Serve, manager_of: MakeManager) -> None:
    account, sleeps = Account(LOST["500"]), Sleeps()
    account.looks = [answer({}, 429, retry_after="5"), answer({}, 429, retry_after="3600")]
    assert manager_of(serve(account)).create_pod(SPEC, sleep=sleeps).id == "new"
    assert sleeps == [0.0, 5.0, 2.0, 16.0, 4.0]


def test_twins_cannot_be_told_apart(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(LOST["500"])
    account.looks = [answer({"pods": [{"id": "a", "name": "train"}, {"id": "b", "name": "train"}]})]
    with pytest.raises(CreateUnconfirmed, match="2 of this name"):
        manager_of(serve(account)).create_pod(SPEC, sleep=Sleeps())


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (answer({"detail": "no GPU is called 'NVIDIA L5'"}, 400), RequestRejected),
        (answer({"detail": "no such template"}, 404), RequestRejected),
        (answer({"detail": "no"}, 401), Unauthorized),
        (answer({}, 429), RateLimited),
    ],
)
def test_a_refusal_is_no_unknown(serve: Serve, manager_of: MakeManager, told: bytes, kind: type[ApiError]) -> None:
    account, sleeps = Account(told, creates=False), Sleeps()
    with pytest.raises(ApiError) as caught:
        manager_of(serve(account)).create_pod(NAMELESS, sleep=sleeps)
    assert type(caught.value) is kind
    assert sleeps == []


def test_what_was_not_sent_was_not_created(manager_of: MakeManager, serve: Serve) -> None:
    server, sleeps = serve(Account(LOST["500"])), Sleeps()
    client = manager_of(server)
    server.stop()
    with pytest.raises(Unavailable) as caught:
        client.create_pod(NAMELESS, sleep=sleeps)
    assert not caught.value.sent
    assert sleeps == []


# Names


def test_a_name_that_is_taken_is_refused_before_anything_is_created(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(answer({"id": "new"}, 201), existing=[{"id": "old", "name": "train", "status": "EXITED"}])
    with pytest.raises(NameTaken, match="old") as caught:
        manager_of(serve(account)).create_pod(SPEC)
    assert (caught.value.kind, caught.value.name, caught.value.existing_id) == ("pod", "train", "old")
    assert account.posts == []


def test_the_name_of_an_endpoint_is_refused_too(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(answer({"id": "new"}, 201), existing=[{"id": "old", "name": "sdxl -fb"}])
    with pytest.raises(NameTaken, match="an endpoint named 'sdxl' exists already") as caught:
        manager_of(serve(account)).create_endpoint(dataclasses.replace(ENDPOINT, name="sdxl"))
    assert (caught.value.kind, caught.value.existing_id) == ("endpoint", "old")
    assert account.posts == []


def test_a_pod_that_has_ended_holds_no_name_and_is_not_taken_for_ours(serve: Serve, manager_of: MakeManager) -> None:
    ended = {"id": "old", "name": "train", "status": "TERMINATED"}
    account = Account(LOST["500"], creates=False, existing=[ended])
    with pytest.raises(CreateUnconfirmed):
        manager_of(serve(account)).create_pod(SPEC, sleep=Sleeps())
    assert len(account.posts) == 1


def test_no_create_without_a_look_at_the_names(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(answer({"id": "new"}, 201))
    server = serve(lambda request: account(request) if request.method == "POST" else answer({}, 500))
    with pytest.raises(Unavailable):
        manager_of(server).create_pod(SPEC)
    assert account.posts == []


def test_a_name_is_made_where_none_is_given_and_no_two_are_the_same(serve: Serve, manager_of: MakeManager) -> None:
    account = Account(answer({"id": "new"}, 201))
    server = serve(account)
    client = manager_of(server)
    client.create_pod(NAMELESS)
    client.create_pod(NAMELESS)
    client.create_endpoint(ENDPOINT)
    names = [post["name"] for post in account.posts]
    assert len(set(names)) == 3
    assert names[0].startswith("celery-runpod-pod-") and names[2].startswith("celery-runpod-endpoint-")
    assert {request.method for request in server.requests} == {"POST"}, "a name made here needs no look"
