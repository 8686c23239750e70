"""Every answer of the simulator's management API is described: status and body, errors too.

The requests are checked as well, except those that are meant to be wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest

from celery_runpod._simulator.management import catalog
from celery_runpod._simulator.simulator_server import Settings, Simulator
from tests.integration.simulator.serving import Client, simulator
from tests.waiting import eventually

from .described import check_answer, check_request

GPU_POD = {
    "name": "train", "image": "me/train:3", "gpu": {"id": "NVIDIA A40", "count": 2, "minCudaVersion": "12.4"},
    "args": "--port 80", "disk": 20, "env": {"A": "b"}, "ports": ["22/tcp", "80/http"], "registry": "clz",
    "mounts": {"persistent": {"size": 20, "path": "/workspace"}}, "dataCenterIds": ["EU-RO-1"],
    "globalNetworking": True, "startSsh": True,
}  # fmt: skip
CPU_POD = {"name": "web", "image": "me/web:1", "cpu": {"id": "cpu3g", "vcpuCount": 4},
           "mounts": {"network": [{"volumeId": "agv6w2qcg7", "path": "/data"}]}}  # fmt: skip
SCALING = {"type": "QUEUE_DELAY", "queueDelay": 4}
GPU_ENDPOINT = {"name": "sdxl", "image": "a", "type": "QUEUE", "gpu": {"pools": ["ADA_24", "AMPERE_24"]},
                "scaling": SCALING, "workers": {"min": 0, "max": 2, "idleTimeout": 5}}  # fmt: skip
CPU_ENDPOINT = {"name": "cpu", "templateId": "t", "type": "QUEUE", "cpu": [{"id": "cpu5c", "vcpuCount": 4}],
                "scaling": {"type": "REQUEST_COUNT", "requestCount": 2}}  # fmt: skip
STOCK = "include=AVAILABILITY&product=POD"


class Checked:
    """A client whose every answer is held to the description."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(
        self, method: str, url: str, body: Any = None, *, status: int, wrong: bool = False, **options: Any
    ) -> Any:
        path, _, query = url.partition("?")
        if not wrong:
            check_request("v2", method, path, dict(parse_qsl(query)), body)
        answer = self.client.send(method, url, json=body, **options)
        assert answer.status_code == status, answer.text
        kind = answer.headers.get("Content-Type", "")
        found = answer.json() if kind.endswith("json") else answer.text or None
        check_answer("v2", method, path, status, found)
        assert kind == ("application/problem+json" if status >= 400 else "" if status == 204 else kind)
        limited = {"RateLimit", "RateLimit-Policy"} <= set(answer.headers)
        assert limited is (status != 401)
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[Client]:
    arguments = ["--endpoint", "fast=synthetic:duration=0.01", "--endpoint", "few=synthetic:duration=60,workers=1"]
    paces = ["--pod-provisioning", "1", "--pod-starting", "1", "--pod-terminated", "0.2"]
    with simulator(*arguments, *paces) as client:
        yield client


@pytest.fixture
def ask(server: Client) -> Checked:
    server.reset()
    return Checked(server)


@pytest.mark.parametrize("body", [GPU_POD, CPU_POD], ids=["gpu", "cpu"])
def test_the_life_of_a_pod(ask: Checked, body: dict[str, Any]) -> None:
    pod_id = ask("POST", "/v2/pods", body, status=201)["id"]
    seen = []

    def look() -> str:
        seen.append(ask("GET", f"/v2/pods/{pod_id}", status=200)["status"])
        return str(seen[-1])

    eventually(look, "RUNNING")
    assert set(seen) == {"PROVISIONING", "STARTING", "RUNNING"}
    ask("GET", "/v2/pods", status=200)
    ask("GET", "/v2/pods?includeClusterPods=true", status=200)
    ask("PATCH", f"/v2/pods/{pod_id}", {"name": "b", "locked": False, "registry": None, "ports": []}, status=200)
    eventually(look, "RUNNING")
    ask("POST", f"/v2/pods/{pod_id}/action", {"action": "start"}, status=409)
    for action in ("restart", "stop", "start", "stop"):
        ask("POST", f"/v2/pods/{pod_id}/action", {"action": action}, status=200)
        eventually(lambda: look() in ("RUNNING", "EXITED"), True)
    ask("POST", f"/v2/pods/{pod_id}/action", {"action": "terminate"}, status=204)
    ask("GET", f"/v2/pods/{pod_id}/logs?tail=10", status=200)
    assert look() == "TERMINATED"
    ask("GET", "/v2/billing/pods", status=200)
    for path in (f"/v2/pods/{pod_id}", f"/v2/pods/{pod_id}/logs"):
        eventually(lambda path=path: ask.client.send("GET", path).status_code, 404)  # type: ignore[misc]
        ask("GET", path, status=404)


def test_the_log_is_a_stream_of_events(ask: Checked) -> None:
    pod_id = ask("POST", "/v2/pods", GPU_POD, status=201)["id"]
    with ask.client.session.get(f"{ask.client.address}/v2/pods/{pod_id}/logs", stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        lines = answer.iter_lines(decode_unicode=True)
        assert next(lines).startswith("id: 2") and next(lines).startswith('data: {"source"')


@pytest.mark.parametrize("body", [GPU_ENDPOINT, CPU_ENDPOINT], ids=["gpu", "cpu"])
def test_the_life_of_an_endpoint(ask: Checked, body: dict[str, Any]) -> None:
    made = ask("POST", "/v2/serverless", body, status=201)
    path = f"/v2/serverless/{made['id']}"
    ask.client.run("few")
    ask.client.runsync(made["id"])
    assert len(ask("GET", "/v2/serverless", status=200)["endpoints"]) == 3
    for endpoint in (made["id"], "fast", "few"):
        ask("GET", f"/v2/serverless/{endpoint}", status=200)
        assert ask("GET", f"/v2/serverless/{endpoint}/workers", status=200)["workers"]
    ask("PATCH", path, {"workers": {"min": 1, "max": 5}, "timeout": 9000, "image": "b"}, status=200)
    assert len(ask("GET", "/v2/billing/serverless", status=200)["records"]) == 2
    assert len(ask("GET", f"/v2/billing/serverless?serverlessId={made['id']}&lastN=2", status=200)["records"]) == 1
    ask("DELETE", path, status=204)
    for method in ("GET", "DELETE"):
        ask(method, path, status=404)
    ask("PATCH", path, {"name": "b"}, status=404)
    ask("GET", f"{path}/workers", status=404)


def test_what_is_refused(ask: Checked) -> None:
    both = {"gpu": {"id": "NVIDIA L4"}, "cpu": {"id": "cpu3c", "vcpuCount": 2}}
    for fields, status in (({"gpu": {"id": "none"}}, 400), (both, 400), ({"bogus": 1}, 422), ({"disk": 0}, 422)):
        ask("POST", "/v2/pods", {**GPU_POD, **fields}, status=status, wrong=True)
    for fields, status in (({"gpu": {"pools": ["none"]}}, 400), ({"bogus": 1}, 422), ({"scaling": {}}, 422)):
        ask("POST", "/v2/serverless", {**GPU_ENDPOINT, **fields}, status=status, wrong=True)
    ask("PATCH", "/v2/serverless/few", {"workers": {"max": -1}}, status=422, wrong=True)
    ask("GET", "/v2/pods/none", status=404)
    ask("PATCH", "/v2/pods/none", {"name": "b"}, status=404)
    ask("DELETE", "/v2/pods/none", status=404)
    ask("POST", "/v2/pods/none/action", {"action": "stop"}, status=404)
    ask("POST", "/v2/pods/none/action", {"action": "fly"}, status=422, wrong=True)
    ask("GET", "/v2/billing/pods?lastN=2&startTime=2026-06-01T00:00:00Z", status=400)
    ask("GET", "/v2/billing/pods?bucketSize=decade", status=400, wrong=True)
    ask("GET", "/v2/catalog/gpus/none", status=404)


def test_the_catalog(ask: Checked) -> None:
    gpus = ask("GET", "/v2/catalog/gpus", status=200)["gpus"]
    assert {gpu["id"] for gpu in gpus} == set(catalog.GPUS)
    ask("GET", f"/v2/catalog/gpus?{STOCK}", status=200)
    ask("GET", f"/v2/catalog/gpus/NVIDIA L4?{STOCK}", status=200)
    ask("GET", "/v2/catalog/gpus?include=AVAILABILITY", status=400)


def test_a_wrong_key_and_a_wrong_method(ask: Checked) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    for path in ("/v2/pods", "/v2/serverless", "/v2/catalog/gpus", "/v2/billing/pods"):
        ask("GET", path, status=401, headers=wrong)
    answer = ask.client.send("PUT", "/v2/pods")
    assert answer.status_code == 405 and {"title", "status"} <= set(answer.json())


def test_a_used_up_quota() -> None:
    async def asked() -> tuple[int, Mapping[str, str], Any]:
        simulator = Simulator(Settings(port=0))
        runner, address = await simulator.start()
        try:
            simulator.account.quotas.take = lambda now: "minute"  # type: ignore[method-assign]
            headers = {"Authorization": "Bearer any"}
            async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{address}/v2/pods") as answer:
                return answer.status, dict(answer.headers), await answer.json(content_type="application/problem+json")
        finally:
            await simulator.close()
            await runner.cleanup()

    status, headers, body = asyncio.run(asked())
    assert (status, 1 <= int(headers["Retry-After"]) <= 60) == (429, True)
    check_answer("v2", "GET", "/v2/pods", status, body)
