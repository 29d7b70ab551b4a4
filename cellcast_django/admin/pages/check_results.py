"""The app's system checks in plain words, with their results."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from django.core.checks import ERROR, WARNING, CheckMessage
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from cellcast_django.admin.display.badges import Tone, badge
from cellcast_django.diagnostics.checks import (
    api,
    callables,
    credentials,
    databases,
    stop_words,
    tasks,
    urls,
    values,
)

Check = Callable[[], Iterable[CheckMessage]]


class Result(NamedTuple):
    """The result of the checks on one subject."""

    badge: SafeString
    about: Promise
    all_clear: Promise
    """What is true if there are no messages."""
    messages: list[CheckMessage]


def check_results() -> Iterator[Result]:
    """Yield the result of each subject, including the checks for deployed sites."""
    for about, all_clear, functions in SUBJECTS:
        messages = [
            message for function in functions for message in function() if not message.is_silenced()
        ]
        yield Result(_badge(messages), about, all_clear, messages)


def _badge(messages: list[CheckMessage]) -> SafeString:
    level = max((message.level for message in messages), default=0)
    if level >= ERROR:
        return badge(Tone.BAD, _("error"))
    if level >= WARNING:
        return badge(Tone.WARNING, _("warning"))
    return badge(Tone.QUIET, _("info")) if messages else badge(Tone.GOOD, _("OK"))


SUBJECTS: list[tuple[Promise, Promise, list[Check]]] = [
    (
        _("Username and password"),
        _("Webhooks with the right username and password are accepted."),
        [credentials.check_credentials, credentials.check_credentials_for_deployment],
    ),
    (
        _("Webhook URLs"),
        _("The project's URLs include them."),
        [urls.check_urls],
    ),
    (
        _("Public URL"),
        _("CELLCAST_PUBLIC_URL is valid, or not set (Test Send is off)."),
        [values.check_public_url],
    ),
    (
        _("Encryption"),
        _("Webhooks arrive over HTTPS."),
        [urls.check_https],
    ),
    (
        _("Redirects"),
        _("Django does not redirect webhook requests."),
        [urls.check_redirects],
    ),
    (
        _("Handlers"),
        _("Handlers can run."),
        [values.check_run_handlers, tasks.check_task_backend, tasks.check_task_worker],
    ),
    (
        _("Transactions"),
        _("No conflict with ATOMIC_REQUESTS."),
        [databases.check_atomic_requests],
    ),
    (
        _("Database"),
        _("No option loses webhooks or slows them down."),
        [databases.check_connections],
    ),
    (
        _("Numbers without a country code"),
        _("CELLCAST_DEFAULT_REGION is a valid region."),
        [values.check_default_region],
    ),
    (
        _("Stop words"),
        _("No word in CELLCAST_STOP_WORDS is an everyday answer."),
        [stop_words.check_stop_words],
    ),
    (
        _("Names and replies"),
        _("CELLCAST_CONTACT_NAMES and CELLCAST_SEND_WITH can be imported, or are not set."),
        [callables.check_callables],
    ),
    (
        _("Limits"),
        _("The values are valid."),
        [values.check_numbers],
    ),
    (
        _("Cellcast’s API"),
        _("The key and the URL are valid, or no key is set (recovery is off)."),
        [api.check_api_key, api.check_api_url],
    ),
]
