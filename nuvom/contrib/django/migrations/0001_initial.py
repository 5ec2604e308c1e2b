"""Declares the model of the admin, so that its permissions are created."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models


class Migration(migrations.Migration):
    """Nothing changes in the database."""

    initial = True
    dependencies: list[Any] = []  # noqa: RUF012  # as Django declares it
    operations = [  # noqa: RUF012  # as Django declares it
        migrations.CreateModel(
            name="QueuedJob",
            fields=[
                (
                    "id",
                    models.CharField(max_length=200, primary_key=True, serialize=False),
                )
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "permissions": (
                    ("view_job", "Can view jobs"),
                    ("retry_job", "Can run jobs again"),
                    ("cancel_job", "Can cancel jobs"),
                ),
                "managed": False,
                "default_permissions": (),
            },
        )
    ]
