"""What another app adds to the admin's pages, site by site: the desk, for one.

It is looked up when a page is shown. So it does not matter which is registered first, and every
class that inherits from one of ours has it.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

from django.contrib.admin import AdminSite, ListFilter
from django.db.models import Model
from django.utils.functional import Promise
from django.utils.translation import gettext

from cellcast_django.admin.page import Page
from cellcast_django.admin.viewer import Viewer
from cellcast_django.models import Message

CUSTOMER_OF = "customer_of"  # names a message: the list shows all with its customer


class Link(NamedTuple):
    """Where something leads, and what it is called."""

    url: str
    title: str | Promise
    name: str = ""


class Panel(NamedTuple):
    """A part of one of our pages that another app brings."""

    place: str
    """Of a message's page: ``summary`` or ``end``. Of an empty list: ``empty``."""
    template: str
    shows: object
    """What the template knows as ``panel``."""


class Extension:
    """A site without the desk."""

    pages: ClassVar[Sequence[type[Page]]] = ()
    css: ClassVar[Sequence[str]] = ()

    def actions(self, viewer: Viewer, model: type[Model]) -> Sequence[Callable[..., Any]]:
        """Return what this person can do with the rows of a model's list."""
        return ()

    def filters(self, model: type[Model]) -> Sequence[type[ListFilter]]:
        """Return the filters to add to a model's list."""
        return ()

    def columns(self, viewer: Viewer, model: type[Model]) -> Sequence[Callable[[Any], Any]]:
        """Return the columns to add at the end of a model's list."""
        return ()

    def panels_of_message(self, viewer: Viewer, message: Message) -> Sequence[Panel]:
        """Return the panels of a message's page: a link to all messages with its customer."""
        if not message.contact:
            return ()
        url = f"{viewer.url(Message, 'changelist')}?{CUSTOMER_OF}={message.pk}"
        others = Link(url, gettext("All messages with this customer"))
        return [Panel("summary", "admin/cellcast_django/others.html", others)]

    def panels_of_empty_list(self, viewer: Viewer) -> Sequence[Panel]:
        return ()

    def links(self, viewer: Viewer) -> Sequence[Link]:
        """Return the links to add to every list."""
        return ()

    def contact_link(self, viewer: Viewer, message: int) -> Link:
        """Return where a contact leads to; the key is that of one of their messages."""
        return Link(viewer.url(Message, "change", message), gettext("View message"))

    def url_after_opt_out(self, viewer: Viewer, message: Message) -> str:
        """Return where the form that was opened from a message leads back to."""
        return self.contact_link(viewer, message.pk).url


_extensions: "WeakKeyDictionary[AdminSite, Extension]" = WeakKeyDictionary()


def extend(site: AdminSite, extension: Extension) -> None:
    """Give an extension to a site, in place of the one that it has."""
    _extensions[site] = extension


def extension_of(site: AdminSite) -> Extension:
    """Return the extension of a site; without one, what adds nothing."""
    return _extensions.get(site) or Extension()
