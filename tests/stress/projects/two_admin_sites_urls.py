"""The host's URLs, and its second admin site."""

from django.contrib import admin
from django.urls import path

from cellcast_django.admin import MessageAdmin, WebhookEventAdmin
from cellcast_django.models import Message, WebhookEvent
from tests.stress.host import urls

office = admin.AdminSite(name="office")
office.register(Message, MessageAdmin)
office.register(WebhookEvent, WebhookEventAdmin)

urlpatterns = [path("office/", office.urls), *urls.urlpatterns]
