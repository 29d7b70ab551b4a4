"""Everything stored about one contact as one JSON object: what pruning would find."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.apps import apps
from django.db.models import Exists, Model, OuterRef, QuerySet

from cellcast_django.contacts import to_contact
from cellcast_django.days import between
from cellcast_django.models import (
    Message,
    OptOut,
    OptOutChange,
    StatusChange,
    WebhookEvent,
    database_alias,
)
from cellcast_django.upkeep.retention import AboutContact, not_understood

KEYS_PER_QUERY = 500

INTERNAL: dict[type[Model], Collection[str]] = {
    WebhookEvent: {"received_as", "content_type", "error"},
    OptOutChange: {"received_as"},
}
"""What says how this site works: half of a secret, a table's name."""

RowsOf = Callable[[type[Model]], QuerySet[Any]]


def every_row(model: type[Model]) -> QuerySet[Any]:
    """Return all rows of a model, from the database that is written to."""
    return model._default_manager.using(database_alias())


@dataclass(frozen=True)
class ContactData:
    """What is stored about one contact, in the rows that ``rows`` gives for each model."""

    about: AboutContact
    rows: RowsOf = every_row
    has_log_entries: bool = True
    first: date | None = None
    """With ``last``: the days of the file, both included. The number may have been another's."""
    last: date | None = None

    def messages(self) -> QuerySet[Any]:
        return self._of_days(self.about.rows(self.rows(Message)), "created_at")

    def status_changes(self) -> QuerySet[Any]:
        messages = self.about.rows(self.rows(Message)).values("pk")
        changes = self.rows(StatusChange).filter(message__in=messages)
        return self._of_days(changes, "recorded_at")

    def events(self) -> list[QuerySet[Any]]:
        parts = self.about.events(self.rows(WebhookEvent))
        return [self._of_days(part, "received_at") for part in parts]

    def opt_outs(self) -> QuerySet[Any]:
        """Return the opt-out, if it began or ended in these days."""
        opt_outs = self.about.rows(self.rows(OptOut)).order_by("pk")
        if not (self.first or self.last):
            return opt_outs
        changes = OptOutChange.objects.using(opt_outs.db).filter(opt_out=OuterRef("pk"))
        return opt_outs.filter(Exists(self._of_days(changes, "at")))

    def not_understood(self) -> QuerySet[Any]:
        """Return the events of these days that are in nobody's file."""
        return self._of_days(not_understood(), "received_at")

    def is_empty(self) -> bool:
        parts = [self.messages(), self.status_changes(), *self.events(), self.opt_outs()]
        return not any(part.exists() for part in parts)

    def _of_days(self, rows: QuerySet[Any], field: str) -> QuerySet[Any]:
        narrowed: QuerySet[Any] = between(rows, field, self.first, self.last)
        return narrowed.order_by("pk")

    def as_json(self, *, ensure_ascii: bool = False) -> str:
        """Return the JSON object, if need be for an output of any encoding."""
        document = {
            "contact": to_contact(self.about.number.strip()),
            "messages": _as_dicts(self.messages()),
            "status_changes": _as_dicts(self.status_changes()),
            "events": _as_dicts(*self.events()),
            "opt_outs": [self._with_history(each) for each in self.opt_outs()],
            "log_entries": list(self._log_entries()) if self.has_log_entries else [],
        }
        return json.dumps(document, ensure_ascii=ensure_ascii, default=_written, indent=1) + "\n"

    def _with_history(self, opt_out: OptOut) -> dict[str, Any]:
        """Return the opt-out; if it has changed on other days too, only its changes on these."""
        row = _as_dict(opt_out)
        history = OptOutChange.objects.using(opt_out._state.db).filter(opt_out=opt_out)
        of_days = self._of_days(history, "at")
        if of_days.count() < history.count():
            row = {name: row[name] for name in ("id", "contact")}
        return row | {"history": _as_dicts(of_days)}

    def _log_entries(self) -> Iterator[dict[str, Any]]:
        """Yield what people did to these rows in the admin, if the site has one."""
        if not apps.is_installed("django.contrib.admin"):
            return
        entry: Any = apps.get_model("admin", "LogEntry")
        ours = entry.objects.filter(content_type__app_label=Message._meta.app_label)
        entries = self._of_days(ours, "action_time").select_related("user")
        for part in (self.messages(), *self.events(), self.opt_outs()):
            name = part.model._meta.model_name
            keys = [str(key) for key in part.values_list("pk", flat=True)]
            for start in range(0, len(keys), KEYS_PER_QUERY):
                some = keys[start : start + KEYS_PER_QUERY]
                for each in entries.filter(content_type__model=name, object_id__in=some):
                    yield {
                        "at": each.action_time,
                        "username": each.user.get_username(),
                        "model": name,
                        "object_id": each.object_id,
                        "action": each.get_change_message(),
                    }


def _as_dicts(*parts: QuerySet[Any]) -> list[dict[str, Any]]:
    return [_as_dict(row) for part in parts for row in part]


def _as_dict(row: Model) -> dict[str, Any]:
    """Return the columns without a message's digest, which is not editable, and ``INTERNAL``."""
    names = [field.attname for field in row._meta.concrete_fields if field.editable]
    internal = INTERNAL.get(type(row), ())
    return {name: getattr(row, name) for name in names if name not in internal}


def _written(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
