"""Fault rules: when one acts, what is refused and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from celery_runpod._simulator.faults import AT_TAKE, FIELDS, KINDS, OPERATIONS, BadFault, Fault, Faults, kinds_at, parse


def acts(rule: dict[str, Any], times: int) -> list[bool]:
    fault = parse(rule)
    return [fault.acts() for _ in range(times)]


def test_every_and_times() -> None:
    assert acts({"kind": "status", "every": 2, "times": 2}, 8) == [False, True, False, True] + [False] * 4


def test_chance_is_repeatable_with_a_seed() -> None:
    rule = {"kind": "drop_after", "probability": 0.3, "seed": 7}
    first = acts(rule, 200)
    assert first == acts(rule, 200)
    assert 30 < sum(first) < 90


def test_probability_zero_never_and_one_always() -> None:
    assert not any(acts({"kind": "status", "probability": 0}, 50))
    assert all(acts({"kind": "status", "probability": 1.0}, 50))


def test_only_the_named_endpoint_and_operation() -> None:
    faults = Faults()
    faults.add({"kind": "status", "endpoint": "sdxl", "operation": "run"})
    seen = [faults.at(*where) for where in (("sdxl", "run"), ("sdxl", "status"), ("other", "run"))]
    assert [len(found) for found in seen] == [1, 0, 0]


def test_delays_go_with_another_fault_and_the_first_decision_wins() -> None:
    faults = Faults()
    for kind in ("delay", "drop_after", "status"):
        faults.add({"kind": kind, "times": 1})
    assert list(faults.at("sdxl", "status")) == ["delay", "drop_after"]
    assert list(faults.at("sdxl", "status")) == ["status"]


def test_of_one_kind_the_first_that_acts_is_counted_and_no_other() -> None:
    faults = Faults()
    often = faults.add({"kind": "delay", "seconds": 1, "every": 2})
    always = faults.add({"kind": "delay", "seconds": 2})
    assert [faults.at("sdxl", "status")["delay"].seconds for _ in range(4)] == [2, 1, 2, 1]
    assert (often.done, always.done) == (2, 2)


def test_a_rule_for_everything_acts_where_its_kind_means_something() -> None:
    faults = Faults()
    faults.add({"kind": "duplicate"})
    assert faults.at("sdxl", "run") == {}
    assert len(faults.at("sdxl", "webhook")) == 1
    assert faults.at("sdxl", "worker", AT_TAKE) == {}


def test_removing() -> None:
    faults = Faults()
    first, second = faults.add({"kind": "status"}).id, faults.add({"kind": "delay"}).id
    assert first != second
    assert faults.remove(first) and not faults.remove(first)
    assert list(faults.rules) == [second]
    faults.remove()
    assert not faults.rules


def test_every_kind_has_an_operation_and_every_pair_is_accepted_or_refused_with_words() -> None:
    assert set().union(*(kinds_at(operation) for operation in OPERATIONS)) == KINDS
    for operation in sorted(OPERATIONS):
        for kind in sorted(KINDS):
            rule = {"kind": kind, "operation": operation, "body": "x"}
            if kind in kinds_at(operation):
                assert parse(rule).kind == kind
            else:
                with pytest.raises(BadFault, match=f"'{kind}' means nothing at operation '{operation}'"):
                    parse(rule)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([], "a fault is an object, list given"),
        ({}, "'kind' is missing; allowed: body, crash"),
        ({"kind": "explode"}, "field 'kind': 'explode' given; allowed: body, crash"),
        ({"kind": ["status"]}, "field 'kind'"),
        ({"kind": "status", "chance": 1}, "unknown field 'chance'; allowed: kind, endpoint, operation"),
        ({"kind": "status", "operation": "fly"}, "field 'operation': 'fly' given; allowed: cancel, health"),
        ({"kind": "status", "probability": 1.5}, "field 'probability': 1.5 given; allowed: a number from 0 to 1"),
        ({"kind": "status", "every": 0}, "field 'every': 0 given; allowed: a whole number from 1 up"),
        ({"kind": "status", "times": 1.5}, "field 'times'"),
        ({"kind": "status", "status": 99}, "from 200 to 599"),
        ({"kind": "status", "status": True}, "field 'status': True"),
        ({"kind": "status", "headers": {"Retry-After": 3}}, "an object of texts"),
        ({"kind": "status", "headers": {"A": "b\r\nC: d"}}, "without line breaks"),
        ({"kind": "status", "headers": {"A": "\ud800"}}, "an object of texts"),
        ({"kind": "status", "headers": {"A b": "c"}}, "an object of texts"),
        ({"kind": "status", "headers": {"Content-Length": "3"}}, "without line breaks, Content-Length"),
        ({"kind": "status", "headers": {"transfer-encoding": "chunked"}}, "and Transfer-Encoding"),
        ({"kind": "body", "body": "\ud800"}, "field 'body'"),
        ({"kind": "delay", "seconds": -1}, "field 'seconds': -1 given"),
        ({"kind": "body"}, "needs the field 'body'"),
    ],
)
def test_a_bad_rule_is_told_with_field_value_and_what_is_allowed(rule: Any, words: str) -> None:
    with pytest.raises(BadFault) as caught:
        parse(rule)
    assert words in str(caught.value)


def test_the_documented_rule_is_accepted_whole() -> None:
    rule = {
        "endpoint": "*", "operation": "run", "kind": "status", "probability": 1.0, "every": 1, "times": None,
        "seed": None, "status": 503, "headers": {"Retry-After": "3"}, "body": "busy", "seconds": None,
    }  # fmt: skip
    assert set(rule) == set(FIELDS)
    assert parse(rule).described()["status"] == 503


def test_default_seconds_by_kind() -> None:
    assert [Fault(kind).seconds_s for kind in ("delay", "crash", "late")] == [1.0, 0.0, 5.0]
    assert Fault("late", seconds=0.0).seconds_s == 0.0
