"""examples/django_gallery, started by its one command, over HTTP and in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from celery_runpod._devstack.stack import free_port
from tests.browser import Browser, chromium
from tests.servers import ROOT
from tests.waiting import eventually

FOLDER = ROOT / "examples/django_gallery"


class Gallery:
    """The running example."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    @property
    def admin(self) -> tuple[str, str]:
        """Name and password of the admin's user."""
        found = re.search(r"^Admin +\S+ +(\S+) (\S+)$", self.log.read_text(), re.MULTILINE)
        assert found is not None
        return found[1], found[2]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    folder = tmp_path_factory.mktemp("gallery")
    port, log = free_port(), folder / "log"
    # As for somebody who has just cloned: no variable of another test.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNPOD_", "REDIS_", "CELERY_"))}
    env = {**kept, "GALLERY_DATA": str(folder / "data"), "GALLERY_STEP_S": "0.2", "PYTHONPATH": str(ROOT)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "run.py", "--port", str(port)], cwd=FOLDER, env=env, stdout=file, stderr=file
        )
    made = Gallery(f"http://127.0.0.1:{port}", log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return requests.get(made.url, timeout=2).ok
        except requests.ConnectionError:
            return False

    try:
        eventually(answers, True, within_s=180)
        yield made
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()[-3000:]
        assert log.read_text().endswith("stopping\n") or "stopping" in log.read_text()
        with pytest.raises(requests.ConnectionError):
            requests.get(made.url, timeout=2)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Visitor:
    """Somebody with a session."""

    def __init__(self, gallery: Gallery) -> None:
        self.url, self._session = gallery.url, requests.Session()
        self.get("/")

    def get(self, path: str) -> requests.Response:
        return self._session.get(self.url + path, timeout=10)

    def post(self, path: str, **data: str) -> requests.Response:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get("/").text)
        assert token is not None
        given = {"csrfmiddlewaretoken": token[1], **data}
        return self._session.post(self.url + path, data=given, timeout=10)

    def draw(self, prompt: str) -> str:
        """Begin a picture; returns the path of its page."""
        answer = self.post("/", prompt=prompt)
        assert answer.ok
        return answer.url.removeprefix(self.url)


def task_on(page: requests.Response) -> str:
    found = re.search(r'<runpod-job task="([\w-]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def test_a_picture_is_drawn_framed_saved_and_counted(gallery: Gallery) -> None:
    visitor = Visitor(gallery)
    page = visitor.draw("a yellow <b>barn</b>")
    task = task_on(visitor.get(page))
    assert "&lt;b&gt;barn" in visitor.get(page).text
    seen = []

    def ended() -> bool:
        update = visitor.get(f"/runpod/job?task={task}").json()
        seen.append((update.get("step") or update)["state"])
        return bool(update["ended"])

    eventually(ended, True, within_s=60)
    assert "IN_PROGRESS" in seen and seen[-1] == "SUCCESS"
    eventually(lambda: bool(re.search(r"\d+ colours", visitor.get(page).text)), True, within_s=30)
    image = visitor.get(f"{page}image")
    assert image.headers["Content-Type"] == "image/png" and image.content.startswith(b"\x89PNG")
    assert f"{page}image" in visitor.get("/").text


def test_nobody_else_sees_it(gallery: Gallery) -> None:
    visitor, other = Visitor(gallery), Visitor(gallery)
    page = visitor.draw("mine")
    task = task_on(visitor.get(page))
    assert other.get(page).status_code == 404 and other.get(f"/runpod/job?task={task}").status_code == 404
    assert "mine" not in other.get("/").text
    assert other.post(f"{page}cancel").status_code == 404


def test_the_whole_chain_is_cancelled_and_drawn_again(gallery: Gallery) -> None:
    visitor = Visitor(gallery)
    page = visitor.draw("a slow one")
    assert visitor.post(f"{page}cancel").ok
    eventually(lambda: "Cancelled." in visitor.get(page).text, True, within_s=60)
    assert visitor.post(f"{page}again").ok
    eventually(lambda: "<img" in visitor.get(page).text, True, within_s=60)


def test_a_failure_of_the_first_job_is_the_pictures(gallery: Gallery) -> None:
    visitor = Visitor(gallery)
    page = visitor.draw("please fail")
    eventually(lambda: "no picture of &#x27;please fail&#x27; is possible" in visitor.get(page).text, True, within_s=60)


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed (Debian: apt install chromium)")
def test_in_a_browser(gallery: Gallery, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.go(f"{gallery.url}/")
        browser.js("document.querySelector('#prompt').value = 'a blue lighthouse at dawn'")
        browser.js("document.querySelector('.new').requestSubmit()")
        eventually(
            lambda: browser.js("document.querySelector('runpod-job')?.dataset.state"), "IN_PROGRESS", within_s=60
        )
        eventually(lambda: browser.js("document.querySelector('runpod-job progress')?.value > 0.3"), True, within_s=60)
        browser.screenshot(tmp_path / "running.png")
        # The page is loaded again by itself, and has the picture.
        width = "document.querySelector('main > img')?.naturalWidth"
        eventually(lambda: browser.js(width), 420, within_s=60)
        eventually(lambda: "colours" in browser.text() or browser.js("location.reload()"), True, within_s=30)
        browser.screenshot(tmp_path / "done.png")
        name, password = gallery.admin
        browser.go(f"{gallery.url}/admin/")
        browser.js(f"document.querySelector('#id_username').value = '{name}'")
        browser.js(f"document.querySelector('#id_password').value = '{password}'")
        browser.js("document.querySelector('#login-form').requestSubmit()")
        eventually(lambda: "Site administration" in browser.text(), True)
        browser.go(f"{gallery.url}/admin/celery_runpod/job/?which=ended")
        assert "a blue lighthouse at dawn" in browser.text() and "COMPLETED" in browser.text()
        browser.screenshot(tmp_path / "admin.png")
