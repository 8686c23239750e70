"""A file on its way through a job: into the input as text, and out of the output, over HTTP and by RunPod's own SDK."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain
from PIL import Image

from celery_runpod import Endpoint, files
from tests.application import same
from tests.servers import World

WAIT_S = 60
HANDLER = '''
"""As worker-comfyui: takes pictures as data URLs, and gives them back as base64 with a name."""
import base64, io
import runpod
from PIL import Image


def handler(job):
    picture = Image.open(io.BytesIO(base64.b64decode(job["input"]["image"].partition(",")[2])))
    file = io.BytesIO()
    picture.transpose(Image.Transpose.ROTATE_90).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {"images": [{"filename": "ComfyUI_00001_.png", "type": "base64", "data": data}]}


runpod.serverless.start({"handler": handler})
'''


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "turn.py").write_text(HANDLER)
    with World(folder, endpoints=[f"turn={folder / 'turn.py'}"]) as world:
        yield world.start()


def test_a_picture_goes_through_a_job_and_is_saved(world: World, tmp_path: Path) -> None:
    picture = Image.effect_noise((900, 600), 100)
    url = files.data_url(picture)
    assert len(url) > 500_000
    output = chain(Endpoint("turn", app=world.app()).s(image=url), same.s()).delay().get(timeout=WAIT_S)
    [found] = files.find(output)
    assert (found.name, found.content_type) == ("ComfyUI_00001_.png", "image/png")
    saved = Image.open(files.save(found, tmp_path / found.name))
    assert saved.tobytes() == picture.transpose(Image.Transpose.ROTATE_90).tobytes()
    assert Image.open(io.BytesIO(files.read(output))).size == (600, 900)
