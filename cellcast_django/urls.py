"""The URLs to paste into Cellcast's dashboard: ``include("cellcast_django.urls")``.

Each works with and without a trailing slash and never redirects: a redirect loses the body.
"""

from django.urls import re_path

from cellcast_django.views import WebhookView
from cellcast_django.webhooks import WEBHOOKS

app_name = "cellcast_django"

urlpatterns = [
    re_path(
        rf"^{each.url_name}/?$", WebhookView.as_view(endpoint=each.endpoint), name=each.url_name
    )
    for each in WEBHOOKS
]
