"""A picture is a job: the last of the two GPU jobs that make it."""

from celery import chain
from django.core.files.base import ContentFile
from django.db import models

from celery_runpod import Endpoint, files
from celery_runpod.django.models import JobModel

draw = Endpoint("draw").using(deadline=900)
frame = Endpoint("frame").using(deadline=900)


class Picture(JobModel):
    """The image is a file; the job's output, which holds it as text, is not kept."""

    keeps_job_result = False

    owner = models.CharField(max_length=40, db_index=True)
    prompt = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    image = models.FileField(upload_to="pictures", blank=True)
    colours = models.IntegerField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self):
        return self.prompt

    def begin(self):
        """Draw it, frame it (this job is the row's), then count its colours in the own worker."""
        from gallery.tasks import count_colours

        self.start_job(
            frame.s(),
            within=lambda job: chain(draw.s(prompt=self.prompt), job, count_colours.s(self.pk)),
        )

    def job_has_ended(self, result, error):
        """Called in the own worker, in the transaction that saves the end."""
        if error is None:
            self.image.save(f"{self.pk}.png", ContentFile(files.read(result["png"])), save=False)
            self.save(update_fields=["image"])
