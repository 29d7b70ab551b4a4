"""The same site without the app: its admin, and Django REST framework as a host would use it."""

from typing import Any

from django.contrib import admin
from django.urls import include, path

urlpatterns: list[Any] = [
    path("admin/", admin.site.urls),
    path("accounts/", include("rest_framework.urls")),
]
