"""The setup page: webhook settings to paste, results of the system checks, and Test Send."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings
from django.core.checks import ERROR, WARNING, CheckMessage
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _, ngettext, override

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.admin.display.shown import Content
from cellcast_django.admin.display.texts import counted
from cellcast_django.checks import CHECKS
from cellcast_django.conf import BASE_URL, conf
from cellcast_django.desk.page import DeskPage
from cellcast_django.diagnostics.diagnosis import diagnose
from cellcast_django.diagnostics.test_send import (
    delete_tests,
    post_as_cellcast,
    would_opt_out,
)
from cellcast_django.models import WebhookEvent
from cellcast_django.webhooks import WEBHOOKS, Webhook

TIMEOUT_SECONDS = 10


class CheckResult(NamedTuple):
    """The result of the checks on one subject."""

    badge: SafeString
    about: Promise
    messages: Sequence[CheckMessage]


def check_results() -> Iterator[CheckResult]:
    """Yield the result of each subject, including the checks for deployed sites."""
    for subject in dict.fromkeys(each.subject for each in CHECKS):
        found = (each.function() for each in CHECKS if each.subject == subject)
        messages = [each for each in chain.from_iterable(found) if not each.is_silenced()]
        yield CheckResult(_badge(messages), subject, messages)


def _badge(messages: list[CheckMessage]) -> SafeString:
    level = max((message.level for message in messages), default=0)
    if level >= ERROR:
        return badge(Tone.BAD, _("error"))
    if level >= WARNING:
        return badge(Tone.WARNING, _("warning"))
    return badge(Tone.QUIET, _("info")) if messages else badge(Tone.GOOD, _("OK"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The site's own webhook URLs, and the secret to call them with."""

    base_url: str
    urls: dict[str, str]
    """By slug, in the site's language; empty if the project's URLs do not include them."""
    secret: str = field(repr=False)
    """The first configured one; empty without any."""

    @classmethod
    def of_request(cls, request: HttpRequest) -> "Site":
        """Return the site from ``CELLCAST_PUBLIC_URL``, otherwise from the request."""
        base_url = conf.public_url or f"{request.scheme}://{request.get_host()}"
        urls: dict[str, str] = {}
        with suppress(NoReverseMatch), override(settings.LANGUAGE_CODE):
            webhooks = WEBHOOKS if BASE_URL.fits(base_url) else ()  # a Host header need not fit
            urls = {webhook.endpoint.slug: webhook.url(base_url) for webhook in webhooks}
        return cls(base_url=base_url, urls=urls, secret=next(iter(conf.webhook_secrets), ""))

    @property
    def takes_tests(self) -> bool:
        """Whether a test can be sent: without a setting, the request's Host may name another."""
        return bool(self.urls and self.secret and conf.public_url)


class Setup(DeskPage):
    """Webhook settings, checks, and the response to Test Send."""

    name = "setup"
    permissions = ("set_up_webhookevent",)
    title = _("Setup")
    template = "cellcast_desk/setup.html"

    def show(self) -> HttpResponse:
        """Show the page; a POST first sends its form as a test, or deletes what tests have left."""
        site, tested = Site.of_request(self.request), None
        if "delete_tests" in self.request.POST:
            self.delete_test_data()
        elif self.request.method == "POST" and site.takes_tests:
            tested = self.send_test(site)
        checks = list(check_results())
        content = Content(
            takes_tests=site.takes_tests,
            username=site.secret.partition(":")[0],
            problems=[each for each in checks if each.messages],
            passed=[each for each in checks if not each.messages],
            has_tests=WebhookEvent.objects.fresh().filter(is_test=True).exists(),
            urls=[self.url_form(webhook, site) for webhook in WEBHOOKS],
            tested=tested,
        )
        return self.render(content)

    def url_form(self, webhook: Webhook, site: Site) -> Content:
        """Return one URL: what goes into the dashboard, and the form that sends a test to it."""
        is_posted = self.request.POST.get("endpoint") == webhook.endpoint
        example = json.dumps(webhook.example, indent=2)
        return Content(
            endpoint=webhook.endpoint,
            url=site.urls.get(webhook.endpoint.slug),
            body=self.request.POST.get("body", "") if is_posted else example,
            handlers=webhook.handlers(),
        )

    def send_test(self, site: Site) -> Content:
        """Send the form's body as Cellcast would; return the response and what it means.

        Raises ``BadRequest`` for a form that is not from this page.
        """
        asked = self.request.POST.get("endpoint")
        webhook = next((each for each in WEBHOOKS if each.endpoint == asked), None)
        if webhook is None:
            raise BadRequest("There is no such webhook URL.")
        body = self.request.POST.get("body", "").encode()
        self.viewer.log_list(WebhookEvent, f"Sent a test to the {webhook.label}.")
        response = post_as_cellcast(
            site.urls[webhook.endpoint.slug], body, site.secret, TIMEOUT_SECONDS
        )
        events = response.events if response.is_accepted else []
        # Elsewhere than here, the same keys may be those of other events.
        is_here = site.base_url == f"{self.request.scheme}://{self.request.get_host()}"
        may_view = is_here and self.viewer.may_view(WebhookEvent)
        return Content(
            endpoint=webhook.endpoint,
            response=response,
            diagnosis=diagnose(response),
            events=[self.tested_event(each, may_view=may_view) for each in events],
            would_opt_out=would_opt_out(webhook, body, response),  # no test does
        )

    def tested_event(self, event: Any, *, may_view: bool) -> Content:
        """Return what has become of an event that a test sent."""
        pk, outcome = event["id"], WebhookEvent.Outcome(event["outcome"])
        return Content(
            id=pk,
            badge=badge(Tone.OPEN if outcome == outcome.DEFERRED else Tone.GOOD, outcome.label),
            is_duplicate=outcome == outcome.DUPLICATE,
            url=self.viewer.url(WebhookEvent, "change", pk) if may_view else "",
        )

    def delete_test_data(self) -> None:
        removed = delete_tests()
        events = counted(removed.events, "event", "events")
        self.viewer.log_list(WebhookEvent, f"Deleted the test data: {events}.")
        sentence = ngettext(
            "%(count)d test event deleted.", "%(count)d test events deleted.", removed.events
        )
        self.viewer.tell(sentence % {"count": removed.events})
