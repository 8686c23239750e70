"""Errors, options, routing, signatures, webhooks: what crosses between processes."""

from __future__ import annotations

import gc
import inspect
import json
import pickle
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from celery import Celery, chain, chord, current_app
from celery.signals import before_task_publish, worker_init

import tasks
from celery_app.worker_app import COLLECT_AFTER, create_app, limit_imported
from celery_runpod import Endpoint, JobResult, errors
from celery_runpod._call_rules import merge_input
from celery_runpod._protocol import CALL, RUN
from celery_runpod._publish import routes
from celery_runpod._webhooks.signed_urls import WebhookTarget, sign_url, verify
from celery_runpod.errors import InvalidInput, InvalidOption, NotConfigured, PayloadTooLarge, RunPodError
from celery_runpod.options import Backoff, Options
from config.settings import load_settings
from tasks.schedule import backoff_for, backoff_s, next_look

TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, RunPodError)]


@pytest.fixture
def app() -> Celery:
    made = Celery("unit", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.task_routes = {"unit.routed": {"queue": "elsewhere"}}
    return made


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_an_error_survives_celerys_json_and_a_record(cls: type[RunPodError]) -> None:
    numbers = {"deadline_s", "start_timeout_s", "waited_s", "retry_after_s"}
    names = list(inspect.signature(cls).parameters)
    error = cls(*[1.5 if name in numbers else "x" for name in names])
    again = cls(*json.loads(json.dumps(error.args)))
    assert (str(again), again.args) == (str(error), error.args)
    assert pickle.loads(pickle.dumps(error)).args == error.args
    assert errors.decode(json.loads(json.dumps(errors.encode(error)))).args == error.args


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip(" │├└─")
        if name not in {cls.__name__ for cls in TREE}:
            continue
        depth = (len(line) - len(line.lstrip(" │├└─")) - 4) // 4
        above = [*above[:depth], name]
        drawn[name] = above[depth - 1] if depth else "Exception"
    assert drawn == {cls.__name__: cls.__mro__[1].__name__ for cls in TREE}


def test_every_error_is_public() -> None:
    assert {cls.__name__ for cls in TREE} | {"encode", "decode"} == set(errors.__all__)
    assert {cls.__module__ for cls in TREE} == {"celery_runpod.errors"}


def test_an_error_of_a_newer_version_can_be_read() -> None:
    data = {"type": "JobFailed", "args": ["m", "e", "t", "j", "K", "tb", None, None, "w", "a field of tomorrow"]}
    assert str(errors.decode(data)) == "K: m (endpoint e, task t, job j)"
    assert isinstance(errors.decode({"type": "OfTomorrow", "args": []}), errors.JobError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0},
        {"deadline": -5},
        {"deadline": 900_000},
        {"deadline": "900"},
        {"deadline": True},
        {"execution_timeout": 1},
        {"ttl": timedelta(days=8)},
        {"nope": 1},
        {"on_error": "ignore"},
        {"backoff": {"first": -1}},
        {"backoff": {"cap": 0.1}},
        {"backoff": 3},
        {"labels": "one"},
        {"sync": "yes"},
    ],
    ids=repr,
)
def test_a_wrong_option_is_refused_in_words(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="allowed"):
        Options.parse(wrong)


def test_options_cross_as_json() -> None:
    options = Options.parse(
        {"deadline": timedelta(days=2), "backoff": {"first": 2}, "labels": ["a"], "on_error": "return"}
    )
    assert Options.parse(json.loads(json.dumps(options.to_message()))) == options


def test_a_backoff_takes_seconds_or_a_timedelta() -> None:
    chosen = Options.parse({"backoff": Backoff(first=timedelta(milliseconds=500), cap=timedelta(minutes=2))})
    assert chosen.to_message() == {"backoff": {"first": 0.5, "factor": 1.5, "cap": 120.0, "jitter": 0.1}}
    with pytest.raises(InvalidOption, match=r"0.05 to 3600 \(seconds\), or a timedelta"):
        Options.parse({"backoff": {"first": timedelta(hours=2)}})


def test_inputs_merge_from_left_to_right() -> None:
    assert merge_input([{"a": 1, "b": 1}, {"b": 2, "c": 2}], {"c": 3}, "e") == {"a": 1, "b": 2, "c": 3}
    assert merge_input(["text"], {}, "e") == "text"
    assert merge_input([], {}, "e") == {}
    for inputs, fields in ((["text"], {"a": 1}), ([None, {"a": 1}], {}), ([{"a": 1}, "text"], {}), ([1, 2, 3], {})):
        with pytest.raises(InvalidInput):
            merge_input(inputs, fields, "e")


def test_backoff_grows_to_its_cap_and_spreads() -> None:
    backoff = Backoff(1, 2, 10, 0.1)
    assert [backoff_s(n, backoff, 0.5) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff_s(10_000, backoff, 0.5) == 10
    assert (backoff_s(0, backoff, 0.0), backoff_s(0, backoff, 1.0)) == (pytest.approx(0.9), pytest.approx(1.1))
    assert backoff_for(None, webhook=False, sync=True).cap_s <= 15
    assert backoff_for(None, webhook=True, sync=False).first_s > backoff_for(None, webhook=False, sync=False).first_s
    assert next_look(5.0, None, 3.0, 9.0) == 3.0


def test_the_message_holds_input_fields_and_options(app: Celery) -> None:
    signature = Endpoint("sdxl", app=app).using(deadline=900).s({"prompt": "a cat"}, steps=3)
    assert signature.task == "runpod.run"
    assert signature.args == ({"prompt": "a cat"},)
    assert signature.kwargs == {
        CALL: {"endpoint": "sdxl", "format": 1, "options": {"deadline": 900.0}},
        "steps": 3,
    }
    assert signature.options["queue"] == "runpod"
    assert signature.options["argsrepr"] == "<input hidden>"
    assert Endpoint("sdxl", app=app).si(a=1).immutable


def test_countdown_becomes_the_records_not_before(app: Celery) -> None:
    signature = Endpoint("sdxl", app=app).signature(({"a": 1},), countdown=60)
    assert "not_before" in signature.kwargs[CALL]
    assert not {"countdown", "eta"} & set(signature.options)


def test_what_cannot_be_sent_is_refused_where_it_is_written(app: Celery) -> None:
    sdxl = Endpoint("sdxl", app=app)
    with pytest.raises(InvalidInput, match=r"image"):
        sdxl.s(image=object())
    with pytest.raises(InvalidInput):
        sdxl.s(x=float("nan"))
    with pytest.raises(PayloadTooLarge):
        sdxl.s(image="x" * 10_000_001)
    with pytest.raises(TypeError, match="delay"):
        sdxl({"a": 1})
    with pytest.raises(InvalidOption):
        sdxl.using(dedline=3)


def test_results_that_expire_before_the_deadline_are_refused(app: Celery) -> None:
    app.conf.result_expires = 3600
    with pytest.raises(errors.ConfigurationError, match="result_expires"):
        Endpoint("sdxl", app=app).delay(a=1)
    # A chord is paid for too before its body is found gone.
    with pytest.raises(errors.ConfigurationError, match="result_expires"):
        chord([Endpoint("sdxl", app=app).s(a=1)])
    short = Endpoint("sdxl", app=app).using(deadline=600)
    assert short.signature((1,)).args == (1,)
    with pytest.raises(errors.ConfigurationError, match="may take 7800 s"):
        short.signature((1,), countdown=7200)


def test_a_process_without_an_app_is_told_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_runpod import _connect

    for name in ("REDIS_URL", "RUNPOD_BROKER_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    bare = Celery("bare", set_as_current=False)
    monkeypatch.setattr(_connect, "current_app", type("Proxy", (), {"_get_current_object": lambda self: bare})())
    with pytest.raises(NotConfigured, match=r"Celery\("):
        _connect.client_app()


def _published(app: Celery, monkeypatch: pytest.MonkeyPatch, sender: str, embed: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(routes, "current_app", type("Proxy", (), {"_get_current_object": lambda self: app})())
    headers: dict[str, Any] = {}
    body = ((), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **embed})
    routes._on_publish(sender=sender, body=body, headers=headers)
    return body[2]


def test_what_follows_an_endpoint_goes_where_the_caller_would_send_it(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = chord([app.signature("unit.plain"), app.signature("unit.routed")], app.signature("unit.routed"))
    kept = app.signature("unit.routed").set(queue="mine")
    after = chain(app.signature("unit.routed"), nested)
    embed = _published(
        app,
        monkeypatch,
        "runpod.run",
        {"chain": [after], "callbacks": [kept], "errbacks": [app.signature("unit.plain")]},
    )
    found = {(s["task"], s["options"].get("queue")) for s in routes.signatures_after({"options": _as_options(embed)})}
    plain = {("unit.plain", "celery"), ("unit.routed", "elsewhere"), ("unit.routed", "mine")}
    assert {pair for pair in found if pair[0].startswith("unit.")} == plain
    assert kept.options == {"queue": "mine"}


def test_links_get_ids_of_their_own_for_each_call(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    link = app.signature("unit.plain")
    first = _published(app, monkeypatch, "runpod.run", {"callbacks": [link]})["callbacks"][0]["options"]["task_id"]
    second = _published(app, monkeypatch, "runpod.run", {"callbacks": [link]})["callbacks"][0]["options"]["task_id"]
    assert first != second
    assert "task_id" not in link.options


def test_a_message_without_an_endpoint_is_left_as_it_is(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    link = app.signature("unit.routed")
    assert _published(app, monkeypatch, "unit.plain", {"callbacks": [link]})["callbacks"][0] is link


def test_the_routes_are_those_of_the_app_that_publishes_not_of_the_current_one(app: Celery) -> None:
    other = Celery("other", broker="memory://", set_as_current=False)
    other.conf.task_routes = {"unit.*": {"queue": "of-the-other-app"}}
    seen: list[Any] = []

    def see(body: Any = None, **_: Any) -> None:
        seen.append(body[2]["chain"][0]["options"]["queue"])

    before_task_publish.connect(see)
    previous = current_app._get_current_object()
    other.set_current()
    try:
        chain(app.signature("runpod.run"), app.signature("unit.routed"), app=app).apply_async()
    finally:
        before_task_publish.disconnect(see)
        previous.set_current()
    assert seen == ["elsewhere"]


def _as_options(embed: dict[str, Any]) -> dict[str, Any]:
    return {"chain": embed["chain"], "link": embed["callbacks"], "link_error": embed["errbacks"]}


def test_a_webhooks_url_is_good_for_its_attempt_alone() -> None:
    url = sign_url("https://x.test/hook?site=1", "secret", "runpod", "e1", "task/with?odd&chars", 2, 1000.5)
    query = dict(parse_qsl(urlsplit(url).query))
    target = WebhookTarget("e1", "task/with?odd&chars", 2)
    assert verify(query, ["secret"], "runpod", 1000) == target
    assert verify(query, ["new", "secret"], "runpod", 1000) == target
    assert verify(query, ["other"], "runpod", 1000) is None
    assert verify(query, [None, ""], "runpod", 1000) is None
    assert verify(query, ["secret"], "staging", 1000) is None
    for name in ("endpoint", "task", "attempt", "expires", "signature"):
        assert verify({**query, name: "9999"}, ["secret"], "runpod", 1000) is None
        assert verify({**query, name: "\ud800"}, ["secret"], "runpod", 1000) is None
        assert verify({k: v for k, v in query.items() if k != name}, ["secret"], "runpod", 1000) is None


def test_a_webhooks_url_expires_some_time_after_its_attempt() -> None:
    url = sign_url("https://x.test/hook", "secret", "runpod", "e1", "t1", 1, 1000.5)
    query = dict(parse_qsl(urlsplit(url).query))
    assert query["expires"] == "1901"
    assert verify(query, ["secret"], "runpod", 1900.9) is not None
    assert verify(query, ["secret"], "runpod", 1901) is None
    assert verify({**query, "expires": "2901"}, ["secret"], "runpod", 1000) is None


def test_wrong_settings_are_told_all_at_once_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "the-secret-key")
    monkeypatch.setenv("RUNPOD_NAMESPACE", "a b")
    monkeypatch.setenv("RUNPOD_CHECK_BATCH", "0")
    monkeypatch.setenv("RUNPOD_STORE_URL", "amqp://user:the-secret-password@host")
    with pytest.raises(errors.ConfigurationError) as caught:
        load_settings()
    text = str(caught.value)
    assert all(name in text for name in ("RUNPOD_NAMESPACE", "RUNPOD_CHECK_BATCH", "RUNPOD_STORE_URL"))
    assert "the-secret" not in text
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("RUNPOD_UNCONFIRMED_WINDOW_S", "10", "window"), ("RUNPOD_CLAIM_LEASE_S", "21", "RUNPOD_CLAIM_LEASE_S")],
)
def test_the_clocks_must_be_in_order(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(errors.ConfigurationError, match=told):
        load_settings()


def test_a_worker_collects_garbage_less_often_and_not_what_was_imported() -> None:
    create_app()
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        worker_init.send(None)
        assert gc.get_threshold() == (COLLECT_AFTER, *before[1:])
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_an_imported_task_is_ended_before_redis_hands_it_out_again(app: Celery) -> None:
    def work() -> None:
        pass

    for name, limit in (("mine.long", None), ("mine.short", 5), (RUN, None)):
        app.task(name=name, time_limit=limit, shared=False)(work)
    limit_imported(app, 85.0)
    limits = {name: app.tasks[name].time_limit for name in ("mine.long", "mine.short", RUN, "celery.chord")}
    assert limits == {"mine.long": 85.0, "mine.short": 5, RUN: None, "celery.chord": None}


def test_a_result_can_be_pickled(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_runpod.results.client_app", lambda: app)
    kept = pickle.loads(pickle.dumps(JobResult("t1", app=app)))
    assert (type(kept), kept.id) == (JobResult, "t1")


def test_every_task_is_registered_and_every_name_is_public() -> None:
    import celery_runpod

    assert set(tasks.NAMES) <= set(create_app().tasks)
    public = ["Backoff", "Chunk", "Endpoint", "Flow", "JobResult", "JobUpdate", "Options", "ask", "cancel", "errors"]
    public += ["on_commit", "pause", "resume"]
    assert sorted(celery_runpod.__all__) == public
