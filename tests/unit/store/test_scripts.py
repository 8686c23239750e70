"""The scripts and their headers: what a header declares is what the script uses, and what a call must give."""

from __future__ import annotations

import re

import pytest

from celery_runpod._store import scripts
from celery_runpod._store.keys import Keys
from celery_runpod._store.store import JobStore
from tests.builders import Bench


def words(text: str) -> set[str]:
    """The names in a script's Lua, without texts and comments."""
    code = re.sub(r"--.*|'[^']*'", "", text.partition("]]\n")[2])
    return set(re.findall(r"[A-Za-z_]\w*", code))


def test_a_script_uses_every_name_of_its_header_and_counts_no_positions() -> None:
    problems = []
    for name, text in scripts.texts().items():
        header = scripts.header_of(text)
        declared = [*(key.name for key in header.keys), *header.arguments]
        problems += [f"{name}: {one} is not used" for one in declared if one not in words(text)]
        problems += [f"{name}: {one} is declared twice" for one in set(declared) if declared.count(one) > 1]
        problems += [f"{name}: no method {key.method} of Keys" for key in header.keys if not hasattr(Keys, key.method)]
        problems += [f"{name}: {one}" for one in ("KEYS", "ARGV") if one in words(text)]
    assert problems == []


def test_no_key_is_named_by_hand_outside_of_keys() -> None:
    for name, text in scripts.texts().items():
        assert "redis.call('KEYS'" not in text and "'SCAN'" not in text, name


def test_a_header_is_read() -> None:
    header = scripts.header_of(
        """--[[ one: an example.
  KEYS  job(endpoint, task_id); gate = pause(endpoint, "run");
        incarnation()
  ARGV  task_id; now (s; "" = none); fields ... (field, value)
  Returns "done" ]]
return 'done'
"""
    )
    assert header.names == {"endpoint", "task_id", "now", "fields"}
    assert [key.made(Keys("n"), {"endpoint": "e", "task_id": "t"}) for key in header.keys] == [
        Keys("n").job("e", "t"),
        Keys("n").pause("e", "run"),
        Keys("n").incarnation(),
    ]
    assert header.locals() == (
        "local job = KEYS[1]\nlocal gate = KEYS[2]\nlocal incarnation = KEYS[3]\n"
        "local task_id = ARGV[1]\nlocal now = ARGV[2]\n"
        "local fields = {}\nfor i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end\n"
    )


def test_a_script_has_the_shared_functions_that_it_calls_and_no_part_that_it_does_not() -> None:
    sources = {name: source for name, (_, source, _) in scripts.loaded().items()}
    shared = set(re.findall(r"(?m)^local function (\w+)", "".join(sources.values())))
    assert {"may", "plan", "leave_orders", "gate_state"} <= shared
    for name, source in sources.items():
        code = re.sub(r"(?s)--\[\[.*?\]\]|--.*?\n|'[^'\n]*'", "", source)
        called = set(re.findall(r"\b(\w+)\(", code)) & shared
        assert called <= set(re.findall(r"local function (\w+)", source)), name
    assert "local function" not in sources["join_root"]


def test_an_argument_that_is_missing_or_unknown_is_named() -> None:
    store: JobStore = Bench().store
    with pytest.raises(TypeError, match=r"script take_message: missing \['entry'\], unknown \['entri'\]"):
        store.scripts.run("take_message", entri="e")
