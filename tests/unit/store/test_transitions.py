"""One job on its way through the store's scripts: each answers in words, refuses what the table forbids, and repeats."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import fakeredis
import pytest

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import MOVES, OUTCOMES, State, lua_prelude
from celery_runpod._store.store import CheckTimes, JobStore
from celery_runpod._store.store_part import Lives
from celery_runpod._store.submits import Post
from celery_runpod.options import Options
from tests.builders import answered, lease_due

NOW = 1_790_000_000.25
DONE = {"output": {"a": 1}, "error": None}

TIMES = CheckTimes(cap_s=60.0)


@pytest.fixture
def redis() -> Any:
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def store(redis: Any) -> JobStore:
    return JobStore(redis, "runpod", Lives(tombstone_s=3600))


def job(task_id: str = "t1", **changes: Any) -> JobRecord:
    made = JobRecord(
        task_id=task_id,
        endpoint="e1",
        name="sdxl",
        root_id=task_id,
        continuation="{}",
        options=Options(deadline=60.0),
        accepted_at=NOW,
        not_before=NOW,
        begun_at=NOW,
        end_by=NOW + 60,
        input={"a": 1},
    )
    return replace(made, **changes)


def claim(store: JobStore, one: JobRecord | None = None, token: str = "token", **more: Any) -> int | str:
    """The number of the attempt, or the word of a claim that was not granted."""
    post = Post("e1", "run", token, 0.0, NOW + 25)
    claimed = store.submits.claim_submit(one or job(), post, NOW, NOW + 60, **more)
    return claimed.attempt or claimed.word


def submitted(store: JobStore, one: JobRecord | None = None) -> JobRecord:
    """A job that RunPod has taken as `r1`."""
    one = one or job()
    store.accept(one, NOW)
    assert claim(store, one) == 1
    one = replace(one, attempt=1)
    assert answered(store, one, "r1", NOW + 1, NOW) == "accepted"
    return one


def state(store: JobStore, task_id: str = "t1") -> str | None:
    return store.redis.hget(store.keys.job("e1", task_id), "state")


def test_the_table_is_the_same_in_python_and_lua(redis: Any) -> None:
    ask = redis.register_script(lua_prelude() + "return may(ARGV[1], ARGV[2]) and 'yes' or 'no'")
    for one, other in itertools.product(State, State):
        assert ask(args=[one, other]) == ("yes" if other in MOVES[one] else "no"), (one, other)


def test_a_submit_is_not_believed_that_names_the_job_of_another_task(store: JobStore) -> None:
    """A proxy on the way has given the answer to another request: the attempt goes on as one without an answer."""
    submitted(store)
    store.accept(other := job("t2"), NOW)
    assert claim(store, other) == 1
    other = replace(other, attempt=1)
    assert answered(store, other, "r1", NOW + 1, NOW) == "foreign"
    assert store.end(other, State.COMPLETED, DONE, NOW, NOW + 30, job_id="r1")[0] == "refused"
    assert state(store, "t2") == "SUBMITTING"
    assert answered(store, other, "r2", NOW + 1, NOW) == "accepted"


def test_nothing_leaves_delivered_and_an_outcome_only_goes_on() -> None:
    assert MOVES[State.DELIVERED] == frozenset()
    for outcome in OUTCOMES:
        assert MOVES[outcome] <= {State.DELIVERED, State.WAITING}


def test_a_call_is_accepted_once(store: JobStore) -> None:
    assert store.accept(job(), NOW) == "accepted"
    assert store.accept(job(), NOW + 5) == "WAITING"
    assert store.redis.zscore("{runpod:e1}:due", "t1") == NOW
    assert store.jobs("e1", ["t1"]) == [job()]


def test_only_one_process_may_post_an_attempt(store: JobStore) -> None:
    store.accept(job(), NOW)
    assert claim(store, token="mine") == 1
    assert claim(store, token="other") == "refused"
    # Its answer was lost: asked again, it is the same attempt.
    assert claim(store, token="mine") == 1


def test_a_job_that_was_not_sent_waits_for_the_next_attempt(store: JobStore) -> None:
    store.accept(job(), NOW)
    claim(store)
    assert store.submits.not_submitted(job(attempt=1), NOW + 5, "RATE_LIMITED") == "waiting"
    assert store.submits.not_submitted(job(attempt=7), NOW + 5, "RATE_LIMITED") == "refused"
    assert claim(store, token="again") == "refused", "it knows nothing of the first attempt"
    assert claim(store, job(attempt=1), token="again") == 2


def test_the_answer_to_an_older_attempt_comes_too_late_and_is_cancelled(store: JobStore) -> None:
    store.accept(job(), NOW)
    claim(store)
    store.submits.not_submitted(job(attempt=1), NOW, "RESUBMIT")
    claim(store, job(attempt=1), token="again")
    assert answered(store, job(attempt=1), "late", NOW + 1, NOW) == "too_late"
    assert store.cancels.lease_cancels("e1", NOW, NOW + 30, 10) == [("late", "")]
    assert state(store) == "SUBMITTING"


def test_a_submit_whose_job_was_cancelled_meanwhile_is_cancelled_at_runpod(store: JobStore) -> None:
    store.accept(job(), NOW)
    claim(store)
    assert store.cancels.request_cancels("e1", ["t1"], {"reason": "revoked"}, NOW, NOW + 30) == ["t1"]
    assert answered(store, job(attempt=1, api_key_name="blue"), "r1", NOW + 1, NOW) == "cancel_asked"
    assert store.cancels.lease_cancels("e1", NOW, NOW + 30, 10) == [("r1", "blue")]


def test_a_webhook_before_the_answer_ends_the_job_and_the_answer_cancels_nothing(store: JobStore) -> None:
    store.accept(job(), NOW)
    claim(store)
    one = job(attempt=1)
    assert store.record_outcome(one, State.COMPLETED, DONE, NOW, NOW + 30, job_id="r1") == "recorded"
    assert answered(store, one, "r1", NOW + 1, NOW) == "already_ended"
    assert store.outstanding("e1", NOW).cancels == 0


def test_an_outcome_is_recorded_once(store: JobStore) -> None:
    one = submitted(store)
    assert store.record_outcome(one, State.COMPLETED, DONE, NOW, NOW + 30) == "recorded"
    assert store.record_outcome(one, State.FAILED, {"error": None}, NOW, NOW + 30) == "already"
    assert store.cancels.request_cancels("e1", ["t1"], {}, NOW, NOW + 30) == []
    found = store.jobs("e1", ["t1"])[0]
    assert (found.state, found.outcome, found.input) == (State.COMPLETED, DONE, None)
    assert store.least_due("e1") is None


@pytest.mark.parametrize("wrong", [{"attempt": 2}, {"attempt": 0}])
def test_the_news_of_another_attempt_changes_nothing(store: JobStore, wrong: dict[str, int]) -> None:
    one = replace(submitted(store), **wrong)
    assert store.record_outcome(one, State.FAILED, {}, NOW, NOW + 30) == "refused"
    assert store.observe(one, NOW + 1, NOW + 9, state=State.IN_PROGRESS) == "refused"
    assert state(store) == "IN_QUEUE"


def test_the_news_of_another_runpod_job_changes_nothing(store: JobStore) -> None:
    one = submitted(store)
    assert store.record_outcome(one, State.COMPLETED, DONE, NOW, NOW + 30, job_id="other") == "refused"


def test_a_check_takes_what_is_due_and_no_other_check_takes_it_too(store: JobStore) -> None:
    for number in range(3):
        store.accept(job(f"t{number}"), NOW - number)
    assert lease_due(store, "e1", "first", NOW, NOW + 40, 2, 4) == (["t2", "t1"], True)
    assert lease_due(store, "e1", "second", NOW, NOW + 40, 9, 4) == (["t0"], False)
    assert lease_due(store, "e1", "third", NOW, NOW + 40, 9, 4) == ([], False)


def test_only_so_many_checks_are_live(store: JobStore) -> None:
    assert lease_due(store, "e1", "first", NOW, NOW + 40, 9, 1) is not None
    assert lease_due(store, "e1", "second", NOW, NOW + 40, 9, 1) is None
    store.end_check("e1", "first", NOW, TIMES)
    assert lease_due(store, "e1", "second", NOW, NOW + 40, 9, 1) is not None
    assert lease_due(store, "e1", "third", NOW + 41, NOW + 80, 9, 1) is not None


def test_a_lease_that_lapses_makes_the_job_due_again(store: JobStore) -> None:
    store.accept(job(), NOW)
    lease_due(store, "e1", "dies", NOW, NOW + 40, 9, 4)
    assert lease_due(store, "e1", "next", NOW + 41, NOW + 81, 9, 4) == (["t1"], False)


def test_what_was_seen_is_written_on_change_and_never_backwards(store: JobStore) -> None:
    one = submitted(store)
    lease_due(store, "e1", "check", NOW + 1, NOW + 41, 9, 4)
    assert store.observe(one, NOW + 41, NOW + 50, state=State.IN_PROGRESS, checks=1) == "changed"
    assert store.observe(one, NOW + 50, NOW + 60, state=State.IN_QUEUE, checks=2) == "same"
    assert store.observe(one, NOW + 60, NOW + 70, state=State.IN_PROGRESS, checks=3, progress='"half"') == "changed"
    assert store.observe(one, NOW + 1, NOW + 70) == "lost"
    assert state(store) == "IN_PROGRESS"
    assert store.observe(job("none"), NOW, NOW) == "unknown"


def test_one_copy_of_finish_delivers_at_a_time(store: JobStore) -> None:
    one = submitted(store)
    assert store.claim_finish("e1", "t1", 1, "a", NOW, NOW + 60)[:2] == ("refused", 0)
    store.record_outcome(one, State.COMPLETED, DONE, NOW, NOW + 30)
    assert store.claim_finish("e1", "t1", 1, "a", NOW, NOW + 60)[:2] == ("yours", 1)
    assert store.claim_finish("e1", "t1", 1, "b", NOW + 59, NOW + 119)[:2] == ("held", 0)
    assert store.claim_finish("e1", "t1", 1, "b", NOW + 61, NOW + 121)[:2] == ("yours", 2)
    assert store.claim_finish("e1", "t1", 2, "c", NOW + 999, NOW + 1059)[:2] == ("refused", 0)
    assert store.mark_delivered("e1", "t1", ["t1"], NOW) == "delivered"
    assert store.claim_finish("e1", "t1", 1, "d", NOW + 999, NOW + 1059)[:2] == ("delivered", 0)
    assert store.claim_finish("e1", "none", 1, "e", NOW, NOW + 60)[:2] == ("unknown", 0)


def test_delivered_leaves_a_small_tombstone_that_expires(store: JobStore) -> None:
    one = submitted(store)
    assert store.mark_delivered("e1", "t1", [], NOW) == "refused"
    store.ids.index(one, [], [])
    store.record_outcome(one, State.COMPLETED, DONE, NOW, NOW + 30)
    assert store.mark_delivered("e1", "t1", ["t1"], NOW, {"delay_s": "0.5"}) == "delivered"
    assert store.mark_delivered("e1", "t1", ["t1"], NOW) == "already"
    kept = store.redis.hgetall("{runpod:e1}:job:t1")
    assert set(kept) == {"format", "state", "verdict", "ended_at", "attempt", "job_id", "name", "checks", "delay_s"}
    assert 0 < store.redis.ttl("{runpod:e1}:job:t1") <= 3600
    assert store.ids.members("t1") == set()
    assert store.jobs("e1", ["t1"]) == []


def test_an_undelivered_outcome_is_published_again_ever_more_rarely(store: JobStore) -> None:
    store.record_outcome(submitted(store), State.COMPLETED, DONE, NOW, NOW + 30)
    assert store.deliver_again("e1", ["t1"], NOW + 29) == {"t1": "later"}
    assert store.deliver_again("e1", ["t1"], NOW + 30, base_s=30) == {"t1": "first"}
    assert store.deliver_again("e1", ["t1"], NOW + 89, base_s=30) == {"t1": "later"}
    assert store.deliver_again("e1", ["t1"], NOW + 90, base_s=30) == {"t1": "publish"}
    assert store.deliver_again("e1", ["t1"], NOW + 209, base_s=30) == {"t1": "later"}
    store.mark_delivered("e1", "t1", [], NOW)
    assert store.deliver_again("e1", ["t1"], NOW + 999) == {"t1": "gone"}
    assert store.outstanding("e1", NOW + 9999).undelivered == []


def test_a_check_is_planned_only_if_none_comes_early_enough(store: JobStore) -> None:
    assert store.plan_check("e1", NOW + 10, NOW, TIMES)
    assert not store.plan_check("e1", NOW + 10, NOW, TIMES)
    assert not store.plan_check("e1", NOW + 9.6, NOW, TIMES)
    assert store.plan_check("e1", NOW + 5, NOW, TIMES)
    # Its message was lost: what is seconds past counts for nothing.
    assert store.plan_check("e1", NOW + 9, NOW + 9, TIMES)


def test_a_check_is_planned_not_before_now_not_too_far_ahead_and_by_whole_seconds_if_asked(store: JobStore) -> None:
    assert store.plan_check("e1", NOW - 9, NOW, TIMES) == NOW
    assert store.plan_check("e2", NOW + 999, NOW, TIMES) == NOW + TIMES.cap_s
    assert store.plan_check("e3", NOW + 1.5, NOW, CheckTimes(60.0, whole=True)) == NOW + 2


def test_checks_do_not_pile_up_where_nobody_has_time_for_them(store: JobStore) -> None:
    """As the watchdog asks each 2 s while something is overdue: ten minutes in which no check begins."""
    store.accept(job(), NOW)
    published = sum(
        store.plan_check("e1", NOW + second, NOW + second, TIMES) is not None for second in range(0, 600, 2)
    )
    assert published <= 9
    # One that begins forgets the others.
    lease_due(store, "e1", "begins", NOW + 600, NOW + 640, 9, 4)
    assert store.plan_check("e1", NOW + 601, NOW + 601, TIMES)
    assert store.plan_check("e1", NOW + 605, NOW + 605, TIMES)


def begin(store: JobStore, at: float) -> None:
    assert store.begin_check("e1", f"token{at}", at, at + 1, 9, 99)


def test_a_few_checks_begin_at_once_and_many_in_a_row_keep_apart(store: JobStore) -> None:
    at, begun = NOW, []
    while at < NOW + 10:
        # Each time there is something to do at once.
        publish_at = store.plan_check("e1", at, at, TIMES)
        assert publish_at is not None
        at = max(at, publish_at)
        begin(store, at)
        begun.append(at)
    assert begun[:4] == [NOW] * 4
    assert 40 <= len(begun) <= 45, "four a second"
    # After a rest, and on RabbitMQ, which counts whole seconds, they begin at once again.
    assert store.plan_check("e1", at + 2, at + 2, TIMES) == at + 2
    begin(store, at + 2)
    assert store.plan_check("e1", at + 2, at + 2, CheckTimes(60.0, whole=True)) == at + 2


def test_an_endpoint_without_jobs_remembers_nothing_of_its_checks(store: JobStore) -> None:
    begin(store, NOW)
    assert store.end_check("e1", f"token{NOW}", NOW + 0.1, TIMES) is None
    assert not store.redis.exists(store.keys.next_check_at("e1"))


def test_the_end_of_a_check_plans_the_next_one(store: JobStore) -> None:
    assert store.end_check("e1", "first", NOW, TIMES) is None
    store.accept(job(), NOW + 7)
    assert store.end_check("e1", "first", NOW, TIMES) == NOW + 7
    assert store.end_check("e1", "second", NOW, TIMES) is None


def test_a_call_enters_once_and_with_it_its_check(store: JobStore) -> None:
    store.cancels.note_cancel(["g"], scope="tree")
    given = {"followers": ["next"], "above": ["g", "next"], "noted": ["t1", "g"]}
    entered = store.enter(job(), NOW + 5, NOW, TIMES, **given)
    assert (entered.word, entered.publish_at, entered.notes) == ("accepted", NOW + 5, {"g": "tree"})
    again = store.enter(job(), NOW + 5, NOW, TIMES, **given)
    assert (again.word, again.publish_at) == ("WAITING", None)
    assert store.ids.members("g") == {"t1"} and store.ids.place("next") is not None


def test_scripts_that_redis_forgot_are_loaded_again(store: JobStore) -> None:
    store.redis.script_flush()
    given = {"followers": [], "above": [], "noted": []}
    assert store.enter(job(), NOW, NOW, TIMES, **given).word == "accepted"


def test_a_pause_grows_with_each_failure_and_obeys_retry_after(store: JobStore) -> None:
    assert store.pauses.pause("e1", "status", NOW, None, 0.0) == pytest.approx(NOW + 1)
    assert store.pauses.pause("e1", "status", NOW, None, 0.0) == pytest.approx(NOW + 1)
    assert store.pauses.pause("e1", "status", NOW + 2, None, 0.0) == pytest.approx(NOW + 4)
    assert store.pauses.pause("e1", "status", NOW + 5, 17.0, 0.0) == pytest.approx(NOW + 22)
    assert store.pauses.paused_until("e1", "cancel") is None
    store.pauses.unpause("e1", "status", NOW + 21)
    assert store.pauses.paused_until("e1", "status") == pytest.approx(NOW + 22), "it has begun meanwhile"
    store.pauses.unpause("e1", "status", NOW + 22)
    assert store.pauses.paused_until("e1", "status") is None


def test_a_record_of_a_newer_format_is_left_alone(store: JobStore) -> None:
    store.accept(job(), NOW)
    store.redis.hset("{runpod:e1}:job:t1", "format", "2")
    assert store.jobs("e1", ["t1"]) == []
    assert store.forget_due("e1", "t1") == "open"
    assert store.least_due("e1") == NOW
    assert store.forget_due("e1", "none") == "forgotten"


def test_a_record_that_was_deleted_by_hand_gives_its_place_back(store: JobStore) -> None:
    for task_id in ("runs", "waits"):
        store.accept(job(task_id), NOW)
        claim(store, job(task_id), max_in_flight=1, decide_at=NOW + 5)
        store.redis.delete(f"{{runpod:e1}}:job:{task_id}")
    assert store.redis.zrange("{runpod:e1}:inflight", 0, -1) == ["runs"]
    assert store.redis.zrange("{runpod:e1}:waiting", 0, -1) == ["waits"]
    assert store.forget_due("e1", "runs") == store.forget_due("e1", "waits") == "forgotten"
    assert not store.redis.exists("{runpod:e1}:inflight", "{runpod:e1}:waiting")


def test_a_cancel_that_came_first_is_found(store: JobStore) -> None:
    store.cancels.note_cancel(["root"], scope="tree")
    store.cancels.note_cancel(["root", "t2"], scope="job")
    assert store.cancels.cancel_notes(["t1", "root", "t2"]) == {"root": "tree", "t2": "job"}
    assert store.cancels.cancel_notes(["t1"]) == {}


def test_no_note_is_left_of_a_call_that_was_accepted_while_its_queue_was_looked_at(store: JobStore) -> None:
    store.outbox.keep_message("t1", NOW, "{}", "{}")
    store.outbox.keep_message("t2", NOW, "{}", "{}")
    store.outbox.drop_message("t1")
    store.outbox.note_held(["t1", "t2"], NOW)
    assert store.redis.zrange("{runpod}:outbox:held", 0, -1) == ["t2"]


def test_two_namespaces_share_no_key(redis: Any) -> None:
    one, other = JobStore(redis, "one"), JobStore(redis, "other")
    one.accept(job(), NOW)
    assert other.jobs("e1", ["t1"]) == []
    assert other.accept(job(), NOW) == "accepted"


def test_a_later_and_shorter_call_does_not_shorten_how_long_its_root_is_reached(store: JobStore) -> None:
    store.ids.index(job("long", root_id="root", end_by=NOW + 30 * 86_400), [], [])
    before = store.redis.ttl(store.keys.root("root"))
    store.ids.index(job("short", root_id="root"), [], [])
    assert store.redis.ttl(store.keys.root("root")) >= before - 5


def test_a_retry_of_what_has_expired_meanwhile_leaves_nothing_that_could_be_run_again(store: JobStore) -> None:
    assert store.retries.claim_retry("e1", "expired", "new") == ("new", False)
    assert store.retries.failed("e1", "expired") is None
