"""The URLs to paste into Cellcast's dashboard: ``include("cellcast_django.urls")``.

Each works with and without a trailing slash and never redirects: a redirect loses the body.
"""

from django.urls import re_path

from cellcast_django.views import OptOutWebhookView, ReplyWebhookView, StatusWebhookView

app_name = "cellcast_django"

urlpatterns = [
    re_path(r"^webhook-receiver/?$", ReplyWebhookView.as_view(), name="webhook-receiver"),
    re_path(r"^webhook-status/?$", StatusWebhookView.as_view(), name="webhook-status"),
    re_path(r"^webhook-opt-out/?$", OptOutWebhookView.as_view(), name="webhook-opt-out"),
]
