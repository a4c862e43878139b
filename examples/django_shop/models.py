"""The shop's one table."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order; its workflow confirms it."""

    customer = models.CharField(max_length=100)
    amount = models.PositiveIntegerField()
    status = models.CharField(max_length=20, default="new")

    class Meta:
        app_label = "django_shop"

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"
