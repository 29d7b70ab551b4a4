"""The admin's pages: what Cellcast reported, and how your handlers dealt with it.

Staff can add an opt-out, but not edit or delete anything by hand. ``register`` shows the pages on
an ``AdminSite`` of your own. What the desk adds to them comes by ``extension``.
"""

from django.contrib import admin

from cellcast_django.admin.calls import HandlerCallAdmin
from cellcast_django.admin.events import WebhookEventAdmin
from cellcast_django.admin.history import StatusChangeAdmin
from cellcast_django.admin.messages import MessageAdmin
from cellcast_django.admin.opt_outs import OptOutAdmin
from cellcast_django.models import HandlerCall, Message, OptOut, StatusChange, WebhookEvent

__all__ = [
    "HandlerCallAdmin",
    "MessageAdmin",
    "OptOutAdmin",
    "StatusChangeAdmin",
    "WebhookEventAdmin",
    "register",
]

CLASSES = {
    HandlerCall: HandlerCallAdmin,
    Message: MessageAdmin,
    OptOut: OptOutAdmin,
    StatusChange: StatusChangeAdmin,
    WebhookEvent: WebhookEventAdmin,
}


def register(site: admin.AdminSite) -> None:
    """Show what Cellcast reported on a site; a model that has pages there keeps them."""
    for model, model_admin in CLASSES.items():
        if not site.is_registered(model):
            site.register(model, model_admin)


register(admin.site)
