"""The admin's pages: what Cellcast reported, and how your handlers dealt with it.

Staff can add an opt-out, but not edit or delete anything by hand. To show the pages on an
``AdminSite`` of your own, register the classes there: ``site.register(Message, MessageAdmin)``.
"""

from django.contrib import admin

from cellcast_django.admin.events import WebhookEventAdmin
from cellcast_django.admin.history import StatusChangeAdmin
from cellcast_django.admin.messages import MessageAdmin
from cellcast_django.admin.opt_outs import OptOutAdmin
from cellcast_django.models import Message, OptOut, StatusChange, WebhookEvent

__all__ = ["MessageAdmin", "OptOutAdmin", "StatusChangeAdmin", "WebhookEventAdmin"]

admin.site.register(Message, MessageAdmin)
admin.site.register(OptOut, OptOutAdmin)
admin.site.register(StatusChange, StatusChangeAdmin)
admin.site.register(WebhookEvent, WebhookEventAdmin)
