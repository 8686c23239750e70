"""The Flask example runs as it is, against the simulator. The Django example is in ``test_gallery.py``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from celery_runpod._devstack.stack import Stack, free_port
from tests.browser import Browser, chromium
from tests.servers import ROOT, answers
from tests.waiting import eventually


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[str]:
    """The chat, by its one command."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with Stack(tmp_path, {}) as stack:
        command = [sys.executable, "-m", "examples.flask_chat", str(port)]
        stack.start("chat", command, cwd=ROOT, ready=lambda _: answers(base))
        yield base


def test_the_chat_streams_an_answer_to_its_own_visitor_and_can_be_stopped(chat: str) -> None:
    visitor, stranger = requests.Session(), requests.Session()
    assert b"runpod" in visitor.get(f"{chat}/", timeout=10).content
    assert b"runpod-chunk" in visitor.get(f"{chat}/runpod/static/celery_runpod.js", timeout=10).content
    assert visitor.post(f"{chat}/questions", json={"prompt": " "}, timeout=10).status_code == 400
    task = visitor.post(f"{chat}/questions", json={"prompt": "<b>cats"}, timeout=10).json()["task"]
    assert stranger.get(f"{chat}/runpod/job/events?task={task}", timeout=10).status_code == 404
    assert stranger.delete(f"{chat}/questions/{task}", timeout=10).status_code == 404
    outputs, parts = [], 0
    with visitor.get(f"{chat}/runpod/job/events?task={task}", stream=True, timeout=60) as events:
        for line in events.iter_lines():
            if line.startswith(b"data: "):
                data = json.loads(line.removeprefix(b"data: "))
                outputs += [data["output"]] if data.get("event") == "chunk" else []
                parts += 1
    assert "".join(outputs).startswith("You asked about <b>cats.") and len(outputs) > 20
    assert parts > len(outputs) and data["state"] == "SUCCESS"
    task = visitor.post(f"{chat}/questions", json={"prompt": "dogs"}, timeout=10).json()["task"]
    assert visitor.delete(f"{chat}/questions/{task}", timeout=10).status_code == 204
    last = lambda: visitor.get(f"{chat}/runpod/job?task={task}", timeout=10).json()["state"]  # noqa: E731
    eventually(last, "REVOKED", within_s=60)


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed (Debian: apt install chromium)")
def test_in_a_browser_the_element_shows_the_answer_as_it_comes(chat: str, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.go(f"{chat}/")
        shown = "document.querySelector('.runpod-job-chunks')?.innerText ?? ''"
        state = "document.querySelector('runpod-job')?.dataset.state"
        browser.js(
            "window.lengths = new Set(); new MutationObserver(() => window.lengths.add("
            "document.querySelector('.runpod-job-chunks')?.innerText.length)).observe(document.body, {childList: true, "
            "subtree: true})"
        )
        browser.js("document.querySelector('[name=prompt]').value = '<img src=x>cats'")
        browser.js("document.querySelector('#ask').requestSubmit()")
        eventually(lambda: str(browser.js(shown)).startswith("You asked about <img src=x>cats."), True, within_s=60)
        browser.screenshot(tmp_path / "answering.png")
        eventually(lambda: browser.js(state), "SUCCESS", within_s=60)
        browser.screenshot(tmp_path / "answered.png")
        assert browser.js("document.querySelectorAll('#talk img').length") == 0
        answer = browser.js(shown)
        assert browser.js("window.lengths.size") > 10, "word by word"
        assert answer.count("You asked about") == 1 and len(answer) > 100
        assert "Stop" not in browser.text()
