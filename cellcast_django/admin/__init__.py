"""The admin's pages: what came in, and what became of it, for people to read.

Nothing can be added, changed or deleted by hand. To show the pages on an ``AdminSite`` of your own,
register the classes there: ``site.register(Message, MessageAdmin)``.
"""

from django.contrib import admin

from cellcast_django.admin.events import WebhookEventAdmin
from cellcast_django.admin.history import StatusChangeAdmin
from cellcast_django.admin.messages import MessageAdmin
from cellcast_django.models import Message, StatusChange, WebhookEvent

__all__ = ["MessageAdmin", "StatusChangeAdmin", "WebhookEventAdmin"]

admin.site.register(Message, MessageAdmin)
admin.site.register(StatusChange, StatusChangeAdmin)
admin.site.register(WebhookEvent, WebhookEventAdmin)
