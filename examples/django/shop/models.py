"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """An order of a customer."""

    email = models.CharField(max_length=200)
    is_paid = models.BooleanField(default=False)
    receipt = models.TextField(default="")

    def __str__(self) -> str:
        return f"order {self.pk} of {self.email}"
