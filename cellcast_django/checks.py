"""System checks: what is wrong with the settings, and what to do. None of them opens a database.

``manage.py check --tag cellcast_django --deploy`` runs these alone. No message shows a password.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import phonenumbers
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning as Notice, register
from django.core.exceptions import ImproperlyConfigured
from django.http.request import split_domain_port, validate_host
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext

from cellcast_django.conf import conf, is_credential

TAG = "cellcast_django"

MIN_PASSWORD_LENGTH = 16
MIN_DISTINCT_CHARACTERS = 6
SAMPLES = {
    "aladdin:open sesame",  # RFC 7617
    "cellcast:change-me",
    "cellcast:password",
    "user:pass",
    "user:password",
    "username:password",  # Cellcast's page and this app's documentation
}

Messages = Iterator[CheckMessage]


# Credentials


def check_credentials(**_: Any) -> Messages:
    """Somebody has to be let in, and only with a password that nobody guesses."""
    yield from _check_old_name()
    value = getattr(settings, "CELLCAST_WEBHOOK_SECRETS", [])
    if not isinstance(value, (list, tuple)):
        yield Error(
            gettext("CELLCAST_WEBHOOK_SECRETS is not a list, so every webhook is refused."),
            hint=gettext(
                'Write ["username:password"], with the brackets; from an environment '
                'variable, env.list(…) or .split(",").'
            ),
            id="cellcast_django.E001",
        )
        return
    if not value:
        yield Notice(
            gettext("CELLCAST_WEBHOOK_SECRETS is empty, so every webhook is refused."),
            hint=gettext('Put a credential into it; "manage.py cellcast_setup" makes one.'),
            id="cellcast_django.W001",
        )
    for position, entry in enumerate(value, start=1):
        where = gettext("Entry %(position)d of CELLCAST_WEBHOOK_SECRETS") % {"position": position}
        if not isinstance(entry, str) or _is_malformed(entry):
            yield Error(
                gettext("%(where)s is malformed and lets nobody in.") % {"where": where},
                hint=gettext(
                    'It must be a string "username:password": both parts present, no white '
                    "space at their ends, no line break."
                ),
                id="cellcast_django.E002",
            )
        else:
            yield from _check_well_formed_credential(where, entry)


def _check_old_name() -> Messages:
    """Django hides a setting by its name, and this one has no word such as SECRET or PASS."""
    if hasattr(settings, "CELLCAST_WEBHOOK_CREDENTIALS"):
        yield Error(
            gettext(
                "CELLCAST_WEBHOOK_CREDENTIALS is no longer read, and Django shows its value in "
                "error mails and on debug pages."
            ),
            hint=gettext("Rename it to CELLCAST_WEBHOOK_SECRETS."),
            id="cellcast_django.E014",
        )


def _is_malformed(entry: str) -> bool:
    username, _, password = entry.partition(":")
    is_padded = (username, password) != (username.strip(), password.strip())
    return not is_credential(entry) or is_padded


def _check_well_formed_credential(where: str, entry: str) -> Messages:
    username, _, password = entry.partition(":")
    if entry.lower() in SAMPLES or re.fullmatch(r"<.*>", password):
        yield Error(
            gettext("%(where)s is a sample from the documentation, which anybody can read.")
            % {"where": where},
            hint=gettext('Use one of your own instead; "manage.py cellcast_setup" makes one.'),
            id="cellcast_django.E003",
        )
    elif _is_weak(password, username):
        yield Notice(
            gettext("%(where)s has a weak password.") % {"where": where},
            hint=gettext(
                "Use at least %(number)s random characters that do not repeat the "
                'username; "manage.py cellcast_setup" makes such a password.'
            )
            % {"number": MIN_PASSWORD_LENGTH},
            id="cellcast_django.W002",
        )
    if not entry.isascii():
        yield Notice(
            gettext(
                "%(where)s has characters outside ASCII, which senders encode in different ways."
            )
            % {"where": where},
            hint=gettext(
                "Use letters and digits, or try it with Test Send in Cellcast's dashboard."
            ),
            id="cellcast_django.W003",
        )


def _is_weak(password: str, username: str) -> bool:
    return (
        len(password) < MIN_PASSWORD_LENGTH
        or len(set(password)) < MIN_DISTINCT_CHARACTERS
        or password.lower() == username.lower()
    )


def check_credentials_for_deployment(**_: Any) -> Messages:
    """A deployed site without a credential loses everything that Cellcast sends."""
    if not conf.webhook_secrets:
        yield Error(
            gettext(
                "No usable entry in CELLCAST_WEBHOOK_SECRETS: this site refuses every webhook."
            ),
            hint=gettext('Put a credential into it; "manage.py cellcast_setup" makes one.'),
            id="cellcast_django.E004",
        )


# The other settings


def check_default_region(**_: Any) -> Messages:
    """The region must be one that phonenumbers knows."""
    region: Any = conf.default_region
    if not isinstance(region, str) or region not in phonenumbers.SUPPORTED_REGIONS:
        yield Error(
            gettext("CELLCAST_DEFAULT_REGION is %(region)s, which is no region.")
            % {"region": repr(region)},
            hint=gettext('Use an ISO 3166 code of two capital letters, such as "AU" or "NZ".'),
            id="cellcast_django.E005",
        )


def check_numbers(**_: Any) -> Messages:
    """Sizes, seconds and counts must be whole and more than zero."""
    values: list[tuple[str, Any, str]] = [
        ("CELLCAST_MAX_BODY_BYTES", conf.max_body_bytes, "cellcast_django.E006"),
        ("CELLCAST_ANNOUNCE_LEASE", conf.announce_lease, "cellcast_django.E007"),
        ("CELLCAST_ANNOUNCE_MAX_ATTEMPTS", conf.announce_max_attempts, "cellcast_django.E008"),
    ]
    for name, value, message_id in values:
        if type(value) is not int or value < 1:  # True is an int too, hence not isinstance
            yield Error(
                gettext("%(name)s is %(value)s, which is no whole number above zero.")
                % {"name": name, "value": repr(value)},
                hint=gettext(
                    "Write a number without quotes, or remove the setting to have the default."
                ),
                id=message_id,
            )


def check_announce_via(**_: Any) -> Messages:
    """Handlers run inline or as a task."""
    if conf.announce_via not in ("inline", "task"):
        yield Error(
            gettext('CELLCAST_ANNOUNCE_VIA is %(value)s, neither "inline" nor "task".')
            % {"value": repr(conf.announce_via)},
            hint=gettext(
                'Use "inline" to run handlers before the answer, "task" to run them on a '
                "Tasks backend."
            ),
            id="cellcast_django.E009",
        )


BASE_URL = re.compile(r"(?i:https?)://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?/*")


def is_base_url(url: object) -> bool:
    """Whether this is http or https and a host, perhaps with a port, and nothing else."""
    return isinstance(url, str) and BASE_URL.fullmatch(url) is not None


def check_public_url(**_: Any) -> Messages:
    """The public URL must be one that paths can be put after, with a host that Django lets in."""
    url = getattr(settings, "CELLCAST_PUBLIC_URL", "")
    if url == "":
        return
    if not is_base_url(url):
        yield Error(
            gettext("CELLCAST_PUBLIC_URL is no base URL of a site."),
            hint=gettext(
                'Write scheme and host alone, such as "https://sms.example.com": no path, '
                "no query, no username."
            ),
            id="cellcast_django.E010",
        )
        return
    host, _port = split_domain_port(urlsplit(url).netloc.lower())
    allowed_hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed_hosts:  # what HttpRequest.get_host() allows then
        allowed_hosts = [".localhost", "127.0.0.1", "[::1]"]
    if not validate_host(host, allowed_hosts):
        yield Notice(
            gettext("The host of CELLCAST_PUBLIC_URL, %(host)s, is not in ALLOWED_HOSTS.")
            % {"host": host},
            hint=gettext('Add "%(host)s" to ALLOWED_HOSTS, or Django answers webhooks with 400.')
            % {"host": host},
            id="cellcast_django.W004",
        )


# Tasks


def task_backends() -> Any:
    """Return Django's Tasks backends, ``None`` where there are no Tasks: plain Django 5.2."""
    for package in ("django.tasks", "django_tasks"):
        if find_spec(package):
            return import_module(package).task_backends
    return None


def check_task_backend(**_: Any) -> Messages:
    """What is to be announced by a task needs a Tasks backend that takes it."""
    alias: Any = conf.task_backend
    if conf.announce_via != "task":
        return
    backends = task_backends()
    if backends is None:
        yield Error(
            gettext('CELLCAST_ANNOUNCE_VIA is "task", but this Django has no Tasks.'),
            hint=gettext('Install "cellcast-django[tasks]", or upgrade to Django 6.0.'),
            id="cellcast_django.E011",
        )
    elif not isinstance(alias, str) or alias not in backends.settings:
        yield Error(
            gettext("CELLCAST_TASK_BACKEND is %(alias)s, which TASKS does not have.")
            % {"alias": repr(alias)},
            hint=gettext("Add it to TASKS, or use one that is there: %(names)s.")
            % {"names": ", ".join(backends.settings)},
            id="cellcast_django.E012",
        )
    elif problem := _problem_of_backend(backends, alias):
        yield Error(
            gettext("The Tasks backend %(alias)s %(problem)s.")
            % {"alias": repr(alias), "problem": problem},
            hint=gettext("Correct it in TASKS, or name another in CELLCAST_TASK_BACKEND."),
            id="cellcast_django.E013",
        )


def _problem_of_backend(backends: Any, alias: str) -> str:
    try:
        queues = backends[alias].queues
    except (ImproperlyConfigured, KeyError, TypeError) as error:
        return gettext("cannot be used: %(error)s") % {"error": f"{type(error).__name__}: {error}"}
    return gettext('has no queue "default"') if queues and "default" not in queues else ""


def check_task_worker(**_: Any) -> Messages:
    """Django's own backends have no worker: they run a task at once, or never."""
    if conf.announce_via != "task" or any(check_task_backend()):
        return
    name = type(task_backends()[conf.task_backend]).__name__
    if name in ("ImmediateBackend", "DummyBackend"):
        is_immediate = name == "ImmediateBackend"
        when = gettext("before the answer") if is_immediate else gettext("by cellcast_announce")
        yield Notice(
            gettext(
                'CELLCAST_ANNOUNCE_VIA is "task", but with %(name)s handlers run only %(when)s.'
            )
            % {"name": name, "when": when},
            hint=gettext(
                "Configure a backend with a worker in TASKS, such as that of django-tasks-db."
            ),
            id="cellcast_django.W005",
        )


# The way to the views


def check_urls(**_: Any) -> Messages:
    """The webhook views need a place in the project's URLs."""
    if not _webhook_path():
        yield Notice(
            gettext("The webhook URLs are not in ROOT_URLCONF, so no webhook can come in."),
            hint=gettext('Add path("sms/", include("cellcast_django.urls")) to its urlpatterns.'),
            id="cellcast_django.W006",
        )


def _webhook_path() -> str:
    """Return the path of the Receive URL; empty where the project's URLs do not have it."""
    if not getattr(settings, "ROOT_URLCONF", ""):
        return ""
    try:
        return reverse("cellcast_django:webhook-receiver")
    except NoReverseMatch:
        return ""


def check_https(**_: Any) -> Messages:
    """HTTP Basic is the password in clear: it must travel encrypted."""
    scheme = urlsplit(conf.public_url).scheme if is_base_url(conf.public_url) else ""
    speaks_of_https = (
        settings.SECURE_SSL_REDIRECT
        or settings.SECURE_PROXY_SSL_HEADER
        or settings.SECURE_HSTS_SECONDS
    )
    if scheme != "https" and (scheme or not speaks_of_https):
        yield Notice(
            gettext(
                "Nothing says that webhooks come over HTTPS; over HTTP, anybody on the way "
                "reads the password and the messages."
            ),
            hint=gettext('Serve the site over HTTPS and set CELLCAST_PUBLIC_URL = "https://…".'),
            id="cellcast_django.W007",
        )


def check_redirects(**_: Any) -> Messages:
    """A redirect eats the body of a POST: the URL in the dashboard must be the final one."""
    url = urlsplit(conf.public_url if is_base_url(conf.public_url) else "")
    if url.scheme == "http" and _redirects_to_https():
        yield Notice(
            gettext(
                "SECURE_SSL_REDIRECT redirects webhooks to https://, and a redirect loses them."
            ),
            hint=gettext(
                'Set CELLCAST_PUBLIC_URL = "https://…" and paste the https:// URLs into '
                "Cellcast's dashboard."
            ),
            id="cellcast_django.W008",
        )
    if _redirects_to_www() and not (url.hostname or "").startswith("www."):
        yield Notice(
            gettext("PREPEND_WWW redirects webhooks to www., and a redirect loses them."),
            hint=gettext(
                'Set CELLCAST_PUBLIC_URL = "https://www.…" and paste the URLs with www. '
                "into Cellcast's dashboard."
            ),
            id="cellcast_django.W009",
        )


def _redirects_to_https() -> bool:
    path = _webhook_path().lstrip("/")
    return (
        settings.SECURE_SSL_REDIRECT
        and "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE
        and not any(re.search(pattern, path) for pattern in settings.SECURE_REDIRECT_EXEMPT)
    )


def _redirects_to_www() -> bool:
    return (
        settings.PREPEND_WWW and "django.middleware.common.CommonMiddleware" in settings.MIDDLEWARE
    )


def check_atomic_requests(**_: Any) -> Messages:
    """The webhook views are outside ``ATOMIC_REQUESTS``, which handlers may count on."""
    if any(options.get("ATOMIC_REQUESTS") for options in settings.DATABASES.values()):
        yield Info(
            gettext(
                "ATOMIC_REQUESTS does not hold for webhooks: they are committed before "
                "handlers run, and handlers run outside any transaction."
            ),
            hint=gettext("Open transaction.atomic() in each handler that writes more than once."),
            id="cellcast_django.I001",
        )


CHECKS = [
    check_credentials,
    check_default_region,
    check_numbers,
    check_announce_via,
    check_public_url,
    check_task_backend,
    check_urls,
]
DEPLOYMENT_CHECKS = [
    check_credentials_for_deployment,
    check_task_worker,
    check_https,
    check_redirects,
    check_atomic_requests,
]


def register_checks() -> None:
    """Tell Django of all checks."""
    for check in CHECKS:
        register(check, TAG)
    for check in DEPLOYMENT_CHECKS:
        register(check, TAG, deploy=True)
