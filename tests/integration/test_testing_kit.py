"""The testing kit as a user has it: only the wheel, in a project of its own. What docs/testing.md shows is run."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery

from celery_runpod._devstack.stack import listens
from celery_runpod._testing.local_servers import LocalServers
from celery_runpod.api import RunPodClient
from celery_runpod.errors import ConfigurationError, Unavailable
from celery_runpod.testing import fake_endpoint, local_simulator
from tests.servers import ROOT
from tests.wheel import python_with_the_wheel, run

PAGE = (ROOT / "docs" / "testing.md").read_text()
BLOCKS = dict(re.findall(r"^```python\n# ([\w/]+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""The files of the page."""
DJANGO = {
    "settings.py": """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["gallery"]
ROOT_URLCONF = "urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = "redis://127.0.0.1:1/0"
""",
    "urls.py": """
from django.urls import path

from gallery import views

urlpatterns = [
    path("create", views.create),
    path("later", views.later),
    path("show/<str:task_id>", views.show),
    path("cancel/<str:task_id>", views.cancel),
]
""",
    "gallery/__init__.py": """
from celery import Celery

app = Celery("gallery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["gallery"])
""",
    "gallery/models.py": """
from django.db import models


class Picture(models.Model):
    prompt = models.TextField()
    url = models.TextField(default="")
    failed = models.BooleanField(default=False)
""",
}
PASSED = re.compile(r"(\d+) passed")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_the_wheel(tmp_path_factory.mktemp("wheel"))


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def of_the_page(*names: str) -> dict[str, str]:
    return {name: BLOCKS[name] for name in names}


def number_of_tests(text: str) -> int:
    return len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE))


def passed(said: str) -> int:
    found = PASSED.search(said)
    return int(found[1]) if found else 0


def test_every_block_of_the_page_is_run() -> None:
    assert len(re.findall(r"^```python$", PAGE, re.MULTILINE)) == len(BLOCKS)
    run_here = {"gallery/tasks.py", "gallery/views.py", "gallery/tests.py", "test_gallery.py"}
    run_here |= {"gallery_celery.py", "handlers/sdxl.py", "conftest.py", "test_whole_way.py"}
    run_here |= {"gallery/tests_of_the_whole_way.py"}
    assert set(BLOCKS) == run_here


@pytest.mark.parametrize("eager", [False, True], ids=["not eager", "eager"])
def test_the_pages_tests_in_django(eager: bool, python: Path, tmp_path: Path) -> None:
    write(tmp_path, {**DJANGO, **of_the_page("gallery/tasks.py", "gallery/views.py", "gallery/tests.py")})
    with (tmp_path / "settings.py").open("a") as settings:
        settings.write(f"CELERY_TASK_ALWAYS_EAGER = {eager}\n")
    said = run(python, tmp_path, "-m", "django", "test", "--settings", "settings", "--pythonpath", ".")
    assert f"Ran {number_of_tests(BLOCKS['gallery/tests.py'])} tests" in said and "\nOK" in said


@pytest.mark.parametrize("eager", [False, True], ids=["not eager", "eager"])
def test_the_pages_tests_of_the_whole_way_in_django(eager: bool, python: Path, tmp_path: Path) -> None:
    name = "gallery/tests_of_the_whole_way.py"
    write(tmp_path, {**DJANGO, **of_the_page("gallery/tasks.py", "gallery/views.py", "handlers/sdxl.py", name)})
    with (tmp_path / "settings.py").open("a") as settings:
        settings.write(f"CELERY_TASK_ALWAYS_EAGER = {eager}\n")
    said = run(python, tmp_path, "-m", "django", "test", "--settings", "settings", "--pythonpath", ".")
    assert f"Ran {number_of_tests(BLOCKS[name])} tests" in said and "\nOK" in said


def test_the_pages_tests_in_pytest(python: Path, tmp_path: Path) -> None:
    write(tmp_path, of_the_page("test_gallery.py"))
    said = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert passed(said) == number_of_tests(BLOCKS["test_gallery.py"]) > 0


LOGGING = """
import logging


def test_the_tests_logging_is_left_alone(runpod_worker, caplog):
    logging.getLogger("shop").warning("a word")
    assert "a word" in caplog.text
"""


def test_the_pages_tests_of_the_whole_way(python: Path, tmp_path: Path) -> None:
    names = ("gallery_celery.py", "handlers/sdxl.py", "conftest.py", "test_whole_way.py")
    # With the tests of the fakes: the environment and the app of each test are its own.
    write(tmp_path, of_the_page(*names, "test_gallery.py"))
    write(tmp_path, {"test_whole_way_logging.py": LOGGING, "test_zz_gallery.py": BLOCKS["test_gallery.py"]})
    said = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    of_fakes, of_the_way = number_of_tests(BLOCKS["test_gallery.py"]), number_of_tests(BLOCKS["test_whole_way.py"])
    assert passed(said) == 2 * of_fakes + of_the_way + number_of_tests(LOGGING)


def test_every_canvas_in_a_project_with_names_of_ours(python: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "integration" / "users_project", tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "check_canvas.py").rename(tmp_path / "test_canvas.py").read_text()
    said = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert passed(said) == number_of_tests(text) > 0


NO_COST = """
import sys


def test_nothing_was_imported(request):
    loaded = [name for name in sys.modules if name.split(".")[0] in ("celery", "celery_runpod", "kombu", "redis")]
    assert loaded == []
    assert request.config.pluginmanager.get_plugin("celery_runpod") is not None
"""


def test_the_plugin_costs_a_project_that_does_not_use_it_nothing(python: Path, tmp_path: Path) -> None:
    write(tmp_path, {"test_other.py": NO_COST})
    assert passed(run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")) == 1


WORDS = """
import importlib.util

import pytest


@pytest.fixture(scope="session")
def runpod_local_endpoints():
    find = importlib.util.find_spec
    patch = pytest.MonkeyPatch()
    patch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in {missing} else find(name, *rest))
    yield {endpoints}
    patch.undo()


def test_simulator(runpod_simulator):
    pass


def test_worker(runpod_worker):
    pass
"""


@pytest.mark.parametrize(
    ("missing", "endpoints", "words"),
    [
        (["aiohttp"], ["a=synthetic"], ["extra 'simulator'", "pip install 'celery-runpod[simulator]'"]),
        (["pydantic_settings"], ["a=synthetic"], ["extra 'worker'", "pip install 'celery-runpod[worker,simulator]'"]),
        ([], [], ["session fixture `runpod_local_endpoints`"]),
        ([], ["a=nonsense"], ["nonsense"]),
    ],
    ids=["no simulator", "no worker", "no endpoints", "a wrong endpoint"],
)
def test_what_is_missing_fails_in_words(
    missing: list[str], endpoints: list[str], words: list[str], python: Path, tmp_path: Path
) -> None:
    app = "from celery import Celery\napp = Celery('shop', broker='redis://127.0.0.1:1/0')\n"
    write(tmp_path, {"conftest.py": app, "test_words.py": WORDS.format(missing=missing, endpoints=endpoints)})
    said = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", status=1)
    assert all(word in said for word in words), said
    assert "skipped" not in said


def test_the_local_runpod_ends_with_its_block_and_leaves_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_BASE_URL", "https://of-the-project.test/v2")
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    with local_simulator("fast=synthetic:duration=0.05") as runpod:
        assert os.environ["RUNPOD_BASE_URL"] == runpod.url
        with RunPodClient() as client:
            assert client.run_sync("fast", {"a": 1}).output == {"a": 1}
        assert [job["input"] for job in runpod.jobs("fast")] == [{"a": 1}]
        fault = runpod.fault("status", operation="health", status=500, times=1)
        with pytest.raises(Unavailable):
            runpod.client().health("fast")
        assert fault and runpod.requests()["health"] == {"500": 1}
        with pytest.raises(ValueError, match="kind"):
            runpod.fault("earthquake")
        runpod.no_faults()
        runpod.reset()
        assert runpod.jobs() == []
    assert not listens(urlsplit(runpod.url).port or 0)
    assert os.environ["RUNPOD_BASE_URL"] == "https://of-the-project.test/v2"
    assert "RUNPOD_API_KEY" not in os.environ


def test_local_servers_and_fakes_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = object.__new__(LocalServers)
    with fake_endpoint("sdxl"), pytest.raises(ConfigurationError, match="a fake endpoint is active"):
        servers.own_worker(Celery("shop", set_as_current=False)).__enter__()
