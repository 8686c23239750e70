"""The project of docs/django.md works as it stands there: its files are written from the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from celery_runpod.django._settings import DJANGOS, VARIABLES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/django.md").read_text()
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", TEXT, re.DOTALL)

TRY = """
import django
django.setup()
from celery_runpod import JobResult, errors
from celery_runpod.testing import fake_endpoint
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import resolve
from shop.models import Picture
from shop.tasks import publish

call_command("migrate", run_syncdb=True, verbosity=0)
output = {"url": "https://example.com/1.png"}
with fake_endpoint("sdxl", output=output) as sdxl, fake_endpoint("upscale", output={"large": True}):
    answer = Client().post("/pictures/", {"prompt": "a cat"}, SERVER_NAME="localhost").json()
    picture = Picture.objects.get(pk=answer["picture"])
    assert (picture.task_id, picture.url, picture.job_state) == (answer["task"], output["url"], "SUCCESS")
    assert picture.job.get(timeout=5) == output
    with transaction.atomic():
        ids = publish("a dog", 7)
        assert len(sdxl.calls) == 1
    assert [call.task_id for call in sdxl.calls][1:3] == list(ids[:2])
    assert JobResult(ids[2]).get(timeout=5) == {"order": 7, "output": {"large": True}}
with fake_endpoint("sdxl", error=errors.JobFailed("no memory")):
    Client().post("/pictures/", {"prompt": "a cow"}, SERVER_NAME="localhost")
assert "no memory" in str(Picture.objects.get(prompt="a cow").job_exception)
assert Client().get("/admin/celery_runpod/job/", SERVER_NAME="localhost").status_code == 302
assert Client().get("/runpod/job?task=x", SERVER_NAME="localhost").status_code == 404
from celery_runpod.django._system_checks import check_celery_runpod
from project import celery_app
celery_app.conf.task_always_eager = True  # no server is there to be compared with
assert check_celery_runpod() == [], check_celery_runpod()
print("all of it works")
"""


def test_the_project_of_the_page(tmp_path: Path) -> None:
    for name, text in BLOCKS:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    (tmp_path / "shop/__init__.py").touch()
    env = {"DJANGO_SETTINGS_MODULE": "project.settings", "PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_DEBUG": "1"}
    # A host name is refused without DEBUG, and the page does not speak of hosts.
    script = f"from django.conf import settings\nsettings.ALLOWED_HOSTS = ['*']\n{TRY}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.endswith("all of it works\n"), done.stdout + done.stderr


def test_every_python_block_is_a_file_of_that_project() -> None:
    assert len(BLOCKS) == TEXT.count("```python") >= 8


def test_every_name_of_the_setting_is_in_its_table() -> None:
    table = TEXT.partition("## The setting `RUNPOD`")[2].partition("##")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == {*DJANGOS, *VARIABLES}


def test_every_check_is_in_its_table() -> None:
    from celery_runpod.django import _system_checks

    given = set(re.findall(r'id="(celery_runpod\.\w+)"', Path(_system_checks.__file__).read_text()))
    assert given == set(re.findall(r"^\| `(celery_runpod\.\w+)` \|", TEXT, re.MULTILINE))
