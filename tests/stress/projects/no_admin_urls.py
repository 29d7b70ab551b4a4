"""The webhooks alone."""

from django.urls import include, path

urlpatterns = [path("sms/", include("cellcast_django.urls"))]
