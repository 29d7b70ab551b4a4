"""The URLs: the admin, and below ``sms/`` the three that Cellcast calls."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("sms/", include("cellcast_django.urls")),
]
