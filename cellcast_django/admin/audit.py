"""Who did what: entries in Django's admin log, which its History pages show."""

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import override


def log_about(request: HttpRequest, obj: Model, message: str) -> None:
    """Record that this person did something with this row."""
    _log(request, type(obj), message, object_id=obj.pk, object_repr=str(obj)[:200])


def log_about_list(request: HttpRequest, model: type[Model], message: str) -> None:
    """Record that this person did something with too many rows to name."""
    with override("en"):  # people of any language read the log
        name = str(model._meta.verbose_name_plural)
    _log(request, model, message, object_repr=name)


def _log(request: HttpRequest, model: type[Model], message: str, **values: Any) -> None:
    user: Any = request.user
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
        action_flag=CHANGE,
        change_message=message,
        **values,
    )
