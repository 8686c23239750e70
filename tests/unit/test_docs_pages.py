"""Pages that are made from the code, and the page of errors: each holds what the code says."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from celery_runpod import errors
from celery_runpod._connect import HOW_TO_CONFIGURE
from celery_runpod._publish.caller_task import EAGER
from celery_runpod.options import Options
from config.profiles import load_profiles
from tests.pages import ROOT, blocks, pages

TASK, JOB = "3f1e9c7a", "9f2c-u1"
EXAMPLES: list[errors.RunPodError] = [
    errors.NotConfigured(HOW_TO_CONFIGURE),
    errors.EagerMode(EAGER.format(what="the Celery app has task_always_eager on", endpoint="sdxl")),
    errors.ConfigurationError("wrong settings:\n  RUNPOD_CHECK_BATCH: Input should be less than or equal to 1000"),
    errors.MissingExtra(
        "celery-runpod worker needs the package 'structlog' of the extra \"worker\": pip install 'celery-runpod[worker]'"
    ),
    errors.ConfigurationMismatch("result backend", "redis://shop:6379/1", "redis://shop:6379/0"),
    errors.InvalidOption("deadline", -5, "0.1 to 604800 s"),
    errors.InvalidInput("input.image is bytes, which is not JSON", "sdxl", TASK),
    errors.PayloadTooLarge("the request has 12000000 bytes, and RunPod takes 10000000", "sdxl", TASK),
    errors.IdempotencyConflict("the idempotency_key 'order-7' belongs to a job with another input", "sdxl", TASK),
    errors.BrokerUnavailable("broker", "redis://shop:6379/0", "Connection refused"),
    errors.BrokerUnavailable("broker", "amqp://shop:**@rabbit:5672//", "timed out", unconfirmed=True, task_id=TASK),
    errors.TooManyOpenJobs("runpod", "open jobs", 200_000, 200_000, "RUNPOD_MOST_OPEN_JOBS"),
    errors.Unauthorized("RunPod does not accept the API key", "run", "9zt0qb3c", 401, None, TASK),
    errors.EndpointNotFound("RunPod knows no endpoint of this id", "run", "9zt0qb3c", 404, None, TASK),
    errors.JobNotFound("RunPod knows no job of this id", "status", "9zt0qb3c", 404, JOB, TASK),
    errors.RequestRejected("the input has no prompt", "run", "9zt0qb3c", 400, None, TASK),
    errors.RateLimited("too many requests", "health", "9zt0qb3c", 429),
    errors.Unavailable("no answer within 10 s", "health", "9zt0qb3c"),
    errors.BadAnswer("the answer is no JSON", "health", "9zt0qb3c", 200),
    errors.PodNotFound("RunPod knows no pod of this id", "get_pod", None, 404),
    errors.WaitTimeout("9zt0qb3c", JOB, 60.0, "IN_PROGRESS"),
    errors.ResultTimeout(TASK, 30.0, "PENDING", "NO_WORKER"),
    errors.NoAnswer("runpod.health", 30.0, False, "sdxl"),
    errors.NotOffered("create_endpoint(type='LB')", "v1", "v2"),
    errors.NameTaken("pod", "train", "pod-1"),
    errors.CreateUnconfirmed("pod", "train", "no answer within 20 s"),
    errors.PodNotRunning("pod-1", 600.0, "EXITED"),
    errors.PurgeRefused("9zt0qb3c", 4),
    errors.RetryRefused(TASK, "it is part of a group or chord, which has ended with it: call the whole again"),
    errors.JobFailed("CUDA out of memory", "sdxl", TASK, JOB, "RuntimeError"),
    errors.JobTimedOut(
        "RunPod ended the job: it ran over its execution timeout, or its time to live", "sdxl", TASK, JOB
    ),
    errors.JobCancelled("revoked", "sdxl", TASK, JOB),
    errors.StartTimeout("no RunPod worker took the job within 60 s: NO_CAPACITY", "sdxl", TASK, JOB, 60.0),
    errors.DeadlineExceeded("the job did not end within 900 s; last state IN_PROGRESS", "sdxl", TASK, JOB, 900.0),
    errors.JobExpired(
        "RunPod does not know this job any more (job not found): it expired there, or was lost", "sdxl", TASK, JOB
    ),
    errors.JobPurged(
        "a purge of the endpoint's queue removed the job before any RunPod worker took it", "sdxl", TASK, JOB
    ),
    errors.OutputMissing(errors.OutputMissing.WHY, "sdxl", TASK, JOB),
    errors.OutputTooDeep("the job is COMPLETED, but its output is nested deeper than 64 levels", "sdxl", TASK, JOB),
    errors.StatusStuck("/status went on saying IN_PROGRESS", "sdxl", TASK, JOB),
    errors.JobUndeliverable("the outcome was fetched, but handing it over failed 10 times", "sdxl", TASK, JOB),
    errors.SubmissionUnconfirmed("submit 1 got no answer before the deadline", "sdxl", TASK),
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


def test_the_pages_that_are_made_from_the_code_are_up_to_date(hooks: ModuleType) -> None:
    for name, page in hooks.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == page(), f"docs/{name}: run `python docs/build_hooks.py`"


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
