"""Where the shop's requests go."""

from __future__ import annotations

from django.urls import path

from examples.django_shop.views import place_order

urlpatterns = [path("orders", place_order)]
