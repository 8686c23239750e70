"""A user's tests: every canvas, with the wheel alone. Copied as a test file by `test_testing_kit.py`."""

import pytest
from celery import chain, chord, group

from celery_app import app
from celery_runpod import Endpoint, JobResult, errors
from celery_runpod.testing import fake_endpoint
from tasks import create, failed, note_failure, prompt_for, save, saved, total

sdxl = Endpoint("sdxl")
caption = Endpoint("caption")


@pytest.fixture(autouse=True)
def nothing_saved():
    assert app.conf.task_always_eager
    saved.clear()
    failed.clear()


def test_single(runpod_endpoints):
    fake = runpod_endpoints.fake("sdxl", output=7)
    result = sdxl.delay(prompt="a cat")
    assert (result.get(), result.state, JobResult(result.id).get()) == (7, "SUCCESS", 7)
    fake.assert_called_once_with(prompt="a cat")


def test_chain(runpod_endpoints):
    runpod_endpoints.fake("sdxl", output=lambda input: {"url": f"/{input['prompt']}", "steps": input["steps"]})
    result = (prompt_for.s("cat") | sdxl.s(steps=3) | save.s()).delay()
    assert result.get() == 1 and saved == [{"url": "/a cat", "steps": 3}]
    assert JobResult(result.parent.id).get() == saved[0]


def test_two_endpoints_with_a_task_between(runpod_endpoints):
    runpod_endpoints.fake("sdxl", output="cat")
    runpod_endpoints.fake("caption", output=lambda input: input["prompt"].upper())
    assert chain(sdxl.s(), prompt_for.s(), caption.s()).delay().get() == "A CAT"


def test_group_and_chord(runpod_endpoints):
    runpod_endpoints.fake("sdxl", output=lambda input: input["n"])
    calls = [sdxl.s(n=n) for n in (1, 2, 3)]
    assert group(calls)().get() == [1, 2, 3]
    assert chord(calls)(total.s()).get() == 6
    assert chain(group(calls), total.s(), save.s()).delay().get() == 1
    assert saved == [6]


def test_links(runpod_endpoints):
    runpod_endpoints.fake("sdxl", outputs=["fine", errors.JobFailed("no face")])
    sdxl.apply_async(link=save.s(), link_error=note_failure.s())
    sdxl.apply_async(link=save.s(), link_error=note_failure.s())
    assert saved == ["fine"]
    assert [error.message for error in failed] == ["no face"]


def test_a_task_that_calls_an_endpoint():
    with fake_endpoint("sdxl", output="done") as fake:
        assert JobResult(create.delay("cat").get()).get() == "done"
    fake.assert_called_once_with(prompt="cat")


def test_refused(runpod_endpoints):
    with pytest.raises(errors.EagerMode, match=r"fake_endpoint\('sdxl'"):
        (prompt_for.s("cat") | sdxl.s()).delay()


def test_refused_without_the_fixture():
    with pytest.raises(errors.EagerMode, match=r"fake_endpoint\('sdxl'"):
        sdxl.delay()
