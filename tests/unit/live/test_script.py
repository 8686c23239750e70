"""celery_runpod.js: what it shows, and that whatever a handler says stays text. It is run where Node is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "celery_runpod/django/static/celery_runpod/celery_runpod.js"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")


def run(scenario: str, *arguments: str) -> dict[str, Any]:
    command = ["node", str(Path(__file__).with_name("script.js")), str(SCRIPT), scenario, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_written_but_text_and_no_policy_is_met() -> None:
    """A strict content security policy forbids inline styles, and code made of text."""
    text = SCRIPT.read_text()
    code = text.partition("*/")[2]
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.style\b|cssText"
    forbidden += r"|\"style\"|setTimeout\(\s*[\"'`]|\.on[a-z]+ =|createContextualFragment|DOMParser|\bimport\b"
    assert re.findall(forbidden, code) == []
    assert "textContent" in code


def test_every_reason_with_a_text_is_one() -> None:
    from celery_runpod._live.job_rows import REASONS
    from celery_runpod._store.states import State

    texts = SCRIPT.read_text().partition("const texts = {")[2].partition("};")[0]
    named = set(re.findall(r"^    ([A-Z_]+):", texts, re.MULTILINE))
    assert named and named <= {*REASONS, *State, "PENDING", "SUCCESS", "FAILURE", "REVOKED"}


@needs_node
def test_html_of_a_handler_is_shown_as_text() -> None:
    found = run("html")
    assert set(found["created"]) == {"span"}
    assert [one[2] for one in found["text"]] == [
        "<img src=x onerror=alert(1)>",
        "<script>alert(2)</script>",
        "<b onclick=alert(3)>",
    ]
    assert found["opened"] == ["/runpod/job/events?task=t%201%26x%3D%3Cb%3E"]


@needs_node
def test_progress_is_a_bar() -> None:
    found = run("progress")
    assert ["progress", "runpod-job-bar", 0.75] in found["text"]
    assert (found["state"], found["events"][-1][0]) == ("IN_PROGRESS", "runpod-update")


@needs_node
def test_of_a_later_step_the_one_that_runs_is_shown() -> None:
    found = run("step")
    assert [one[2] for one in found["text"]] == ["In the queue", "a GPU is being started"]
    assert found["state"] == "IN_QUEUE"


@needs_node
def test_the_end_closes_the_stream() -> None:
    found = run("end")
    assert [name for name, _ in found["events"]] == ["runpod-update", "runpod-update", "runpod-end"]
    assert found["text"][-1] == ["span", "runpod-job-error", "no <b>memory</b>"]
    assert found["closed"] == 1 and found["requests"] == []


@needs_node
def test_without_a_stream_the_status_is_asked_for() -> None:
    found = run("polling")
    assert found["requests"] == [["/gpu/job?task=t1&after=", "same-origin"]] * 4
    assert found["waits"] == [3000, 6000, 12000], "slower while the server is in trouble"
    assert [name for name, _ in found["events"]] == ["runpod-update", "runpod-update", "runpod-end"]


@needs_node
def test_chunks_come_by_events_and_by_the_status_and_all_before_the_end() -> None:
    found = run("chunks")
    names = [name for name, _ in found["events"]]
    assert [detail["output"] for name, detail in found["events"] if name == "runpod-chunk"] == ["<b>", "b", "c"]
    assert names[-3:] == ["runpod-chunk", "runpod-update", "runpod-end"] and names.count("runpod-end") == 1
    assert [url.partition("after=")[2] for url, _ in found["requests"]] == ["1-0", "2-0", "3-0"]
    assert found["waits"] == [500, 500], "sooner while there are chunks"


@needs_node
def test_the_element_shows_the_text_of_the_chunks() -> None:
    found = run("shownChunks")
    shown = "<b>once|br|upon|br|br|a|7| [\u2026] |time| was|" + '{"preview":"<img>"}|br'
    assert found["text"] == [["span", "runpod-job-state", "Done"], ["div", "runpod-job-chunks", shown]]
    assert set(found["created"]) == {"span", "div", "br"}, "what a handler says stays text"


@needs_node
def test_an_attribute_turns_the_chunks_off_and_their_events_stay() -> None:
    found = run("shownChunks", "no-chunks")
    assert found["text"] == [["span", "runpod-job-state", "Done"]]
    assert len([name for name, _ in found["events"] if name == "runpod-chunk"]) == 10


@needs_node
def test_another_task_begins_without_the_chunks_of_the_one_before() -> None:
    assert run("anotherTask")["text"] == [["span", "runpod-job-state", "Running"]]


@needs_node
def test_who_is_refused_does_not_go_on_asking() -> None:
    found = run("refused")
    assert (found["events"], found["waits"]) == ([["runpod-error", {"status": 404}]], [])


@needs_node
def test_while_the_browser_connects_again_nothing_else_is_asked() -> None:
    assert run("reconnecting")["requests"] == []


@needs_node
def test_an_element_that_was_removed_is_quiet() -> None:
    found = run("removed")
    assert (found["closed"], found["events"], found["text"]) == (1, [], [])
