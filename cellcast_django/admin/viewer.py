"""One person on one admin site: what they may see and do there, and what the log says of it."""

from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html

from cellcast_django.admin.customers import HostDirectory
from cellcast_django.models import database_alias, username_of


class Viewer:
    """Who sends a request to a site: ``of`` returns one for each request, which looks up once.

    Rows and pages are those of the site's own classes.
    """

    @classmethod
    def of(cls, site: AdminSite, request: HttpRequest) -> "Viewer":
        viewers: dict[AdminSite, Viewer] = vars(request).setdefault("cellcast_viewers", {})
        return viewers.setdefault(site, cls(site, request))

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self.site = site
        self.request = request
        self._viewable: dict[type[Model], bool] = {}

    @property
    def username(self) -> str:
        """Who it is, as it is stored."""
        return username_of(self.request.user.get_username())

    @cached_property
    def directory(self) -> HostDirectory:
        """What the host project knows of customers."""
        return HostDirectory()

    def may(self, permission: str) -> bool:
        """Whether this person has a permission of the app, such as ``handle_message``."""
        return bool(self.request.user.has_perm(f"cellcast_django.{permission}"))

    def may_view(self, model: type[Model]) -> bool:
        """Whether the site has pages of this model, and this person may open them."""
        if model not in self._viewable:  # a host project's class may ask a database
            self._viewable[model] = self.site.is_registered(model) and self.site.get_model_admin(
                model
            ).has_view_permission(self.request)
        return self._viewable[model]

    def rows(self, model: type[Model]) -> QuerySet[Any]:
        """Return the rows of a model that this site shows to this person."""
        return self.site.get_model_admin(model).get_queryset(self.request)

    def latest_rows(self, model: type[Model]) -> Any:
        """Return the same as they are now: a replica may not have the last click, or an answer."""
        return self.rows(model).using(database_alias())

    def is_restricted(self, model: type[Model]) -> bool:
        """Whether the host project's own class hides some rows of a model."""
        return self.site.is_registered(model) and bool(self.rows(model).query.where)

    def hidden(self, model: type[Model], keys: set[int]) -> set[int]:
        """Return those of the keys whose rows the host project's own class hides."""
        if not keys or not self.is_restricted(model):
            return set()
        return keys.difference(self.rows(model).filter(pk__in=keys).values_list("pk", flat=True))

    def url(self, model: type[Model], page: str, *arguments: Any) -> str:
        options = self.site.get_model_admin(model).opts
        name = f"admin:{options.app_label}_{options.model_name}_{page}"
        return reverse(name, args=arguments, current_app=self.site.name)

    def link(self, obj: Model, text: str) -> str:
        """Return ``text`` as a link to a row, for those who may view its model."""
        if not self.may_view(type(obj)):
            return text
        return format_html('<a href="{}">{}</a>', self.url(type(obj), "change", obj.pk), text)

    def tell(self, sentence: str, level: int = messages.SUCCESS) -> None:
        """Show a sentence on the next page."""
        messages.add_message(self.request, level, sentence)

    def log(self, obj: Model, message: str) -> None:
        """Record in the admin's log what was done with one row."""
        self.site.get_model_admin(type(obj)).log_change(self.request, obj, message)

    def log_list(self, model: type[Model], message: str) -> None:
        """Record in the admin's log what was done with too many rows to name each."""
        user: Any = self.request.user
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
            action_flag=CHANGE,
            change_message=message,
            object_repr=str(model._meta.verbose_name_plural),
        )
