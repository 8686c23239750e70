"""A project's own Celery app, as one writes it: a picture is split into tiles, rendered on RunPod, and joined here.

It runs in its own worker, with its own queue. All that it has of RunPod is the name of an endpoint; the API key and the
worker's code are elsewhere.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

from celery import Celery, chord
from celery.canvas import Signature
from PIL import Image

from celery_runpod import Endpoint

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

app = Celery("demo", broker=REDIS_URL, backend=REDIS_URL)
app.conf.task_default_queue = "demo"
app.conf.broker_connection_retry_on_startup = True

ENDPOINT = "tiles"
COLUMNS, ROWS = 4, 3
TILE = (240, 240)
PICTURE = (COLUMNS * TILE[0], ROWS * TILE[1])

tiles = Endpoint(ENDPOINT, app=app).using(deadline=300, backoff={"first": 0.5, "factor": 1.5, "cap": 3.0})


@app.task
def join_tiles(parts: list[dict[str, Any]], path: str) -> str:
    """Join the tiles into one picture at `path`, and return the path."""
    picture = Image.new("RGB", PICTURE)
    for part in parts:
        with Image.open(io.BytesIO(base64.b64decode(part["png"]))) as tile:
            picture.paste(tile, (part["left"], part["top"]))
    goal = Path(path)
    unfinished = goal.with_name(f".{goal.name}.{os.getpid()}")
    picture.save(unfinished, "PNG")
    unfinished.replace(goal)
    return path


def picture_of_tiles(path: str) -> Signature:
    """The whole work: every tile on RunPod, side by side, then `join_tiles`."""
    header = [
        tiles.s(left=column * TILE[0], top=row * TILE[1], size=list(TILE), picture=list(PICTURE))
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    return chord(header, join_tiles.s(path))
