"""The same site without the app: its admin, and Django REST framework as a host has it."""

from typing import Any

from django.contrib import admin
from django.urls import path
from rest_framework.views import APIView

urlpatterns: list[Any] = [
    path("admin/", admin.site.urls),
    path("api/", APIView.as_view()),
]
