"""A page beside those that Django's admin has: an address, who may open it, and what it shows."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext

from cellcast_django.admin.viewer import Viewer
from cellcast_django.database.transactions import outside_atomic_requests
from cellcast_django.error_reports import hides_variables
from cellcast_django.models import WebhookEvent

P = ParamSpec("P")
T = TypeVar("T")
View = Callable[..., HttpResponseBase]

MAX_SECONDS = 20  # an action starts nothing later: a person and a web worker are waiting


def guarded(view: View) -> View:
    """Wrap a view: what it is given is in no error report, and what it stores commits at once.

    Outside a host project's ``ATOMIC_REQUESTS``, since what an action stores must be committed
    before handlers run, and the setup page waits for another request, which could wait for a lock
    held by this one.
    """

    @wraps(view)
    def hidden(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = _hides_form(request, view)(request, *args, **kwargs)
        if request.method == "POST" and not request.user.is_authenticated:  # now at the login page
            words = gettext("You had been logged out, so nothing was done. Please do it again.")
            messages.warning(request, words)
        if isinstance(response, SimpleTemplateResponse):  # Django lays it out later
            response.render = _hides_form(request, response.render)  # type: ignore[method-assign]
        return response

    return outside_atomic_requests(hidden)


def _hides_form(request: HttpRequest, function: Callable[P, T]) -> Callable[P, T]:
    """Wrap a function so that reports of its exceptions have neither variables nor the form.

    Error trackers report what was posted, and know nothing of ``sensitive_post_parameters``.
    """

    @hides_variables
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException:
            request.POST = QueryDict()
            raise

    return wrapper


class Page:
    """One page, as one person sees it on one site."""

    name: ClassVar[str]
    """Ends the name of its URL: ``admin:cellcast_django_overview``, ``…_message_to_answer``."""
    route: ClassVar[str] = ""
    """Where it is; by default, its name."""
    model: ClassVar[type[Model] | None] = None
    """Below whose list it is; ``None`` for a page of the app as a whole."""
    permissions: ClassVar[tuple[str, ...]] = ()
    """What it takes besides viewing the model's rows."""
    title: ClassVar[str | Promise] = ""
    template: ClassVar[str] = ""
    only_takes_forms: ClassVar[bool] = False
    show: Callable[..., HttpResponseBase]
    """Returns the response; its parameters are those of the route."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.request = viewer.request

    @property
    def is_allowed(self) -> bool:
        may_view = self.model is None or self.viewer.may_view(self.model)
        return may_view and all(map(self.viewer.may, self.permissions))

    def render(self, shown: object, *, title: object = None, **more: object) -> HttpResponse:
        """Lay out what is shown, which the template knows as ``page``."""
        site, model = self.viewer.site, self.model or WebhookEvent  # any names the app
        self.request.current_app = site.name
        context = {
            **site.each_context(self.request),
            "opts": model._meta,
            "has_list": self.model is not None,
            "title": self.title if title is None else title,
            "page": shown,
            **more,
        }
        return TemplateResponse(self.request, f"admin/{self.template}", context)

    def turn_away(self, words: str, level: int) -> HttpResponse:
        """Lead to the site's front page, and say there why this one is not shown."""
        self.viewer.tell(words, level)
        return HttpResponseRedirect(reverse("admin:index", current_app=self.viewer.site.name))

    @classmethod
    def url_name(cls) -> str:
        below = f"{cls.model._meta.model_name}_" if cls.model else ""
        return f"cellcast_django_{below}{cls.name}"

    @classmethod
    def url(cls, viewer: Viewer, *arguments: Any) -> str:
        return reverse(f"admin:{cls.url_name()}", args=arguments, current_app=viewer.site.name)

    @classmethod
    def pattern(cls, site: AdminSite) -> URLPattern:
        def view(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
            page = cls(Viewer.of(site, request))
            if not page.is_allowed:
                raise PermissionDenied
            if cls.only_takes_forms and request.method != "POST":  # a login leads here by GET
                return HttpResponseRedirect(reverse("admin:index", current_app=site.name))
            return page.show(**arguments)

        wrapped = guarded(site.admin_view(view))
        return path(cls.route or f"{cls.name}/", wrapped, name=cls.url_name())
