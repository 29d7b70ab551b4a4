"""Appointments in the admin."""

from django.apps import apps
from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_lazy as _

from cellcast_django.models import Message
from example_project.appointments.models import Appointment


@admin.register(Appointment)
class AppointmentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django 5.2 has no [] here
    """Appointments; the page of each shows the conversation with the customer."""

    list_display = ["customer_name", "starts_at", "state", "to_do", "reminder"]
    list_filter = ["needs_attention", "state", "reminder", "starts_at"]
    search_fields = ["customer_name", "phone_number"]
    ordering = ["starts_at"]
    readonly_fields = ["reminder", "conversation"]
    if apps.is_installed("cellcast_django.desk"):
        change_form_template = "admin/appointments/with_conversation.html"

    @admin.display(description=_("to do"), ordering="-needs_attention")
    def to_do(self, appointment: Appointment) -> str:
        """Return what staff have to do about the customer's answer."""
        return gettext("please call") if appointment.needs_attention else ""

    @admin.display(description=_("conversation"))
    def conversation(self, appointment: Appointment) -> SafeString:
        """Return the messages to and from the customer, oldest first."""
        messages = Message.objects.with_contact(appointment.phone_number).order_by("created_at")
        return format_html_join(
            "", "<p>{}: <bdi>{}</bdi></p>", ((m.get_direction_display(), m.body) for m in messages)
        )
