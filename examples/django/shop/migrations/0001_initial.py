"""The table of orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Written by ``manage.py makemigrations``."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("email", models.CharField(max_length=200)),
                ("is_paid", models.BooleanField(default=False)),
                ("receipt", models.TextField(default="")),
            ],
        ),
    ]
