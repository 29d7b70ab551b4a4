"""The pages beside the changelists: overview, figures, setup, *To answer*, conversations.

``registry`` adds the app's own to the admin site and finds them again for links; ``confirmation``
asks before an action on events.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise

from cellcast_django.admin.lists.read_only import ReadOnlyAdmin


class Page(ABC):
    """One of the app's own pages, as one person sees it on one site."""

    name: ClassVar[str]
    """Of its URL and of its template."""
    title: ClassVar[Promise]

    def __init__(self, page_admin: ReadOnlyAdmin, request: HttpRequest) -> None:
        self.admin = page_admin
        self.request = request

    @property
    @abstractmethod
    def is_allowed(self) -> bool:
        """Whether this person may open it."""

    @abstractmethod
    def details(self) -> dict[str, Any] | HttpResponse:
        """Return what the template shows, or the file that was asked for."""
