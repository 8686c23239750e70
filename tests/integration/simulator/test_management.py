"""The management API as a client sees it: pods, endpoints, bills, faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.integration.simulator.serving import HANDLERS, Client, receiver, simulator
from tests.waiting import eventually

L4 = {"name": "train", "image": "me/train:3", "gpu": {"id": "NVIDIA L4"}, "ports": ["22/tcp"]}
ENDPOINT = {
    "name": "fresh",
    "image": "me/sdxl:3",
    "type": "QUEUE",
    "gpu": {"pools": ["ADA_24"]},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
}
QUICK = ("--pod-provisioning", "0", "--pod-starting", "0", "--pod-terminated", "0")


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    with simulator("--endpoint", "fast=synthetic:duration=0.1,workers=2", "--endpoint", "slow=synthetic:duration=60",
                   "--endpoint", f"echo={HANDLERS / 'echo.py'},workers=2,idle=60", *QUICK) as client:  # fmt: skip
        yield client


@pytest.fixture
def runpod(shared: Client) -> Client:
    shared.reset()
    return shared


def create(runpod: Client, **fields: Any) -> dict[str, Any]:
    answer = runpod.send("POST", "/v2/pods", json={**L4, **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def act(runpod: Client, pod_id: str, action: str) -> requests.Response:
    return runpod.send("POST", f"/v2/pods/{pod_id}/action", json={"action": action})


def status(runpod: Client, pod_id: str) -> str:
    answer = runpod.send("GET", f"/v2/pods/{pod_id}")
    return str(answer.json()["status"]) if answer.ok else str(answer.status_code)


def get(runpod: Client, path: str) -> Any:
    answer = runpod.send("GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_pod_goes_through_its_life() -> None:
    with simulator("--pod-provisioning", "0.3", "--pod-starting", "0.3", "--pod-terminated", "0.3") as runpod:
        pod = create(runpod)
        assert (pod["status"], pod["actions"], pod["cost"]) == ("PROVISIONING", ["stop", "terminate"], 0.39)
        seen: list[str] = []

        def last() -> str:
            seen.append(status(runpod, pod["id"]))
            return seen[-1]

        eventually(last, "RUNNING")
        assert list(dict.fromkeys(seen)) == ["PROVISIONING", "STARTING", "RUNNING"]
        assert act(runpod, pod["id"], "stop").json()["status"] == "EXITED"
        assert act(runpod, pod["id"], "start").json()["status"] == "STARTING"
        eventually(last, "RUNNING")
        assert act(runpod, pod["id"], "restart").json()["status"] == "STARTING"
        assert act(runpod, pod["id"], "terminate").status_code == 204
        assert last() == "TERMINATED"
        eventually(last, "404")


def test_a_changed_pod(runpod: Client) -> None:
    pod = create(runpod)
    changed = runpod.send(
        "PATCH", f"/v2/pods/{pod['id']}", json={"name": "b", "env": {"A": "1"}, "locked": True}
    ).json()
    assert (changed["name"], changed["env"], changed["image"]) == ("b", {"A": "1"}, "me/train:3")
    refused = act(runpod, pod["id"], "stop")
    assert (refused.status_code, refused.json()["title"]) == (409, "Conflict")
    renamed = runpod.send("PATCH", f"/v2/pods/{pod['id']}", json={"name": "c", "locked": False})
    assert renamed.json()["name"] == "c"
    assert act(runpod, pod["id"], "stop").status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"gpu": {"id": "NVIDIA GTX 9"}}, 400, "GPU type 'NVIDIA GTX 9' not found"),
        ({"cpu": {"id": "cpu3c", "vcpuCount": 2}}, 400, "exactly one of gpu or cpu must be set"),
        ({"mounts": {"persistent": {"size": 10, "path": "/a"}, "network": []}}, 400, "mutually exclusive"),
        ({"dataCenterIds": ["MARS-1"]}, 400, "data center 'MARS-1' not found"),
        ({"bogus": 1}, 422, "$: additional properties 'bogus' not allowed"),
    ],
)
def test_what_cannot_be_is_refused(runpod: Client, fields: dict[str, Any], status: int, words: str) -> None:
    answer = runpod.send("POST", "/v2/pods", json={**L4, **fields})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["status"] == status and words in "\n".join([problem["detail"], *problem.get("errors", [])])
    assert get(runpod, "/v2/pods") == {"pods": []}


@pytest.mark.parametrize("path", ["/v2/pods", "/v2/serverless"])
@pytest.mark.parametrize("header", [{"Authorization": "Bearer wrong"}, {"Authorization": "key-of-the-tests"}, {}])
def test_without_the_key_nothing(runpod: Client, path: str, header: dict[str, str]) -> None:
    answer = requests.get(f"{runpod.address}{path}", headers=header, timeout=30)
    assert (answer.status_code, "bearer token" in answer.text, "RateLimit" in answer.headers) == (401, True, False)


def test_a_wrong_path_and_a_wrong_method(runpod: Client) -> None:
    assert runpod.send("GET", "/v2/templates").json()["detail"] == "not found; the simulator has no /v2/templates"
    answer = runpod.send("PUT", "/v2/pods")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert runpod.send("POST", "/v2/pods", data="{").json()["detail"] == "the body is not JSON"


def test_the_quota_is_told_and_its_end_too(runpod: Client) -> None:
    answer = runpod.send("GET", "/v2/pods")
    assert answer.headers["RateLimit-Policy"].startswith('"minute";q=') and ";r=" in answer.headers["RateLimit"]
    runpod.fault("status", operation="pods.list", status=429, headers={"Retry-After": "7"}, body="{}", times=1)
    answer = runpod.send("GET", "/v2/pods")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_the_log_is_followed_until_the_end_of_the_pod(runpod: Client) -> None:
    pod = create(runpod)
    with runpod.session.get(f"{runpod.address}/v2/pods/{pod['id']}/logs", stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert (answer.headers["Connection"], answer.headers["X-Accel-Buffering"]) == ("keep-alive", "no")
        lines = answer.iter_lines(decode_unicode=True)
        first = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
        assert (first["source"], first["line"]) == ("system", f"create pod {pod['id']}")
        act(runpod, pod["id"], "terminate")
        rest = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [line["line"] for line in rest[-2:]] == ["stop container", "remove container"]


def test_the_log_from_a_place_on(runpod: Client) -> None:
    pod = create(runpod)
    url = f"{runpod.address}/v2/pods/{pod['id']}/logs"

    def read(query: str = "", **headers: str) -> list[str]:
        with runpod.session.get(f"{url}{query}", stream=True, timeout=30, headers=headers) as answer:
            assert answer.ok, answer.text
            lines = answer.iter_lines(decode_unicode=True)
            return [next(line for line in lines if line.startswith(start)) for start in ("id: ", "data: ")]

    cursor, _ = read("?tail=1&source=system")
    assert cursor.endswith("/000000000003")
    after, data = read(**{"Last-Event-ID": cursor.removeprefix("id: ")})
    assert after.endswith("/000000000004") and json.loads(data.removeprefix("data: "))["source"] == "container"
    assert runpod.send("GET", f"/v2/pods/{pod['id']}/logs?tail=many").status_code == 422
    digits = "9" * 5000
    assert (
        runpod.send(
            "GET", f"/v2/pods/{pod['id']}/logs", headers={"Last-Event-ID": f"2000-01-01T00:00:00Z/{digits}"}
        ).status_code
        == 422
    )
    assert read("?since=2000-01-01T00:00:00Z/²") == read(), "no number: the time counts"


def test_an_endpoint_that_is_created_takes_jobs_until_it_is_deleted(runpod: Client) -> None:
    made = runpod.send("POST", "/v2/serverless", json={**ENDPOINT, "timeout": 900_000}).json()
    assert made["workers"] == {"min": 0, "max": 3, "idleTimeout": 10}
    assert made["requestUrls"]["run"] == f"{runpod.address}/v2/{made['id']}/run"
    assert runpod.runsync(made["id"], {"a": 1})["output"] == {"a": 1}
    assert made["id"] in [one["id"] for one in get(runpod, "/v2/serverless")["endpoints"]]
    waiting = runpod.run(made["id"])
    assert runpod.send("DELETE", f"/v2/serverless/{made['id']}").status_code == 204
    assert runpod.state(made["id"], waiting) == "404"
    assert runpod.send("POST", f"/v2/{made['id']}/run", json={"input": 1}).json() == {"error": "endpoint not found"}
    assert runpod.send("GET", f"/v2/serverless/{made['id']}").status_code == 404


def test_deleting_an_endpoint_cancels_its_jobs_and_says_so(runpod: Client) -> None:
    with receiver() as hook:
        runpod.run("slow", 1, webhook=hook.url)
        assert runpod.send("DELETE", "/v2/serverless/slow").status_code == 204
        eventually(lambda: [body["status"] for body in hook.bodies], ["CANCELLED"])
    runpod.reset()
    assert runpod.state("slow", runpod.run("slow")) == "IN_PROGRESS"


def test_the_limit_of_a_synthetic_endpoint_is_changed(runpod: Client) -> None:
    answer = runpod.send("PATCH", "/v2/serverless/slow", json={"workers": {"max": 1}})
    assert answer.json()["workers"]["max"] == 1
    jobs = [runpod.run("slow") for _ in range(3)]
    assert [runpod.state("slow", job) for job in jobs] == ["IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    workers = get(runpod, "/v2/serverless/slow/workers")
    assert [worker["status"] for worker in workers["workers"]] == ["RUNNING"] and workers["summary"]["running"] == 1
    runpod.send("PATCH", "/v2/serverless/slow", json={"workers": {"max": 2}})
    assert [runpod.state("slow", job) for job in jobs] == ["IN_PROGRESS", "IN_PROGRESS", "IN_QUEUE"]
    runpod.send("PATCH", "/v2/serverless/slow", json={"workers": {"max": 0}})
    assert runpod.health("slow")["workers"]["idle"] == 0


def test_the_workers_of_a_handler_come_and_go_as_they_are_scaled(runpod: Client) -> None:
    def workers() -> list[str]:
        return sorted(worker["status"] for worker in get(runpod, "/v2/serverless/echo/workers")["workers"])

    def scale(least: int, most: int) -> None:
        answer = runpod.send("PATCH", "/v2/serverless/echo", json={"workers": {"min": least, "max": most}})
        assert answer.status_code == 200, answer.text

    assert workers() == []
    scale(2, 3)
    eventually(workers, ["IDLE", "IDLE"], within_s=60)
    scale(0, 1)
    eventually(workers, ["IDLE"], within_s=60)
    scale(0, 0)
    eventually(workers, [], within_s=60)
    job = runpod.run("echo", {"a": 1})
    assert runpod.state("echo", job) == "IN_QUEUE"
    scale(0, 1)
    eventually(lambda: runpod.state("echo", job), "COMPLETED", within_s=60)


def test_a_timeout_of_the_endpoint_holds_for_its_jobs(runpod: Client) -> None:
    runpod.send("PATCH", "/v2/serverless/slow", json={"timeout": 200})
    job = runpod.run("slow")
    eventually(lambda: runpod.state("slow", job), "TIMED_OUT")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"gpu": {"pools": ["MOON"]}}, 400, "GPU pool 'MOON' not found"),
        ({"cpu": [{"id": "cpu3c", "vcpuCount": 2}]}, 400, "exactly one of gpu or cpu"),
        ({"workers": {"min": 4}}, 400, "workers.min (4) must not be over workers.max (3)"),
        ({"scaling": {"type": "REQUEST_COUNT", "queueDelay": 1}}, 422, "missing property 'requestCount'"),
        ({"type": "LOAD_BALANCER"}, 400, "the simulator has no load-balancing endpoints"),
    ],
)
def test_an_endpoint_that_cannot_be(runpod: Client, fields: dict[str, Any], status: int, words: str) -> None:
    answer = runpod.send("POST", "/v2/serverless", json={**ENDPOINT, **fields})
    assert answer.status_code == status and words in answer.text
    assert len(get(runpod, "/v2/serverless")["endpoints"]) == 3


def test_the_bill_is_what_was_used(runpod: Client) -> None:
    create(runpod)
    jobs = [runpod.runsync("fast") for _ in range(3)]
    used_s = sum(job["executionTime"] for job in jobs) / 1000
    (row,) = get(runpod, "/v2/billing/serverless?bucketSize=year")["records"]
    assert (row["serverlessId"], row["gpuAmount"]) == ("fast", pytest.approx(used_s / 3600 * 1.10, rel=0.1))
    bill = get(runpod, "/v2/billing/pods?bucketSize=year")
    assert bill["metadata"]["totals"]["gpuAmount"] == bill["records"][0]["gpuAmount"] > 0


def test_the_catalog_has_the_price_that_a_pod_costs(runpod: Client) -> None:
    gpu = get(runpod, "/v2/catalog/gpus/NVIDIA L4?include=AVAILABILITY&product=POD")
    assert create(runpod, gpu={"id": "NVIDIA L4", "count": 2})["cost"] == 2 * gpu["price"]["secure"]
    assert gpu["availability"] == "HIGH" and "availability" not in get(runpod, "/v2/catalog/gpus")["gpus"][0]
    assert runpod.send("GET", "/v2/catalog/gpus?include=AVAILABILITY").status_code == 400
    assert runpod.send("GET", "/v2/catalog/gpus/nothing").status_code == 404


def test_a_pod_is_created_though_the_answer_never_comes(runpod: Client) -> None:
    runpod.fault("drop_after", operation="pods.create", times=1)
    with pytest.raises(requests.ConnectionError):
        runpod.send("POST", "/v2/pods", json=L4)
    assert [pod["name"] for pod in get(runpod, "/v2/pods")["pods"]] == ["train"]
    assert runpod.counts()["pods.create"] == {"dropped": 1}


def test_a_pod_is_created_though_the_answer_is_a_500(runpod: Client) -> None:
    runpod.fault("status_after", operation="pods.create", status=500, times=1)
    assert runpod.send("POST", "/v2/pods", json=L4).status_code == 500
    assert [pod["name"] for pod in get(runpod, "/v2/pods")["pods"]] == ["train"]
    assert runpod.counts()["pods.create"] == {"500": 1}


def test_faults_of_every_kind_at_a_management_operation(runpod: Client) -> None:
    runpod.fault("drop_before", operation="pods.create", times=1)
    with pytest.raises(requests.ConnectionError):
        runpod.send("POST", "/v2/pods", json=L4)
    assert get(runpod, "/v2/pods") == {"pods": []}
    runpod.fault("status", operation="pods.create", status=502, times=1)
    assert runpod.send("POST", "/v2/pods", json=L4).status_code == 502
    runpod.fault("body", operation="pods.list", body="not json", times=1)
    assert runpod.send("GET", "/v2/pods").text == "not json"
    pod = create(runpod)
    runpod.fault("truncate", operation="pods.logs", times=1)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        runpod.send("GET", f"/v2/pods/{pod['id']}/logs")
    runpod.fault("delay", operation="pods.delete", seconds=0.01, times=1)
    assert runpod.send("DELETE", f"/v2/pods/{pod['id']}").status_code == 204
    assert runpod.counts() == {
        "pods.create": {"502": 1, "201": 1},
        "pods.list": {"200": 2},
        "pods.logs": {"200": 1},
        "pods.delete": {"204": 1},
    }


def test_a_fault_of_one_endpoint(runpod: Client) -> None:
    runpod.fault("status", endpoint="slow", operation="serverless.get", status=503)
    assert runpod.send("GET", "/v2/serverless/slow").status_code == 503
    assert runpod.send("GET", "/v2/serverless/fast").status_code == 200
    bad = {"kind": "delay", "endpoint": "slow", "operation": "pods.list"}
    answer = runpod.send("POST", "/_simulator/faults", json=bad)
    assert answer.json() == {"error": "operation 'pods.list' is of no endpoint: field 'endpoint' must be '*'"}


def test_a_reset_forgets_pods_and_brings_the_endpoints_back(runpod: Client) -> None:
    create(runpod)
    runpod.send("POST", "/v2/serverless", json=ENDPOINT)
    runpod.send("PATCH", "/v2/serverless/fast", json={"workers": {"max": 0}, "timeout": 1})
    runpod.send("DELETE", "/v2/serverless/echo")
    runpod.reset()
    assert get(runpod, "/v2/pods") == {"pods": []}
    endpoints = get(runpod, "/v2/serverless")["endpoints"]
    assert sorted(one["id"] for one in endpoints) == ["echo", "fast", "slow"]
    assert runpod.runsync("fast")["status"] == "COMPLETED"
    assert runpod.runsync("echo", {"a": 1})["status"] == "COMPLETED"
    assert get(runpod, "/v2/billing/pods")["records"] == []


def test_version_1_is_retired(runpod: Client) -> None:
    assert runpod.send("GET", "/v1/pods").status_code == 404
