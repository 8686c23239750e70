"""Pages that are made from the code, and the page of errors: each holds what the code says."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from celery_runpod import errors
from celery_runpod._connect import HOW_TO_CONFIGURE
from celery_runpod._publish.caller_task import EAGER
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job, check_input, parse_job
from celery_runpod.api._http_errors import RawAnswer, Where, read
from celery_runpod.options import Options
from config.profiles import load_profiles
from config.settings import load_settings
from tasks.own_verdicts import expired, status_stuck, verdict_on
from tasks.streaming import UNKNOWN, incomplete
from tests.pages import ROOT, blocks, pages

TASK, JOB, ENDPOINT_ID = "3f1e9c7a", "9f2c-u1", "9zt0qb3c"
WAITING = JobRecord(TASK, ENDPOINT_ID, "sdxl", TASK, "", Options(), accepted_at=0.0, not_before=0.0, end_by=900.0)
AT_RUNPOD = replace(WAITING, job_id=JOB, attempt=1, submitted_at=1.0, state=State.IN_QUEUE)


def raised(call: Callable[[], Any]) -> errors.RunPodError:
    """The error that a call raises."""
    with pytest.raises(errors.RunPodError) as found:
        call()
    return found.value


def refused(status: int, reason: str, operation: str = "run", **ids: str) -> errors.RunPodError:
    """The error of an answer of RunPod's API."""
    where = Where(operation, ids.get("endpoint", ENDPOINT_ID), ids.get("job_id"), ids.get("pod_id"))
    return raised(lambda: read(RawAnswer(status, {}, json.dumps({"error": reason}).encode()), where))


def ended(status: str, **fields: Any) -> errors.RunPodError:
    """The error with which an answer of `/status` ends a job."""
    found = parse_job({"id": JOB, "status": status, **fields}).failure("sdxl", TASK)
    assert found is not None
    return found


def verdict(job: JobRecord, why_queued: str = "") -> errors.RunPodError:
    """The error with which a worker ends a job whose time is over."""
    found = verdict_on(job, 1000.0, why_queued)
    assert found is not None
    return found


EXAMPLES: list[errors.RunPodError] = [
    errors.NotConfigured(HOW_TO_CONFIGURE),
    errors.EagerMode(EAGER.format(what="the Celery app has task_always_eager on", endpoint="sdxl")),
    raised(lambda: load_settings({"RUNPOD_CHECK_BATCH": "5000"})),
    errors.MissingExtra(
        "celery-runpod worker needs the package 'structlog' of the extra \"worker\": pip install 'celery-runpod[worker]'"
    ),
    errors.ConfigurationMismatch("result backend", "redis://shop:6379/1", "redis://shop:6379/0"),
    raised(lambda: Options.parse({"deadline": -5})),
    raised(lambda: check_input({"image": b"png"}, endpoint="sdxl")),
    raised(lambda: check_input("x" * 12_000_000, endpoint="sdxl")),
    errors.IdempotencyConflict("idempotency_key 'order-7' belongs to a job with another input", "sdxl", TASK),
    errors.BrokerUnavailable("broker", "redis://shop:6379/0", "Connection refused"),
    errors.BrokerUnavailable("broker", "amqp://shop:**@rabbit:5672//", "timed out", unconfirmed=True, task_id=TASK),
    errors.TooManyOpenJobs("runpod", "open jobs", 200_000, 200_000, "RUNPOD_MOST_OPEN_JOBS"),
    refused(401, "unauthorized"),
    refused(404, "endpoint not found"),
    refused(404, "job not found", "status", job_id=JOB),
    refused(400, "input.prompt is required"),
    refused(429, "too many requests", "health"),
    refused(502, "bad gateway", "health"),
    raised(lambda: read(RawAnswer(200, {}, b"<html>"), Where("health", ENDPOINT_ID))),
    refused(404, "pod not found", "pods.get", endpoint="", pod_id="pod-1"),
    errors.WaitTimeout(ENDPOINT_ID, JOB, 60.0, "IN_PROGRESS"),
    errors.ResultTimeout(TASK, 30.0, "PENDING", "NO_WORKER"),
    errors.FileRefused(
        "169.254.169.254 is no public address; allow_private=True fetches from there too", "output.image_url"
    ),
    errors.FileUnavailable("the server answers Forbidden", "https://files.example.com/cat.png", 403),
    errors.NoAnswer("runpod.health", 30.0, False, "sdxl"),
    errors.NotOffered("create_endpoint(type='LB')", "v1", "v2"),
    errors.NameTaken("pod", "train", "pod-1"),
    errors.CreateUnconfirmed("pod", "train", "no answer within 20 s"),
    errors.PodNotRunning("pod-1", 600.0, "EXITED"),
    errors.PurgeRefused(ENDPOINT_ID, 4),
    errors.RetryRefused(TASK, "it is part of a group or chord, which has ended with it: call the whole again"),
    ended("FAILED", error={"error_type": "RuntimeError", "error_message": "CUDA out of memory"}),
    ended("TIMED_OUT"),
    errors.JobCancelled("revoked", task_id=TASK),
    verdict(replace(AT_RUNPOD, start_by=60.0, end_by=9000.0), "NO_CAPACITY"),
    verdict(replace(AT_RUNPOD, state=State.IN_PROGRESS)),
    expired(AT_RUNPOD, errors.JobNotFound("job not found")),
    errors.JobPurged(
        "a purge of the endpoint's queue removed the job before any RunPod worker took it", "sdxl", TASK, JOB
    ),
    errors.OutputMissing(errors.OutputMissing.WHY, "sdxl", TASK, JOB),
    ended("COMPLETED", output=json.loads("[" * 70 + "]" * 70)),
    incomplete(AT_RUNPOD, Job(JOB, "COMPLETED"), UNKNOWN),
    status_stuck(AT_RUNPOD),
    errors.JobUndeliverable("the outcome was fetched, but handing it over failed 10 times", "sdxl", TASK, JOB),
    verdict(replace(WAITING, state=State.SUBMITTING, attempt=1, submitted_at=1.0)),
]
BASES = {"RunPodError", "ApiError", "JobError"}
PAGE = "docs/troubleshooting.md"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_hooks", ROOT / "docs/build_hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_that_are_made_from_the_code_are_up_to_date() -> None:
    """In a process of its own: a command of click keeps the help option of whoever has run it first in a process."""
    code = (
        "import json, runpy; pages = runpy.run_path('docs/build_hooks.py')['PAGES'];"
        "print(json.dumps({name: page() for name, page in pages.items()}))"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name, page in json.loads(made.stdout).items():
        assert (ROOT / "docs" / name).read_text() == page, f"docs/{name}: run `python docs/build_hooks.py`"


def test_every_page_is_in_the_navigation_once(hooks: ModuleType) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    written = [page.removeprefix("docs/") for page in pages() if page.startswith("docs/")]
    assert set(hooks._named(nav)) <= set(written)
    hooks.complete(nav, written)
    assert sorted(hooks._named(nav)) == written


def test_the_texts_of_all_errors_are_in_the_page_of_troubles() -> None:
    text = (ROOT / PAGE).read_text()
    known = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert {type(error).__name__ for error in EXAMPLES} == known - BASES
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == known - BASES
    for error in EXAMPLES:
        section = text.partition(f"### {type(error).__name__}\n")[2].partition("\n### ")[0]
        assert f"```text\n{error}\n```" in section, type(error).__name__


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_of_the_page_travels(error: errors.RunPodError) -> None:
    again: Any = errors.decode(errors.encode(error))
    assert (type(again), str(again)) == (type(error), str(error))


SOURCE = "https://github.com/celery-runpod/celery-runpod"


def test_the_readmes_links_work_where_the_package_is_shown() -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    ours = [re.sub(f"^{SOURCE}/(blob|tree)/main/", "", link) for link in links if link.startswith(SOURCE)]
    assert len(ours) > 20
    assert [path for path in ours if not (ROOT / path).exists()] == []
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Source"] == SOURCE and {"Documentation", "Changelog", "Issues"} <= set(urls)


def test_every_link_from_a_page_to_another_finds_it() -> None:
    missing = []
    for page in pages():
        for link in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", (ROOT / page).read_text()):
            if not (ROOT / page).parent.joinpath(link).exists():
                missing.append(f"{page}: {link}")
    assert missing == []


def test_every_option_of_a_call_is_in_the_table_of_options() -> None:
    table = (ROOT / "docs/calling.md").read_text().partition("## Options")[2]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    described = [name for cell in first for name in re.findall("`([^`]+)`", cell)]
    assert sorted(described) == sorted(field.name for field in fields(Options))


def test_what_the_pages_have_installed_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra.strip()
        for page in pages()
        for given in re.findall(r"celery-runpod\[([^\]]+)\]", (ROOT / page).read_text())
        for extra in given.split(",")
    }
    assert {"worker", "simulator", "django", "flask"} <= named <= set(extras)


def test_the_profiles_of_the_pages_are_profiles(tmp_path: Path) -> None:
    found = [one for page in pages() for one in blocks(page) if one.language == "toml" and "[endpoints." in one.text]
    assert len(found) >= 2
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        assert load_profiles(file)["sdxl"].id == "9zt0qb3c"
