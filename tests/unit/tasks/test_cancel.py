"""Cancels that come before a call is accepted, and what the workers' revoke commands make of ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.trace import build_tracer
from celery.worker.control import Panel
from redis.exceptions import ConnectionError as RedisConnectionError

import tasks.cancel
from celery_app.overrides import revoke
from celery_runpod._protocol import CANCEL, RUN, Scope
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.options import Options
from config.profiles import Profile
from tasks.cancel import BATCH, MOST_REPEATS, STAMP, cancel_jobs, carry_out, sweep_wishes
from tasks.idempotency import join
from tasks.services import INSIST_EVERY_S
from tests.builders import ENDPOINT, Bench


def run(bench: Bench, task_id: str = "t1", root_id: str | None = None, **request: Any) -> None:
    """Let a worker's child take the message of a call, and the check that follows."""
    tracer = build_tracer(RUN, bench.app.tasks[RUN], app=bench.app)
    request = {"id": task_id, "root_id": root_id or task_id, "delivery_info": {}, **request}
    tracer(task_id, ({"a": 1},), {"endpoint": ENDPOINT, "format": 1}, request=request)
    bench.check()


def deliver_cancels(bench: Bench) -> int:
    """Carry out the cancels that were published; answers how many messages there were."""
    found = 0
    with bench.app.connection_for_read() as connection, connection.SimpleQueue("runpod.deliver") as queue:
        while queue.qsize():
            message = queue.get_nowait()
            message.ack()
            if message.headers["task"] == CANCEL:
                found += 1
                bench.app.tasks[CANCEL](*message.payload[0])
    return found


def state(bench: Bench, task_id: str = "t1") -> State:
    return bench.record(task_id).state


@pytest.mark.parametrize("scope", ["tree", "job", "step"])
def test_a_cancel_before_the_call_was_accepted(scope: Scope) -> None:
    bench = Bench()
    carry_out(bench.services, ["t1"], scope=scope)
    run(bench)
    assert (state(bench), bench.runpod.called("run")) == (State.CANCELLED, 0)


def test_a_process_that_died_after_acceptance_had_not_asked_for_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    carry_out(bench.services, ["t1"], scope="job")
    with monkeypatch.context() as patched:
        patched.setattr("tasks.run.cancel_if_wished", _dies)
        with pytest.raises(KeyboardInterrupt):
            run(bench)
    assert state(bench) is State.WAITING
    run(bench)
    assert (state(bench), bench.runpod.called("run")) == (State.CANCELLED, 0)


def _dies(*_: Any) -> bool:
    raise KeyboardInterrupt


def test_a_cancel_of_one_id_is_not_one_of_what_stands_before_or_after_it() -> None:
    bench = Bench()
    after = {"chain": [dict(bench.app.signature("unit.after", task_id="next"))]}
    carry_out(bench.services, ["root", "next"], scope="job")
    run(bench, root_id="root", **after)
    assert state(bench) is State.IN_QUEUE
    carry_out(bench.services, ["next"], scope="tree")
    assert state(bench) is State.CANCELLED


def test_a_cancel_of_a_call_that_nobody_knew_yet_reaches_no_other_under_its_root() -> None:
    bench = Bench()
    run(bench, "sibling", root_id="root")
    carry_out(bench.services, ["t1"], scope="step")
    run(bench, root_id="root")
    run(bench, "later", root_id="root")
    assert [state(bench, one) for one in ("sibling", "t1", "later")] == [
        State.IN_QUEUE,
        State.CANCELLED,
        State.IN_QUEUE,
    ]


@pytest.mark.parametrize("accepted_first", [True, False])
def test_a_cancel_of_a_later_step_reaches_the_steps_before_it_and_no_other_under_their_root(
    accepted_first: bool,
) -> None:
    bench = Bench()
    after = {"chain": [dict(bench.app.signature("unit.after", task_id="next"))]}
    run(bench, "sibling", root_id="root")
    if accepted_first:
        run(bench, root_id="root", **after)
    carry_out(bench.services, ["next"], scope="step")
    if not accepted_first:
        run(bench, root_id="root", **after)
    assert (state(bench), state(bench, "sibling")) == (State.CANCELLED, State.IN_QUEUE)


def test_the_cancel_of_a_root_that_nobody_knew_is_one_of_all_under_it_unless_it_is_a_job() -> None:
    bench = Bench()
    carry_out(bench.services, ["theirs", "ours"], scope="step")
    run(bench, "t1", root_id="theirs")
    run(bench, "ours")
    run(bench, "errback", root_id="ours")
    assert [state(bench, one) for one in ("t1", "ours", "errback")] == [
        State.CANCELLED,
        State.CANCELLED,
        State.IN_QUEUE,
    ]


@pytest.mark.parametrize("scope", ["tree", "job", "step"])
def test_a_wish_whose_message_was_lost_is_carried_out_as_far_as_it_went(scope: Scope) -> None:
    bench = Bench()
    run(bench, root_id="root")
    run(bench, "sibling", root_id="root")
    bench.store.cancels.wish_cancel(["t1"], bench.now, scope=scope)
    sweep_wishes(bench.services, -1.0)
    assert state(bench) is State.IN_QUEUE
    deliver_cancels(bench)
    reached = State.CANCELLED if scope == "tree" else State.IN_QUEUE
    assert (state(bench), state(bench, "sibling")) == (State.CANCELLED, reached)
    assert bench.store.cancels.cancel_wishes(bench.now) == []


@pytest.mark.parametrize("named", ["root", "next", "the-group"])
def test_a_cancel_of_what_hangs_together_reaches_a_call_that_comes_later(named: str) -> None:
    bench = Bench()
    carry_out(bench.services, [named], scope="tree")
    chain = [dict(bench.app.signature("unit.after", task_id="next", group_id="the-group"))]
    run(bench, root_id="root", chain=chain)
    assert (state(bench), bench.runpod.called("run")) == (State.CANCELLED, 0)


def test_the_wider_note_stays_the_wider_one() -> None:
    bench = Bench()
    carry_out(bench.services, ["root"], scope="tree")
    carry_out(bench.services, ["root"], scope="job")
    run(bench, root_id="root")
    assert state(bench) is State.CANCELLED


def test_the_id_of_a_chords_body_reaches_members_with_roots_of_their_own() -> None:
    bench = Bench()
    body = dict(bench.app.signature("unit.after", task_id="body"))
    for task_id in ("t1", "t2"):
        run(bench, task_id, chord=body, group="header")
    carry_out(bench.services, ["body"], scope="tree")
    assert {state(bench, "t1"), state(bench, "t2")} == {State.CANCELLED}
    bench.deliver("t1")
    assert bench.store.ids.members("body") == {"t2"}


def test_stamps_of_a_call_that_comes_later() -> None:
    bench = Bench()
    bench.store.cancels.note_cancel([f"{STAMP}order=7"], scope="job")
    run(bench, "t1", stamped_headers=["order"], stamps={"order": ["7", "8"]}, headers={})
    run(bench, "t2", stamped_headers=["order"], stamps={"order": ["8"]}, headers={})
    assert (state(bench, "t1"), state(bench, "t2")) == (State.CANCELLED, State.IN_QUEUE)


def test_an_ended_job_is_not_cancelled() -> None:
    bench = Bench()
    job = bench.accepted()
    assert bench.store.record_outcome(job, State.COMPLETED, {"output": 1}, bench.now, bench.now + 30) == "recorded"
    assert cancel_jobs(bench.services, ["t1"]) == []
    assert state(bench) is State.COMPLETED


def test_nothing_is_submitted_after_the_cancel_of_a_group_was_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(profiles={ENDPOINT: Profile(ENDPOINT, max_in_flight=5)})
    chord = {"group": "g"}
    ids = [f"t{number}" for number in range(60)]
    for task_id in ids:
        run(bench, task_id, root_id="root", **chord)
    assert bench.runpod.called("run") == 5
    request = bench.store.cancels.request_cancels

    def meanwhile(*args: Any) -> Any:
        # A job at RunPod ends, and checks run, at the worst moments.
        for number in range(1, 6):
            bench.runpod.says("status", Job(f"r{number}", "COMPLETED", output=1))
        bench.check(after_s=2)
        found = request(*args)
        bench.check()
        return found

    monkeypatch.setattr(bench.store.cancels, "request_cancels", meanwhile)
    monkeypatch.setattr("tasks.cancel.BATCH", 20)
    carry_out(bench.services, ["g"], scope="tree")
    bench.check(after_s=1)
    assert bench.runpod.called("run") == 5
    assert {job.state for job in bench.store.jobs(ENDPOINT, ids)} == {State.CANCELLED, State.COMPLETED}


def test_what_waits_is_cancelled_before_what_runs_and_each_endpoint_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(profiles={ENDPOINT: Profile(ENDPOINT, max_in_flight=2)})
    for number in range(6):
        bench.accepted(f"t{number}")
    order: list[str] = []
    monkeypatch.setattr("tasks.cancel.publish", lambda services, job: order.append(job.task_id))
    planned: list[str] = []
    monkeypatch.setattr("tasks.cancel.plan_check", lambda services, endpoint, at: planned.append(endpoint))
    assert cancel_jobs(bench.services, [*(f"t{number}" for number in range(6)), "unknown"]) == order
    assert order[4:] == ["t0", "t1"]
    assert planned == [ENDPOINT]


def test_a_check_that_holds_a_job_whose_cancel_is_decided_does_not_send_it() -> None:
    bench = Bench()
    for above in ("root", "the-group", "next"):
        job = bench.job(above, root_id="root", group_ids=("the-group", "next"))
        bench.store.accept(job, bench.now)
        bench.store.cancels.note_cancel([above], scope="tree")
        bench.check()
        bench.redis.delete(bench.store.keys.cancel_note(above))
        assert (state(bench, above), bench.record(above).outcome) == (State.CANCELLED, {"reason": "revoked"})
    assert bench.runpod.called("run") == 0


def test_a_wish_is_published_again_with_growing_pauses_and_given_up_loudly(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    run(bench)
    bench.store.cancels.wish_cancel(["t1"], bench.now, scope="tree")
    published = []
    for _ in range(20 * 60):
        bench.now += 60
        sweep_wishes(bench.services, 3.0)
        published.append(drop_cancels(bench))
    assert sum(published) == MOST_REPEATS
    assert sum(published[:10]) <= 4
    assert [record.message for record in caplog.records if record.levelname == "CRITICAL"] == ["cancel.not_carried_out"]
    assert not bench.redis.exists(bench.store.keys.cancel_wishes(), bench.store.keys.cancel_repeats())


def drop_cancels(bench: Bench) -> int:
    with bench.app.connection_for_read() as connection:
        return int(connection.default_channel.queue_purge("runpod.deliver") or 0)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What Celery's own commands were told. Our work is done at once, not in a thread."""
    told: dict[str, list[Any]] = {"revoke": [], "revoke_by_stamped_headers": []}
    for name in told:
        monkeypatch.setitem(revoke._original, name, lambda state, *args, to=name, **_: told[to].append(args))
    at_once = SimpleNamespace(Thread=lambda target, **_: SimpleNamespace(start=target))
    monkeypatch.setattr(revoke, "threading", at_once)
    return told


def test_ids_go_to_celery_only_where_tasks_of_the_users_run(command: dict[str, list[Any]]) -> None:
    for imports in ("", "shop.tasks"):
        bench = Bench(RUNPOD_IMPORTS=imports)
        bench.accepted()
        revoke._revoke(SimpleNamespace(app=bench.app), ["t1", "of the user's"], True)
        assert state(bench) is State.CANCELLED
        assert [args[0] for args in command["revoke"]] == ([["t1", "of the user's"]] if imports else [])


def test_a_message_of_ours_that_a_worker_holds_is_never_told_to_celery(
    command: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(RUNPOD_IMPORTS="shop.tasks")
    monkeypatch.setitem(revoke.worker_state.requests, "t1", SimpleNamespace(name=RUN))
    revoke._revoke(SimpleNamespace(app=bench.app), "t1", True, "SIGKILL")
    assert command["revoke"] == []


def test_a_revoke_while_the_store_is_away_is_carried_out_when_it_is_back(
    command: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    bench.accepted()
    times = iter([1, 2])
    wish = bench.store.cancels.wish_cancel

    def away(*args: Any, **kwargs: Any) -> bool:
        for _ in times:
            raise RedisConnectionError("gone")
        return wish(*args, **kwargs)

    monkeypatch.setattr(bench.store.cancels, "wish_cancel", away)
    revoke._revoke(SimpleNamespace(app=bench.app), "t1")
    assert (state(bench), bench.slept) == (State.CANCELLED, [INSIST_EVERY_S] * 2)


@pytest.mark.parametrize("headers", [{"order": "7"}, {"order": ["7", "9"]}, ["order=7"]])
def test_stamps_are_read_as_from_code_and_from_the_command_line(command: dict[str, list[Any]], headers: Any) -> None:
    bench = Bench()
    run(bench, stamped_headers=["order"], stamps={"order": ["7"]}, headers={})
    revoke._by_stamps(SimpleNamespace(app=bench.app), headers, terminate=True)
    assert state(bench) is State.CANCELLED
    assert [args[1] for args in command["revoke_by_stamped_headers"]] == [False]


def test_a_revoke_by_stamps_reads_no_other_job(command: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker gets the command, and a hundred thousand jobs may be open."""
    bench = Bench()
    run(bench, "t1", stamped_headers=["order"], stamps={"order": ["7"]}, headers={})
    run(bench, "t2", stamped_headers=["order"], stamps={"order": ["8"]}, headers={})
    read: list[str] = []
    jobs = bench.store.jobs
    monkeypatch.setattr(bench.store, "jobs", lambda endpoint, ids: [read.extend(ids), *jobs(endpoint, ids)][1:])
    monkeypatch.setattr(bench.store.redis, "zrange", None)
    monkeypatch.setattr(bench.store.redis, "zscan_iter", None)
    revoke._by_stamps(SimpleNamespace(app=bench.app), {"order": "7"})
    assert set(read) == {"t1"}
    assert [jobs(ENDPOINT, [task_id])[0].state for task_id in ("t1", "t2")] == [State.CANCELLED, State.IN_QUEUE]
    bench.deliver("t1")
    assert bench.store.ids.members("stamp:order=7") == set()


@pytest.mark.parametrize("what", ["ids", "stamps"])
def test_of_all_workers_that_get_a_revoke_one_carries_it_out(
    command: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    bench = Bench()
    for task_id in ("t1", "t2"):
        run(bench, task_id, stamped_headers=["order"], stamps={"order": ["7"]}, headers={})
    began: list[Any] = []

    def carry_out(services: Any, ids: Any, *, scope: Any) -> None:
        began.append(ids)
        if len(began) == 1:
            # Every other worker gets the command while this one works.
            for _ in range(20):
                revoked()
        tasks.cancel.carry_out(services, ids, scope=scope)

    def revoked() -> None:
        worker = SimpleNamespace(app=bench.app)
        revoke._revoke(worker, ["t1", "t2"]) if what == "ids" else revoke._by_stamps(worker, {"order": "7"})

    monkeypatch.setattr(revoke, "carry_out", carry_out)
    revoked()
    assert len(began) == 1
    assert [state(bench, task_id) for task_id in ("t1", "t2")] == [State.CANCELLED] * 2
    assert bench.store.cancels.cancel_wishes(bench.now + 3600) == []


def test_a_revoke_of_more_than_a_batch_is_carried_out_by_a_task(command: dict[str, list[Any]]) -> None:
    bench = Bench()
    for number in range(BATCH + 1):
        job = bench.job(f"t{number}")
        bench.store.ids.index(job, (), [f"{STAMP}order=7"])
        bench.store.accept(job, bench.now)
    before = bench.count("runpod.deliver")
    for _ in range(5):
        revoke._by_stamps(SimpleNamespace(app=bench.app), {"order": "7"})
    assert bench.count("runpod.deliver") == before + 1
    assert state(bench, "t0") is State.WAITING
    carry_out(bench.services, [f"{STAMP}order=7"], scope="job")
    assert {state(bench, f"t{number}") for number in range(BATCH + 1)} == {State.CANCELLED}


def test_a_large_cancel_is_carried_out_by_one_process_however_often_its_message_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100,000 jobs take longer than the visibility timeout: the copies took every slot, and no end was delivered."""
    bench = Bench()
    ids = [f"t{number}" for number in range(2 * BATCH)]
    for task_id in ids:
        bench.store.ids.index(bench.job(task_id, root_id="root"), (), ())
        bench.store.accept(bench.job(task_id, root_id="root"), bench.now)
    bench.store.cancels.wish_cancel(["root"], bench.now, scope="tree")
    began: list[int] = []
    request = bench.store.cancels.request_cancels

    def again(*args: Any) -> Any:
        began.append(len(args[1]))
        carry_out(bench.services, ["root"], scope="tree")
        return request(*args)

    monkeypatch.setattr(bench.store.cancels, "request_cancels", again)
    carry_out(bench.services, ["root"], scope="tree")
    assert began == [BATCH, BATCH]
    assert {state(bench, task_id) for task_id in ids} == {State.CANCELLED}
    assert bench.store.cancels.cancel_wishes(bench.now + 3600) == []
    assert bench.redis.keys("*lease*") == []


def test_a_cancel_whose_process_died_is_carried_out_once_its_lease_is_over() -> None:
    bench = Bench()
    bench.accepted()
    bench.store.cancels.wish_cancel(["t1"], bench.now, scope="tree")
    lease = bench.store.cancels.lease(["t1"], scope="tree", keep_s=60)
    assert lease is not None and 0 < bench.redis.ttl(lease) <= 60
    carry_out(bench.services, ["t1"], scope="tree")
    assert state(bench) is State.IN_QUEUE and bench.store.cancels.cancel_wishes(bench.now) != []
    bench.redis.delete(lease)  # as after a minute
    carry_out(bench.services, ["t1"], scope="tree")
    assert state(bench) is State.CANCELLED and bench.store.cancels.cancel_wishes(bench.now) == []


def test_the_commands_of_another_app_are_celerys_own(command: dict[str, list[Any]]) -> None:
    revoke._revoke(SimpleNamespace(app=object()), "t1", False)
    assert [args[0] for args in command["revoke"]] == ["t1"]
    assert {"revoke", "terminate", "revoke_by_stamped_headers"} <= set(Panel.data)


def test_all_of_a_group_are_decided_before_the_first_end_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(profiles={ENDPOINT: Profile(ENDPOINT, max_in_flight=1)})
    ids = [f"t{number}" for number in range(BATCH)]
    for task_id in ids:
        bench.store.ids.index(bench.job(task_id), (), ())
        bench.store.accept(bench.job(task_id), bench.now)
    open_ones: list[int] = []
    published = tasks.cancel.publish

    def publish(services: Any, job: Any) -> None:
        open_ones.append(len(bench.store.ids_in(ENDPOINT, State.WAITING)))
        published(services, job)

    monkeypatch.setattr("tasks.cancel.publish", publish)
    assert sorted(cancel_jobs(bench.services, ids)) == sorted(ids)
    assert open_ones == [0] * len(ids)
    # No check delivers them a second time meanwhile.
    assert bench.store.outstanding(ENDPOINT, bench.now + 25).undelivered == []


def test_the_last_call_that_leaves_a_shared_job_cancels_it_though_the_ends_of_many_are_left_to_checks() -> None:
    bench = Bench()
    shared = Options(idempotency_key="k", deadline=600.0)
    for task_id in ("first", "second"):
        job = bench.job(task_id, root_id="root", options=shared)
        bench.store.ids.index(job, (), ())
        join(bench.services, job, bench.now)
    others = [f"t{number}" for number in range(BATCH)]
    for task_id in others:
        bench.store.ids.index(bench.job(task_id), (), ())
        bench.store.accept(bench.job(task_id), bench.now)
    (joined,) = bench.store.jobs(ENDPOINT, ["first"])
    assert state(bench, joined.joined) is State.WAITING
    cancel_jobs(bench.services, ["first", "second", *others])
    # Cancelled, and closed: nobody waits for it.
    assert bench.store.jobs(ENDPOINT, [joined.joined]) == []
