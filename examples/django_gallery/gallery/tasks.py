"""The project's own task: what follows the GPU jobs in the chain."""

import io

from celery import shared_task
from PIL import Image

from celery_runpod import files
from gallery.models import Picture


@shared_task
def count_colours(output, pk):
    """Save how many colours the picture has."""
    image = Image.open(io.BytesIO(files.read(output["png"])))
    found = len(image.convert("RGB").getcolors(1 << 24))
    Picture.objects.filter(pk=pk).update(colours=found)
    return found
