"""The fields of a detail page, whose times name their zone like all others on the pages."""

from collections.abc import Callable
from typing import Any

from django.contrib.admin import display
from django.db.models import DateTimeField, Model
from django.utils.safestring import SafeString

from cellcast_django.admin.display.texts import exact_seconds

Fieldsets = list[tuple[Any, dict[str, Any]]]


def with_zones(fieldsets: Any, model: type[Model], empty: str) -> Fieldsets:
    """Replace each time in the fieldsets: Django would show it without its zone.

    ``empty`` stands for a missing time.
    """
    times = {
        field.name: exact_field(field, empty)
        for field in model._meta.get_fields()
        if isinstance(field, DateTimeField)
    }

    def replaced(field: Any) -> Any:
        if isinstance(field, (list, tuple)):
            return [replaced(each) for each in field]
        return times.get(field, field)

    return [
        (name, options | {"fields": replaced(options["fields"])}) for name, options in fieldsets
    ]


def exact_field(field: "DateTimeField[Any, Any]", empty: str) -> Callable[[Any], SafeString | str]:
    """Return a display function under the field's own name, label and help text."""

    def shown(row: Any) -> SafeString | str:
        time = getattr(row, field.name)
        return exact_seconds(time) if time else empty

    shown.__name__ = field.name
    return display(description=field.verbose_name)(shown)
