"""Filters for the list of opt-outs."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.lists.filters import Choices, ExactFilter, PeriodFilter
from cellcast_django.models import OptOut


class StateFilter(admin.SimpleListFilter):
    """Active opt-outs, or those that somebody has ended."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the two states."""
        return [("standing", _("opted out")), ("ended", _("ended"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to a state."""
        match self.value():
            case "standing":
                return queryset.filter(ended_at__isnull=True)
            case "ended":
                return queryset.filter(ended_at__isnull=False)
            case _:
                return queryset


class SourceFilter(ExactFilter):
    """How an opt-out was made."""

    title = _("source")
    parameter_name = "source"
    options = OptOut.Source.choices


class SinceFilter(PeriodFilter):
    """When a contact opted out."""

    title = _("since")
    time_field = "since"
