"""The overview: whether webhooks arrive, what needs attention, and the figures of a period.

Each person sees the parts about the models that they may view.
"""

from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from cellcast_django.admin.lists.read_only import ReadOnlyAdmin
from cellcast_django.admin.pages.overview_events import event_details, restricted_event_details
from cellcast_django.admin.pages.overview_messages import message_details, new_opt_outs
from cellcast_django.admin.pages.recovery import details_of_recovery
from cellcast_django.models import Message, OptOut, WebhookEvent

MODELS: tuple[type[Model], ...] = (WebhookEvent, Message)
"""Permission to view one of these opens the overview, with the part about that model."""


def details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return what the page shows to this person."""
    shown = health_details(model_admin, request)
    if model_admin.may_view(request, Message) and not is_restricted(model_admin, request, Message):
        shown |= message_details(model_admin, request) | details_of_recovery(model_admin)
        if model_admin.may_view(request, OptOut):
            shown["new_opt_outs"] = new_opt_outs(model_admin, request)
    return shown


def health_details(model_admin: ReadOnlyAdmin, request: HttpRequest) -> dict[str, Any]:
    """Return the part about webhooks."""
    if not model_admin.may_view(request, WebhookEvent):
        return {}
    if is_restricted(model_admin, request, WebhookEvent):
        return restricted_event_details(model_admin, request)
    return event_details(model_admin, request)


def is_restricted(model_admin: ReadOnlyAdmin, request: HttpRequest, model: type[Model]) -> bool:
    """Whether the host project's own class hides some rows, which our figures would count."""
    return bool(model_admin.rows_of(request, model).query.where)
