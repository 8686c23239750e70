"""ManagementClient over HTTP: the same types from both versions, typed errors, and nothing sent that cannot be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_runpod.api import BillingPeriod, ManagementClient, Pod, ServerlessEndpoint
from celery_runpod.api._restv1 import V1
from celery_runpod.api._restv2 import V2
from celery_runpod.errors import (
    BadAnswer,
    ConfigurationError,
    EndpointNotFound,
    InvalidInput,
    InvalidOption,
    NotOffered,
    PodNotFound,
    PodNotRunning,
    RateLimited,
    RequestRejected,
    RunPodError,
    Unauthorized,
    Unavailable,
)

from .conftest import KEY, MakeManager, Serve
from .rest import ENDPOINT, ENDPOINTS, GPU, POD, PODS, REST, worded
from .servers import answer, hang_up, only
from .test_secrets import assert_no_key_in
from .test_waiting import Time

AT = datetime(2026, 6, 1, 12, 2, tzinfo=UTC)
SAME_POD = Pod(
    id=POD,
    name="train",
    status="RUNNING",
    image="me/train:3",
    gpu="NVIDIA L4",
    gpu_count=2,
    cloud="SECURE",
    data_center="US-KS-2",
    usd_per_hour=0.86,
    template_id="9x4m2p7v",
    disk_gb=50,
    ports=("8888/http", "22/tcp"),
    public_ip="100.65.0.119",
    public_ports={22: 10341},
    env={"TOKEN": "hush"},
    locked=True,
    started_at=AT,
)
V2_TELLS: dict[str, Any] = {
    "template_id": "9x4m2p7v",
    "ssh": "ssh root@100.65.0.119 -p 10341",
    "actions": ("stop", "restart", "terminate"),
    "uptime_s": 3600.0,
    "created_at": datetime(2026, 6, 1, 12, tzinfo=UTC),
}
Call = Callable[[ManagementClient], Any]


@pytest.fixture(params=["v2", "v1"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_both_versions_tell_the_same_pod(serve: Serve, manager_of: MakeManager, version: str) -> None:
    client = manager_of(serve(REST[version]), version)
    expected = SAME_POD if version == "v1" else dataclasses.replace(SAME_POD, **V2_TELLS)
    assert client.list_pods() == [expected]
    assert client.get_pod(POD) == client.start_pod(POD) == client.stop_pod(POD) == client.restart_pod(POD) == expected
    assert client.update_pod(POD, {"name": "train"}) == expected
    assert client.terminate_pod(POD) is None
    assert "hush" not in repr(expected)


def test_both_versions_tell_the_same_endpoint(serve: Serve, manager_of: MakeManager, version: str) -> None:
    client = manager_of(serve(REST[version]), version)
    endpoint = client.get_endpoint(ENDPOINT)
    assert [endpoint] == client.list_endpoints()
    assert endpoint == client.update_endpoint(ENDPOINT, {"workers_max": 5})
    common = ServerlessEndpoint(
        id=ENDPOINT,
        name="sdxl",
        gpu_count=1,
        workers_min=1,
        workers_max=5,
        idle_timeout_s=7.0,
        scaler="QUEUE_DELAY",
        scaler_value=4.0,
        execution_timeout_s=300.0,
        data_centers=("US-KS-2",),
        network_volumes=("2q9m7x4c",),
        created_at=datetime(2026, 6, 1, 12, tzinfo=UTC),
    )
    own: dict[str, Any] = (
        {"gpu_types": ("NVIDIA L4",), "template_id": "30zmvf89kd"}
        if version == "v1"
        else {"gpu_pools": ("ADA_24",), "image": "me/sdxl:3", "type": "QUEUE", "flashboot": True}
    )
    assert endpoint == dataclasses.replace(common, **own)
    assert client.delete_endpoint(ENDPOINT) is None


def test_workers(serve: Serve, manager_of: MakeManager, version: str) -> None:
    (worker,) = manager_of(serve(REST[version]), version).list_workers(ENDPOINT)
    assert (worker.gpu, worker.stale) == ("NVIDIA L4", True)
    assert worker.status == ("IDLE" if version == "v2" else "RUNNING")


def test_bills(serve: Serve, manager_of: MakeManager, version: str) -> None:
    client = manager_of(serve(REST[version]), version)
    (pod,), (endpoint,) = client.pod_billing(POD), client.endpoint_billing()
    assert (pod.resource_id, pod.amount_usd, pod.start) == (POD, 12.34, datetime(2026, 6, 1, tzinfo=UTC))
    assert (endpoint.resource_id, endpoint.amount_usd) == (ENDPOINT, 12.34)
    assert (pod.gpu_usd, pod.billed_s) == ((11.1, None) if version == "v2" else (None, 3600.0))


def test_gpus_with_prices(serve: Serve, manager_of: MakeManager) -> None:
    server = serve(REST["v2"])
    (gpu,) = manager_of(server).list_gpus(available_for="SERVERLESS")
    assert (gpu.id, gpu.pool, gpu.memory_gb, gpu.availability) == ("NVIDIA L4", "ADA_24", 24, "LOW")
    assert (gpu.secure_usd_per_hour, gpu.community_usd_per_hour, gpu.serverless_usd_per_hour) == (0.43, 0.0, 0.69)
    assert (gpu.secure, gpu.community, gpu.secure_max_count) == (True, False, 8)
    assert server.requests[0].path == "/v2/catalog/gpus?include=AVAILABILITY&product=SERVERLESS"


def test_v1_tells_the_pod_by_a_second_request(serve: Serve, manager_of: MakeManager) -> None:
    server = serve(REST["v1"])
    manager_of(server, "v1").reset_pod(POD)
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", f"/v1/pods/{POD}/reset"),
        ("GET", f"/v1/pods/{POD}?includeMachine=true"),
    ]
    assert server.requests[0].body == b""


# Which version, and where


@pytest.mark.parametrize(
    ("environment", "options", "shown"),
    [
        ({}, {}, "rest_version='v2', base_url='https://api.runpod.io/v2'"),
        ({"RUNPOD_REST_VERSION": "v1"}, {}, "rest_version='v1', base_url='https://rest.runpod.io/v1'"),
        (
            {"RUNPOD_REST_VERSION": " V1 "},
            {"rest_version": "v2"},
            "rest_version='v2', base_url='https://api.runpod.io/v2'",
        ),
        (
            {"RUNPOD_REST_VERSION": ""},
            {"rest_version": "v1"},
            "rest_version='v1', base_url='https://rest.runpod.io/v1'",
        ),
        ({"RUNPOD_REST_URL": "http://here/v2/"}, {}, "rest_version='v2', base_url='http://here/v2'"),
        (
            {"RUNPOD_REST_URL": "http://here"},
            {"base_url": "http://there"},
            "rest_version='v2', base_url='http://there'",
        ),
        ({"RUNPOD_BASE_URL": "http://jobs/v2"}, {}, "rest_version='v2', base_url='https://api.runpod.io/v2'"),
    ],
)
def test_which_version_and_where(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], options: dict[str, str], shown: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert repr(ManagementClient(KEY, **options)) == f"ManagementClient({shown})"


def test_a_version_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidOption, match=r"'v3' given; allowed: 'v1' or 'v2'"):
        ManagementClient(KEY, rest_version="v3")
    monkeypatch.setenv("RUNPOD_REST_VERSION", "graphql")
    with pytest.raises(ConfigurationError, match="RUNPOD_REST_VERSION is 'graphql'; it must be v1 or v2"):
        ManagementClient(KEY)


def test_a_url_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_REST_URL", "https://user:hush@api.runpod.io/v2")
    with pytest.raises(ConfigurationError, match=r"rest\.runpod\.io/v1") as caught:
        ManagementClient(KEY, rest_version="v1")
    assert "hush" not in str(caught.value)


# Refusals


NO_POD = {"title": "Not Found", "status": 404, "detail": "no such pod"}
NO_TEMPLATE = {"message": "pod template not found"}
PROBLEM = {"title": "Bad Request", "status": 400, "detail": "no GPU is called 'NVIDIA L5'", "errors": ["gpu.id", 7]}


@pytest.mark.parametrize(
    ("call", "status", "body", "kind", "told"),
    [
        (
            lambda c: c.get_pod(POD),
            404,
            {"title": "Not Found", "status": 404, "detail": "no such pod"},
            PodNotFound,
            "no such pod",
        ),
        (lambda c: c.stop_pod(POD), 404, b"", PodNotFound, "no reason given"),
        (lambda c: c.get_pod(POD), 400, {"message": f"pod {POD} not found"}, PodNotFound, "not found"),
        (lambda c: c.get_pod(POD), 400, {"message": "Invalid Pod ID."}, PodNotFound, "Invalid Pod ID"),
        (
            lambda c: c.update_pod(POD, {"name": "a"}),
            400,
            {"message": "pod template not found"},
            RequestRejected,
            "template",
        ),
        (lambda c: c.get_pod(POD), 404, b"<html><title>nginx</title>", Unavailable, "is the base URL right"),
        (lambda c: c.get_endpoint(ENDPOINT), 404, {"detail": "gone"}, EndpointNotFound, "gone"),
        (lambda c: c.delete_endpoint(ENDPOINT), 400, {"message": "Invalid endpoint ID."}, EndpointNotFound, "Invalid"),
        (lambda c: c.list_pods(), 404, {"detail": "no such path"}, RequestRejected, "no such path"),
        (
            lambda c: c.update_pod(POD, {"image": "a"}),
            400,
            PROBLEM,
            RequestRejected,
            "no GPU is called 'NVIDIA L5': gpu.id",
        ),
        (lambda c: c.start_pod(POD), 409, {"title": "Conflict", "status": 409}, RequestRejected, "Conflict"),
        (lambda c: c.list_pods(), 401, {"message": "no"}, Unauthorized, "no"),
        (lambda c: c.list_gpus(), 403, {"detail": "no"}, Unauthorized, "no"),
        (lambda c: c.list_pods(), 500, {"message": "oops"}, Unavailable, "oops"),
        (lambda c: c.terminate_pod(POD), 503, b"", Unavailable, "no reason given"),
    ],
)
def test_refusals(
    serve: Serve, manager_of: MakeManager, call: Call, status: int, body: Any, kind: type[RunPodError], told: str
) -> None:
    client = manager_of(serve(lambda _: answer(body, status)))
    with pytest.raises(RunPodError, match=told.replace("(", r"\(")) as caught:
        call(client)
    assert type(caught.value) is kind
    assert vars(caught.value)["status"] == status
    if isinstance(caught.value, PodNotFound):
        assert caught.value.pod_id == POD
    assert json.loads(json.dumps(caught.value.args)) == list(caught.value.args)


def test_an_error_names_operation_and_pod(serve: Serve, manager_of: MakeManager) -> None:
    client = manager_of(serve(lambda _: answer({"detail": "not valid for EXITED"}, 409)))
    with pytest.raises(RequestRejected) as caught:
        client.stop_pod(POD)
    assert str(caught.value) == f"stop_pod: HTTP 409: not valid for EXITED (pod {POD})"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "12"}, 12.0),
        ({"ratelimit": '"minute";r=0;t=12, "hour";r=2800;t=1812'}, 12.0),
        ({"ratelimit_policy": '"minute";q=60;w=60'}, 60.0),
        ({}, None),
    ],
)
def test_a_rate_limit(serve: Serve, manager_of: MakeManager, headers: dict[str, str], seconds: float | None) -> None:
    client = manager_of(serve(lambda _: answer({"title": "Too Many Requests"}, 429, **headers)))
    with pytest.raises(RateLimited) as caught:
        client.list_pods()
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", None, 7])
def test_ids_that_lead_elsewhere(serve: Serve, manager_of: MakeManager, version: str, name: Any) -> None:
    server = serve(REST[version])
    client = manager_of(server, version)
    calls: list[Callable[[], Any]] = [
        lambda: client.get_pod(name),
        lambda: client.terminate_pod(name),
        lambda: client.stop_pod(name),
        lambda: client.update_pod(name, {"name": "a"}),
        lambda: client.wait_until_running(name, 1),
        lambda: client.delete_endpoint(name),
        lambda: client.list_workers(name),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="cannot be the id"):
            call()
    assert server.connections == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.create_pod({"image": "a", "gpu": "x", "cpu": "y"}),
        lambda c: c.create_pod({"image": "a", "gpus": 1}),
        lambda c: c.create_pod({"name": "taken?", "image": "", "gpu": "x"}),
        lambda c: c.create_pod({"name": "a", "image": "b", "gpu": "x", "interruptible": True}),
        lambda c: c.create_endpoint({"image": "a", "gpu_pools": ["x"], "workers_min": 2, "workers_max": 1}),
        lambda c: c.create_endpoint({"name": "a", "image": "b", "gpu_types": ["x"]}),
        lambda c: c.update_pod(POD, {}),
        lambda c: c.update_endpoint(ENDPOINT, {"nope": 1}),
        lambda c: c.reset_pod(POD),
        lambda c: c.list_gpus(available_for="LUNCH"),
        lambda c: c.pod_logs(POD, tail=5001),
        lambda c: c.pod_logs(POD, tail=True),
        lambda c: c.pod_logs(POD, source="mine"),
        lambda c: c.pod_logs(POD, quiet=0),
    ],
)
def test_what_cannot_be_is_never_sent(serve: Serve, manager_of: MakeManager, call: Call) -> None:
    server = serve(REST["v2"])
    with pytest.raises((InvalidOption, NotOffered)):
        call(manager_of(server))
    assert server.connections == 0


# Answers that are odd


@pytest.mark.parametrize("odd", [None, [], {}, "x", 7, True, [None], {"id": 1}, [{}]])
def test_odd_fields_are_as_good_as_missing(odd: Any) -> None:
    pod = dict.fromkeys([*_names("v2"), *_names("v1")], odd) | {"id": POD}
    for version in (V1, V2):
        assert worded(version, "get_pod", POD).parse(pod).id == POD
        assert worded(version, "get_endpoint", ENDPOINT).parse(pod).id == POD
        assert isinstance(worded(version, "list_workers", ENDPOINT).parse(pod | {"workers": [pod]})[0].gpu_count, int)
        assert worded(version, "pod_billing", None, BillingPeriod()).parse([{**pod, "amount": odd, "totalAmount": odd}])
    assert worded(V2, "list_gpus", None).parse({"gpus": [dict.fromkeys(GPU, odd) | {"id": "a"}]})[0].id == "a"


def _names(version: str) -> list[str]:
    return [*PODS[version], *ENDPOINTS[version], "cpu", "cpuFlavorId", "vcpuCount"]


def test_a_status_that_nobody_knows_is_kept() -> None:
    assert worded(V2, "get_pod", POD).parse({"id": POD, "status": "DREAMING"}).status == "DREAMING"
    assert worded(V1, "get_pod", POD).parse({"id": POD, "desiredStatus": "DREAMING"}).status == "DREAMING"
    assert worded(V2, "get_pod", POD).parse({"id": POD}).status == "UNKNOWN"


@pytest.mark.parametrize("body", [[], {}, {"id": ""}, {"id": 7}, "x", None])
def test_an_answer_that_tells_no_pod(serve: Serve, manager_of: MakeManager, body: Any) -> None:
    with pytest.raises(BadAnswer) as caught:
        manager_of(serve(lambda _: answer(body))).get_pod(POD)
    assert caught.value.operation == "get_pod"


@pytest.mark.parametrize("body", [{}, {"pods": None}, "x", None, {"endpoints": []}])
def test_an_answer_that_tells_no_list(serve: Serve, manager_of: MakeManager, body: Any) -> None:
    with pytest.raises(BadAnswer, match="without a list of pods"):
        manager_of(serve(lambda _: answer(body))).list_pods()


def test_what_has_no_id_is_left_out_of_a_list(serve: Serve, manager_of: MakeManager) -> None:
    server = serve(lambda _: answer({"pods": [{"name": "a"}, None, 7, {"id": "b"}]}))
    assert [pod.id for pod in manager_of(server).list_pods()] == ["b"]


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"ok"])
def test_an_end_needs_no_body(serve: Serve, manager_of: MakeManager, version: str, body: bytes) -> None:
    server = serve(lambda _: answer(body, 200))
    client = manager_of(server, version)
    client.terminate_pod(POD)
    client.delete_endpoint(ENDPOINT)
    asked = [(one.method, one.path.rpartition("/")[2]) for one in server.requests]
    assert asked == [("DELETE", POD), ("DELETE", ENDPOINT)]


# Waiting


def test_waiting_for_a_pod(serve: Serve, manager_of: MakeManager) -> None:
    statuses = iter(["PROVISIONING", "PROVISIONING", "STARTING", "RUNNING"])
    server = serve(lambda _: answer({"id": POD, "status": next(statuses)}))
    time = Time()
    assert manager_of(server).wait_until_running(POD, 60, time.clock, time.sleep).status == "RUNNING"
    assert time.slept == [1.0, 1.5, 2.25]


@pytest.mark.parametrize(
    ("statuses", "timeout_s", "slept", "last"),
    [
        (["ERROR"], 60, [], "ERROR"),
        (["PROVISIONING", "TERMINATED"], 60, [1.0], "TERMINATED"),
        (["STARTING", "EXITED"], 60, [1.0], "EXITED"),
        (["EXITED"], 60, [1.0, 1.5, 2.25, 3.375, 5.062], "EXITED"),
        (["PROVISIONING"], 2, [1.0, 1.0], "PROVISIONING"),
        (["DREAMING"], 0, [], "DREAMING"),
    ],
)
def test_a_pod_that_will_not_run(
    serve: Serve, manager_of: MakeManager, statuses: list[str], timeout_s: float, slept: list[float], last: str
) -> None:
    rest = iter(statuses)
    server, time = serve(lambda _: answer({"id": POD, "status": next(rest, statuses[-1])})), Time()
    with pytest.raises(PodNotRunning) as caught:
        manager_of(server).wait_until_running(POD, timeout_s, time.clock, time.sleep)
    assert (caught.value.pod_id, caught.value.last_status) == (POD, last)
    assert time.slept == slept


def test_trouble_is_waited_out_but_not_a_pod_that_is_gone(serve: Serve, manager_of: MakeManager) -> None:
    answers = iter([hang_up, answer({}, 500), answer({}, 429, retry_after="9"), answer({"detail": "gone"}, 404)])
    server, time = serve(lambda _: next(answers)), Time()
    with pytest.raises(PodNotFound):
        manager_of(server).wait_until_running(POD, 60, time.clock, time.sleep)
    assert time.slept == [1.0, 1.5, 9.0]


# The key


@pytest.mark.parametrize(
    "told",
    [
        lambda _: answer({"detail": f"unknown key {KEY}"}, 401),
        lambda _: answer({"title": "x", "errors": [KEY]}, 422),
        lambda _: answer(f"<title>{KEY}</title>".encode(), 502),
        lambda _: hang_up,
        lambda _: only(f"HTTP/1.1 {KEY}\r\n\r\n".encode()),
        lambda _: answer([]),
    ],
)
@pytest.mark.parametrize("call", [lambda c: c.get_pod(POD), lambda c: list(c.pod_logs(POD)), lambda c: c.stop_pod(POD)])
def test_no_error_holds_the_key(serve: Serve, manager_of: MakeManager, told: Any, call: Call) -> None:
    server = serve(told)
    client = manager_of(server)
    try:
        call(client)
    except RunPodError as error:
        assert_no_key_in(error)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(client) + repr(vars(client)) + repr(vars(client._http))
