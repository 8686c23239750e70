"""What each operation sends, and what it makes of a good answer."""

from __future__ import annotations

import socket
import threading

import pytest

from celery_runpod.api import Health, Job, Policy, RunPodClient
from celery_runpod.errors import BadAnswer, InvalidOption, JobFailed, JobNotFound

from .conftest import KEY, MakeClient, Serve
from .servers import answer

QUEUED = {"id": "9f-u1", "status": "IN_QUEUE"}


def test_run_posts_the_input_and_gives_the_job(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    job = client_of(server).run("sdxl", {"prompt": "Zürich"})
    assert job == Job("9f-u1", "IN_QUEUE")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v2/sdxl/run")
    assert request.body == '{"input":{"prompt":"Zürich"}}'.encode()
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


def test_run_sends_policy_in_milliseconds_webhook_and_s3_config(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    s3 = {"accessId": "id", "accessSecret": "secret", "bucketName": "b", "endpointUrl": "https://s3.example"}
    policy = Policy(execution_timeout=900, ttl=3600.5, low_priority=False)
    client_of(server).run("sdxl", None, webhook="https://example.com/hook?x=1", policy=policy, s3_config=s3)
    assert server.requests[0].json() == {
        "input": None,
        "webhook": "https://example.com/hook?x=1",
        "policy": {"executionTimeout": 900_000, "ttl": 3_600_500, "lowPriority": False},
        "s3Config": s3,
    }


def test_an_empty_policy_is_not_sent(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    client_of(server).run("sdxl", 1, policy=Policy(), s3_config={})
    assert server.requests[0].json() == {"input": 1}


def test_run_without_an_id_is_a_bad_answer(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"status": "IN_QUEUE"}))
    with pytest.raises(BadAnswer, match="no job id") as caught:
        client_of(server).run("sdxl", 1)
    assert (caught.value.operation, caught.value.endpoint, caught.value.status) == ("run", "sdxl", 200)


def test_a_public_endpoint_refuses_with_a_failed_job(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"id": "pub-1", "status": "FAILED", "error": "prompt missing"}, 400))
    job = client_of(server).run("flux-schnell", {})
    assert job.final
    with pytest.raises(JobFailed, match="prompt missing"):
        job.result()


def test_run_sync_asks_runpod_to_hold_the_answer(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"id": "sync-1", "status": "COMPLETED", "output": [1], "executionTime": 2500}))
    job = client_of(server).run_sync("sdxl", {"x": 1}, wait=12.5)
    assert (job.result(), job.execution_s) == ([1], 2.5)
    assert server.requests[0].path == "/v2/sdxl/runsync?wait=12500"


def test_an_answer_that_is_held_back_on_purpose_is_waited_for(serve: Serve, client_of: MakeClient) -> None:
    def held(sock: socket.socket, stopped: threading.Event) -> None:
        stopped.wait(0.3)
        sock.sendall(answer({"id": "sync-1", "status": "COMPLETED"}))

    server = serve(lambda _: held)
    client = client_of(server, read_timeout=0.1, total_timeout=0.1)
    assert client.run_sync("sdxl", 1, wait=60).final


@pytest.mark.parametrize("wait_s", [0.5, 301, float("nan"), True, "10"])
def test_run_sync_refuses_a_wait_out_of_bounds(wait_s: float) -> None:
    with pytest.raises(InvalidOption, match="1 to 300 seconds"):
        RunPodClient(KEY).run_sync("sdxl", 1, wait=wait_s)


def test_status_is_a_get_of_the_job(serve: Serve, client_of: MakeClient) -> None:
    told = {
        "id": "9f-u1",
        "status": "IN_PROGRESS",
        "output": "step 3",
        "delayTime": 800,
        "workerId": "w1",
        "retries": 1,
    }
    server = serve(lambda _: answer(told))
    job = client_of(server).status("sdxl", "9f-u1", ttl=60)
    assert (job.state, job.output, job.delay_s, job.worker_id, job.retries) == ("IN_PROGRESS", "step 3", 0.8, "w1", 1)
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v2/sdxl/status/9f-u1?ttl=60000")


def test_status_stands_in_for_an_id_that_is_not_repeated(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"status": "IN_QUEUE"}))
    assert client_of(server).status("sdxl", "9f-u1").id == "9f-u1"


def test_status_of_an_unknown_job(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"error": "job not found"}, 404))
    with pytest.raises(JobNotFound) as caught:
        client_of(server).status("sdxl", "9f-u1")
    assert (caught.value.job_id, caught.value.status) == ("9f-u1", 404)


@pytest.mark.parametrize(("operation", "state"), [("cancel", "CANCELLED"), ("retry", "IN_QUEUE")])
def test_cancel_and_retry_post_to_the_job(serve: Serve, client_of: MakeClient, operation: str, state: str) -> None:
    server = serve(lambda _: answer({"id": "9f-u1", "status": state}))
    assert getattr(client_of(server), operation)("sdxl", "9f-u1").state == state
    assert (server.requests[0].method, server.requests[0].path) == ("POST", f"/v2/sdxl/{operation}/9f-u1")


def test_purge_queue_tells_how_many_were_removed(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"removed": 3, "status": "completed"}))
    assert client_of(server).purge_queue("sdxl") == 3
    assert (server.requests[0].method, server.requests[0].path) == ("POST", "/v2/sdxl/purge-queue")


def test_purge_queue_does_not_guess(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"status": "completed"}))
    with pytest.raises(BadAnswer, match="how many"):
        client_of(server).purge_queue("sdxl")


def test_health_counts_what_is_missing_as_none(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"jobs": {"inQueue": 4}, "workers": {"throttled": 2, "idle": None}}))
    assert client_of(server).health("sdxl") == Health(in_queue=4, throttled=2)
    assert server.requests[0].path == "/v2/sdxl/health"


def test_a_closed_client_can_be_used_again(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    with client_of(server) as client:
        client.run("sdxl", 1)
    client.run("sdxl", 2)
    assert [request.connection for request in server.requests] == [1, 2]
