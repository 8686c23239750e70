"""What is submitted from a store that may have lost a time in which jobs were paid for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_app.watchdog.restored_store import LOST_S, MOST_GAP_S, Memory, beat
from celery_runpod._store.states import State
from celery_runpod.errors import SubmissionUnconfirmed, decode
from tests.builders import ENDPOINT, NOW, Bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """fakeredis does not tell who it is: `bench.redis.run_id` does."""
    bench = Bench()
    bench.redis.run_id = "first-start"
    for module in ("heartbeats", "submits"):
        monkeypatch.setattr(f"celery_runpod._store.{module}.run_id_of", lambda _: bench.redis.run_id)
    return bench


def fence(bench: Bench) -> float:
    return bench.store.submits.signs(ENDPOINT, ["t1"]).incarnation.fence


def restored(bench: Bench) -> tuple[Memory, float]:
    """A worker and its last beat, which the store lacks: it was restored to what it was a minute before."""
    memory = Memory(None)
    assert beat(bench.services, memory) == "ok"
    old = bench.redis.hgetall("runpod:incarnation")
    bench.now += 60
    assert beat(bench.services, memory) == "ok"
    bench.redis.hset("runpod:incarnation", mapping=old)
    return memory, bench.now


def test_a_worker_that_remembers_a_later_beat_than_the_store_fences_off_what_was_begun_before(bench: Bench) -> None:
    memory, remembered = restored(bench)
    bench.redis.run_id = "second-start"
    bench.now += 5
    assert beat(bench.services, memory) == "went_back"
    assert fence(bench) == remembered


def test_what_was_begun_before_the_fence_is_not_submitted_what_was_begun_later_is(bench: Bench) -> None:
    bench.redis.hset("runpod:incarnation", mapping={"fence": bench.now, "run_id": "first-start"})
    assert isinstance(decode(bench.accepted("old").outcome["error"]), SubmissionUnconfirmed)
    bench.now += 1
    # Called before, accepted only now: its message was in the queue.
    assert bench.accepted("in queue", begun_at=bench.now - 2).state is State.ENDED_HERE
    assert bench.accepted("new").state is State.IN_QUEUE
    assert bench.runpod.called("run") == 1


def test_a_countdown_that_ends_after_the_fence_was_not_submitted_before(bench: Bench) -> None:
    bench.redis.hset("runpod:incarnation", mapping={"fence": bench.now, "run_id": "first-start"})
    bench.accepted("later", not_before=bench.now + 30)
    bench.check(after_s=31)
    assert bench.record("later").state is State.IN_QUEUE


def test_with_resubmit_it_is_submitted_all_the_same() -> None:
    bench = Bench(RUNPOD_UNCONFIRMED_SUBMIT="resubmit")
    bench.redis.hset("runpod:incarnation", mapping={"fence": bench.now})
    assert bench.accepted().state is State.IN_QUEUE


def test_after_a_restart_nothing_is_submitted_until_every_worker_had_time_to_compare(bench: Bench) -> None:
    one, other = Memory(None), Memory(None)
    beat(bench.services, one)
    bench.now += 60
    beat(bench.services, other)
    bench.redis.hset("runpod:incarnation", "beat", bench.now - 60)
    bench.redis.run_id = "second-start"
    assert beat(bench.services, Memory(None)) == "restarted"
    assert bench.accepted().reason == "STORE_RESTARTED"
    # One that started anew vouches for nothing before the others have spoken.
    assert beat(bench.services, other) == "went_back"
    bench.now += 10
    assert beat(bench.services, Memory(None)) == "ok"
    assert bench.store.submits.signs(ENDPOINT, ["t1"]).incarnation.settled
    bench.check(after_s=1)
    assert bench.record().state is State.ENDED_HERE


def test_what_redis_may_lose_anyway_is_no_older_state(bench: Bench) -> None:
    memory = Memory(None)
    beat(bench.services, memory)
    bench.redis.hset("runpod:incarnation", "beat", bench.now - LOST_S)
    bench.redis.run_id = "second-start"
    assert beat(bench.services, memory) == "restarted"
    assert fence(bench) == 0


def test_a_file_remembers_for_the_next_worker(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "state" / "x.beat"
    beat(bench.services, Memory(file))
    first = bench.now
    bench.now += 60
    beat(bench.services, Memory(file, file_gap_s=60))
    found = Memory(file)
    assert found.latest == bench.now
    beat(bench.services, found)
    assert found.since == first
    for unreadable in ("not a number", '{"": 3.0}', '{"": ["a", "b", "c"]}', "[]"):
        file.write_text(unreadable)
        assert (Memory(file).since, Memory(file).latest) == (math.inf, None)


@pytest.mark.parametrize(("lived", "most_s"), [(True, MOST_GAP_S), (False, 60)])
def test_over_a_restart_of_redis_a_memory_bridges_no_more_than_a_gap(
    bench: Bench, tmp_path: Path, lived: bool, most_s: float
) -> None:
    """Workers of which nothing is left may have worked meanwhile, on a store that was restored after them."""
    for gap_s in (most_s - 10, most_s + 1):
        bench.redis.flushall()
        bench.redis.run_id = "first-start"
        memory = Memory(tmp_path / f"{gap_s}.beat", file_gap_s=60)
        assert beat(bench.services, memory) == "ok"
        first = bench.now
        bench.now += gap_s
        bench.redis.run_id = "second-start"
        if not lived:
            memory = Memory(tmp_path / f"{gap_s}.beat", file_gap_s=60)
        assert beat(bench.services, memory) == "restarted"
        bench.now += 8
        assert beat(bench.services, memory) == "ok"
        assert memory.since == (first if gap_s < most_s else bench.now)


def test_the_same_redis_process_is_known_again_after_any_time(bench: Bench, tmp_path: Path) -> None:
    first = bench.now
    beat(bench.services, Memory(tmp_path / "x.beat"))
    bench.now += 86_400
    memory = Memory(tmp_path / "x.beat")
    assert beat(bench.services, memory) == "ok"
    assert memory.since == first


def test_a_worker_that_was_not_there_when_a_new_redis_process_was_vouched_for_begins_anew(bench: Bench) -> None:
    """Others have worked meanwhile on a store that was restored to a state after this worker's last beat."""
    late = Memory(None)
    beat(bench.services, late)
    bench.redis.run_id = "second-start"
    bench.now += 20
    assert beat(bench.services, Memory(None)) == "restarted"
    bench.now += 20
    assert beat(bench.services, Memory(None)) == "ok"
    assert beat(bench.services, late) == "ok"
    assert late.since == bench.now


def test_a_worker_that_comes_after_the_others_have_vouched_compares_all_the_same(bench: Bench) -> None:
    late, remembered = restored(bench)
    bench.redis.run_id = "second-start"
    bench.now += 5
    other = Memory(None)
    assert beat(bench.services, other) == "restarted"
    bench.now += 10
    assert [beat(bench.services, one) for one in (other, late, late)] == ["ok", "went_back", "ok"]
    assert fence(bench) == remembered


def test_a_redis_that_came_back_after_another_had_taken_its_place_is_another_life(bench: Bench, tmp_path: Path) -> None:
    """Behind Sentinel a master comes back with the data of the replica that was promoted, and with its old run id."""
    away, remembered = restored(bench)
    for run_id in ("the-replica", "first-start"):
        bench.redis.run_id = run_id
        other = Memory(None)
        assert beat(bench.services, other) == "restarted"
        bench.now += 10
        assert beat(bench.services, other) == "ok"
        bench.now += 100
        beat(bench.services, other)
    assert beat(bench.services, away) == "went_back"
    assert fence(bench) == remembered
    assert beat(bench.services, away) == "ok"
    assert away.since == bench.now


def test_a_worker_that_waited_for_one_life_and_finds_an_older_one_says_so_once(bench: Bench) -> None:
    one, other = Memory(None), Memory(None)
    beat(bench.services, one)
    old = bench.redis.hgetall("runpod:incarnation")
    bench.now += 60
    beat(bench.services, one)
    bench.redis.run_id = "second-start"
    assert beat(bench.services, one) == "restarted"
    bench.redis.delete("runpod:incarnation")
    bench.redis.hset("runpod:incarnation", mapping=old)
    bench.redis.run_id = "third-start"
    bench.now += 2
    assert [beat(bench.services, each) for each in (one, other)] == ["went_back", "restarted"]
    bench.now += 10
    assert [beat(bench.services, each) for each in (other, one, one)] == ["ok", "ok", "ok"]


def test_the_memory_of_lives_is_bounded_and_counts_on(bench: Bench) -> None:
    memory = Memory(None)
    for number in range(30):
        bench.redis.run_id = f"start {number}".replace(" ", "-")
        while beat(bench.services, memory) != "ok":
            bench.now += 3
        bench.now += 3
        assert beat(bench.services, memory) == "ok"
    lives = str(bench.redis.hget("runpod:incarnation", "lives")).split()
    assert (len(lives), lives[-2]) == (40, "start-29:29")
    assert memory.since == NOW
    assert fence(bench) == 0


def test_a_worker_that_redis_refuses_does_not_write_over_what_another_has_written(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.beat"
    refused = Memory(file)
    beat(bench.services, Memory(file))
    bench.redis.run_id = None
    assert beat(bench.services, refused) == "unknown"
    assert Memory(file).latest == bench.now


@pytest.mark.parametrize("again", ["it lives on", "its file"])
def test_beats_of_this_process_are_no_reason_to_fence(bench: Bench, tmp_path: Path, again: str) -> None:
    """What a worker remembers is always later than what stood there when the process was vouched for."""
    memory = Memory(tmp_path / "x.beat")
    for _ in range(3):
        assert beat(bench.services, memory) == "ok"
        bench.now += 60
        memory = memory if again == "it lives on" else Memory(tmp_path / "x.beat")
    assert fence(bench) == 0


def test_a_file_that_no_beat_has_confirmed_vouches_for_nothing(bench: Bench, tmp_path: Path) -> None:
    beat(bench.services, Memory(tmp_path / "x.beat"))
    bench.redis.run_id = None
    memory = Memory(tmp_path / "x.beat")
    assert beat(bench.services, memory) == "unknown"
    assert memory.since == math.inf


def test_a_worker_that_may_not_ask_who_redis_is_remembers_nothing(bench: Bench) -> None:
    bench.redis.run_id = None
    memory = Memory(None)
    assert beat(bench.services, memory) == "unknown"
    assert memory.since == math.inf


def test_a_store_that_was_emptied_is_older_too(bench: Bench) -> None:
    memory = Memory(None)
    beat(bench.services, memory)
    bench.redis.flushall()
    bench.redis.run_id = "second-start"
    bench.now += 5
    assert beat(bench.services, memory) == "went_back"
    assert bench.store.submits.signs(ENDPOINT, ["t1"]).incarnation.settled
    assert fence(bench) == memory.latest


def test_each_master_of_a_cluster_is_compared_with_its_own_beat(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.store.workers, "masters", lambda: ["1", "4"])
    monkeypatch.setattr(bench.store.workers, "master_of", lambda endpoint: "4" if endpoint == ENDPOINT else "1")
    memory = Memory(None)
    assert beat(bench.services, memory) == "ok"
    old = bench.redis.hgetall("runpod:incarnation:{4}")
    bench.now += 60
    assert beat(bench.services, memory) == "ok"
    remembered = bench.now
    bench.redis.hset("runpod:incarnation:{4}", mapping={**old, "run_id": "before"})
    bench.now += 5
    assert beat(bench.services, memory) == "went_back"
    assert fence(bench) == remembered
    assert bench.store.submits.signs("other", ["t1"]).incarnation.fence == 0


def test_a_master_that_is_away_keeps_the_others_from_no_beat(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.store.workers, "masters", lambda: ["1", "4"])
    beat_of = bench.store.workers.beat

    def away(now: float, remembered: float | None, lost_s: float, grace_s: float, master: str, known: str) -> Any:
        if master == "1":
            raise RedisConnectionError("away")
        return beat_of(now, remembered, lost_s, grace_s, master, known)

    monkeypatch.setattr(bench.store.workers, "beat", away)
    memory = Memory(None)
    with pytest.raises(RedisConnectionError):
        beat(bench.services, memory)
    assert memory.beats == {"4": bench.now}
