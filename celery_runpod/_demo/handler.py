"""A RunPod handler as one writes it for RunPod: it renders one tile of a large Mandelbrot picture.

Nothing in it knows of Celery or of the simulator; with `runpod` and Pillow in an image it runs on RunPod as it is.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import runpod
from PIL import Image

CENTRE, SPAN = complex(-0.7436, 0.1318), 0.016
MOST_STEPS = 160
PROGRESS_EVERY = 4
"""How often a tile sends its progress: each time is a request to RunPod."""


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Render the tile at `left`, `top` (pixels) of `size` [width, height] in a picture of `picture` [width, height]."""
    tile = job["input"]
    left, top = tile["left"], tile["top"]
    width, height = tile["size"]
    picture_width, picture_height = tile["picture"]
    image = Image.new("RGB", (width, height))
    pixels = image.load()
    assert pixels is not None
    scale = SPAN / picture_width
    for y in range(height):
        for x in range(width):
            at = complex(left + x - picture_width / 2, top + y - picture_height / 2) * scale
            pixels[x, y] = colour(CENTRE + at)
        if (y + 1) % max(1, height // PROGRESS_EVERY) == 0:
            runpod.serverless.progress_update(job, f"{100 * (y + 1) // height} %")
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"left": left, "top": top, "png": base64.b64encode(file.getvalue()).decode()}


def colour(point: complex) -> tuple[int, int, int]:
    """The colour of a point: black inside the set, else by how fast it escapes."""
    z = 0j
    for step in range(MOST_STEPS):
        z = z * z + point
        if z.real * z.real + z.imag * z.imag > 64.0:
            shade = (step + 1 - math.log2(math.log2(abs(z)))) * 0.16
            return _channel(shade), _channel(shade - 0.7), _channel(shade - 1.4)
    return 0, 0, 0


def _channel(shade: float) -> int:
    return int(127.5 - 127.5 * math.cos(shade))


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
