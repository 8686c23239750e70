"""The first tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Picture",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("task_id", models.CharField(blank=True, editable=False, max_length=255, null=True, unique=True)),
                ("job_state", models.CharField(blank=True, default="", editable=False, max_length=16)),
                ("job_result", models.JSONField(blank=True, editable=False, null=True)),
                ("job_error", models.JSONField(blank=True, editable=False, null=True)),
                ("job_ended_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("owner", models.CharField(db_index=True, max_length=40)),
                ("prompt", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("image", models.FileField(blank=True, upload_to="pictures")),
                ("colours", models.IntegerField(null=True)),
            ],
            options={
                "ordering": ["-created_at", "-pk"],
            },
        ),
    ]
