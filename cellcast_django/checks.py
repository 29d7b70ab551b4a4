"""System checks: what may be wrong with the settings or the deployment, and what to do.

None shows a password, and none opens a database but the one that ``migrate`` asks.
"""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from inspect import iscoroutinefunction, signature
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning as Notice, register
from django.db import connections
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from cellcast_django.api import why_not
from cellcast_django.conf import LOOPBACK, PREFIX, RULES, SECRET, conf
from cellcast_django.database.vendors import VENDORS
from cellcast_django.directory import Directory
from cellcast_django.models import database_alias
from cellcast_django.receiving import tasks_package
from cellcast_django.webhooks import WEBHOOKS, Webhook

TAG = "cellcast_django"

Messages = Iterator[CheckMessage]
Function = Callable[..., Messages]


class Check(NamedTuple):
    """One check, and the subject by which the setup page shows it."""

    function: Function
    subject: Promise
    deploy: bool
    """Whether it runs with ``--deploy`` alone."""


CHECKS: list[Check] = []


def check(subject: Promise, *tags: str, deploy: bool = False) -> Callable[[Function], Function]:
    """Register a check with Django and for the setup page, which shows a subject once."""

    def decorate(function: Function) -> Function:
        CHECKS.append(Check(function, subject, deploy))
        register(function, TAG, *tags, deploy=deploy)
        return function

    return decorate


@check(_("Settings"))
def check_settings(**_: Any) -> Messages:
    """A value must fit its setting; under a wrong name it has no effect."""
    for name, rule in RULES.items():
        if hasattr(settings, name) and not rule.fits(getattr(settings, name)):
            yield Error(
                f"{name} cannot be used as it is.",
                hint=f"Write {rule.how}, or remove the setting to use its default.",
                id="cellcast_django.E001",
            )
    names = {name for name in dir(settings) if name.startswith(PREFIX)}
    for name in sorted(names - RULES.keys()):
        for similar in get_close_matches(name, RULES, n=1, cutoff=0.85):
            yield Notice(
                f"{name} is not a setting of this app, so it has no effect.",
                hint=f"Did you mean {similar}?",
                id="cellcast_django.W006",
            )


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
PASTED = re.compile(r"""(["'`]).*\1|\[.*\]|CELLCAST_\w+\s*=.*|.*:.*[,;\s][^\s,;:]+:[^\s,;:].*""")
"""A secret with more of the file that it stands in: quotes, its setting's name, the next secret."""


@check(_("Username and password"))
def check_secrets(**_: Any) -> Messages:
    """Each secret must be well-formed, and its password hard to guess."""
    value = getattr(settings, "CELLCAST_WEBHOOK_SECRETS", [])
    entries = value if isinstance(value, (list, tuple)) else ()  # which ``check_settings`` reports
    for position, entry in enumerate(entries, start=1):
        where = f"Entry {position} of CELLCAST_WEBHOOK_SECRETS"
        if not SECRET.fits(entry) or any(part != part.strip() for part in entry.split(":", 1)):
            yield Error(
                f"{where} is malformed, so it is ignored.",
                hint='It must be a string "username:password", with both parts present, no '
                "surrounding white space and no line breaks.",
                id="cellcast_django.E002",
            )
        elif PASTED.fullmatch(entry):
            yield Notice(
                f"{where} has quotes, brackets, its own name or another secret in it, so it is "
                "wrong.",
                hint="Write username:password alone: Docker's --env-file keeps quotes, and "
                ".split() wants white space between secrets.",
                id="cellcast_django.W002",
            )
        elif entry.lower() in SAMPLES or re.fullmatch(r".*:<.*>", entry):
            yield Error(
                f"{where} is a sample from the documentation, which anybody can read.",
                hint="Use your own, such as the one that cellcast_setup prints.",
                id="cellcast_django.E003",
            )
        elif _is_weak(*entry.split(":", 1)):
            yield Notice(
                f"{where} has a weak password.",
                hint=f"Use at least {MIN_PASSWORD_LENGTH} random characters, not the username; "
                "cellcast_setup generates such a password.",
                id="cellcast_django.W001",
            )


def _is_weak(username: str, password: str) -> bool:
    return (
        len(password) < MIN_PASSWORD_LENGTH
        or len(set(password)) < MIN_DISTINCT_CHARACTERS
        or password.lower() == username.lower()
    )


@check(_("Username and password"), deploy=True)
def check_secrets_for_deployment(**_: Any) -> Messages:
    """A deployed site without a secret loses everything that Cellcast sends."""
    if getattr(settings, "CELLCAST_WEBHOOK_SECRETS", []) in ([], ()):
        yield Error(
            "CELLCAST_WEBHOOK_SECRETS is empty, so a deployed site refuses every webhook.",
            hint="Add a secret, such as the one that cellcast_setup prints.",
            id="cellcast_django.E004",
        )


@check(_("Handlers"))
def check_task_backend(**_: Any) -> Messages:
    """Running handlers on a queue needs a Tasks backend that accepts them."""
    if conf.run_handlers == "inline":
        return
    if problem := _problem_of_backend(tasks_package(), conf.run_handlers):
        yield Error(
            f"CELLCAST_RUN_HANDLERS names no Tasks backend that can be used: {problem}.",
            hint='Name one of TASKS by its alias. On Django 5.2 install "cellcast-django[tasks]".',
            id="cellcast_django.E005",
        )


def _problem_of_backend(package: Any, alias: str) -> str:
    if package is None:
        return "this Django has no Tasks"
    try:
        queues = package.task_backends[alias].queues
    except Exception as error:  # whatever the backend's own code raises
        return f"{type(error).__name__}: {error}".rstrip(".")
    return 'it has no queue "default"' if queues and "default" not in queues else ""


@check(_("Names and answers"))
def check_callables(**_: Any) -> Messages:
    """What a dotted path names must be importable, and be called as we call it."""
    for name, path, problem_of in (
        ("CELLCAST_SEND_WITH", conf.send_with, _problem_of_sending),
        ("CELLCAST_DIRECTORY", conf.directory, _problem_of_directory),
    ):
        if path and (problem := _problem_of(path, problem_of)):
            yield Error(
                f"What {name} names cannot be used: it {problem}.",
                hint='Write the dotted path of your own, such as "shop.sms.send_sms" or '
                '"shop.names.Customers", or remove the setting.',
                id="cellcast_django.E006",
            )


def _problem_of(path: str, problem_of: Callable[[Any], str]) -> str:
    try:
        return problem_of(import_string(path))
    except Exception as error:  # the host's module may raise anything
        return f"cannot be imported: {type(error).__qualname__}: {error}"


def _problem_of_sending(value: Any) -> str:
    return _problem_of_call(value, "receiver", "body", "sender", reference="")


def _problem_of_directory(value: Any) -> str:
    if not isinstance(value, type):
        return "is no class"
    for name in [each for each in vars(Directory) if not each.startswith("_")]:
        method = getattr(value, name, None)  # it may lack any of them
        if method is not None and (problem := _problem_of_call(method, "self", "its argument")):
            return f"has a method {name} that {problem}"
    return _problem_of_call(value)  # an object is made without arguments


def _problem_of_call(value: Any, *arguments: str, **named: str) -> str:
    if not callable(value):
        return "is not callable"
    if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
        return "is asynchronous"
    try:
        signature(value).bind(*arguments, **named)
    except TypeError:
        return f"does not take {', '.join((*arguments, *named)) or 'nothing'}"
    except ValueError:  # one written in C does not say what it takes
        pass
    return ""


@check(_("Cellcast’s API"))
def check_api(**_: Any) -> Messages:
    """What sends by the API needs its key."""
    if conf.send_with == "cellcast_django.api.send_sms" and (reason := why_not()):
        yield Error(
            f"CELLCAST_SEND_WITH names send_sms, which sends nothing: {reason}",
            hint="Set CELLCAST_API_KEY, and install the extra. To send nothing on purpose, name "
            '"cellcast_django.testing.pretend_to_send" instead.',
            id="cellcast_django.E008",
        )


@check(_("Cellcast’s API"), deploy=True)
def check_sending_for_deployment(**_: Any) -> Messages:
    """A deployed site that pretends to send, or asks the simulator, looks as if all were well."""
    if conf.send_with == "cellcast_django.testing.pretend_to_send":
        yield Error(
            "CELLCAST_SEND_WITH names pretend_to_send, so a deployed site sends no SMS.",
            hint='Name "cellcast_django.api.send_sms", or a function of your own.',
            id="cellcast_django.E009",
        )
    if LOOPBACK.fullmatch(conf.api_url):
        yield Notice(
            "CELLCAST_API_URL is on this machine, where cellcast_simulate or a proxy answers.",
            hint="Remove the setting, unless a proxy of yours leads from there to Cellcast.",
            id="cellcast_django.W015",
        )


@check(_("Time"))
def check_time_zone(**_: Any) -> Messages:
    """Times without a zone are ambiguous for an hour each year."""
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False, but this app stores and compares times with a time zone.",
            hint="Set USE_TZ = True, Django's default.",
            id="cellcast_django.E007",
        )


@check(_("Webhook URLs"))
def check_urls(**_: Any) -> Messages:
    """The webhook views must be in the project's URLs, and be found at their own."""
    for webhook in WEBHOOKS:
        path = _path_of(webhook)
        if not path:
            yield Notice(
                "The webhook URLs are not in ROOT_URLCONF, so no webhook can arrive.",
                hint='Add path("sms/", include("cellcast_django.urls")) to urlpatterns.',
                id="cellcast_django.W003",
            )
            return
        if not _leads_to(path, webhook):
            yield Notice(
                f"Another view stands before the {webhook.label} and gets its webhooks: {path}.",
                hint='Move include("cellcast_django.urls") to the top of urlpatterns.',
                id="cellcast_django.W004",
            )


def _path_of(webhook: Webhook) -> str:
    """Return the path of a webhook URL; empty if it is not in the project's URLs."""
    if not getattr(settings, "ROOT_URLCONF", ""):
        return ""
    try:
        return webhook.path()
    except NoReverseMatch:
        return ""


def _leads_to(path: str, webhook: Webhook) -> bool:
    """Whether a request for the path gets to our view, or to a host's own made of it."""
    try:
        view = resolve(f"/{path.removeprefix(get_script_prefix())}").func
    except Resolver404:  # a URLconf that only a middleware of the host can choose
        return True
    return getattr(view, "view_initkwargs", {}).get("endpoint") == webhook.endpoint


@check(_("Encryption"), deploy=True)
def check_https(**_: Any) -> Messages:
    """HTTP Basic sends the password in clear; and a redirect drops the body of a POST."""
    scheme = urlsplit(conf.public_url).scheme
    mentions_https = (
        settings.SECURE_SSL_REDIRECT
        or settings.SECURE_PROXY_SSL_HEADER
        or settings.SECURE_HSTS_SECONDS
    )
    is_plain = scheme == "http" if scheme else not mentions_https
    if is_plain:
        yield Notice(
            "No setting shows that the site uses HTTPS. Over plain HTTP, anyone on the network "
            "can read the password and the messages.",
            hint='Serve the site over HTTPS and set CELLCAST_PUBLIC_URL = "https://…".',
            id="cellcast_django.W007",
        )
    path = _path_of(WEBHOOKS[0]).lstrip("/")  # the others are beside it
    if (
        scheme == "http"
        and settings.SECURE_SSL_REDIRECT
        and "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE
        and not any(re.search(pattern, path) for pattern in settings.SECURE_REDIRECT_EXEMPT)
    ):
        yield Notice(
            "SECURE_SSL_REDIRECT redirects webhooks to https://, and a redirect loses them.",
            hint='Set CELLCAST_PUBLIC_URL = "https://…" and paste the https:// URLs into '
            "Cellcast's dashboard.",
            id="cellcast_django.W008",
        )


@check(_("Database"), Tags.database)
def check_vendor(*, databases: Any = None, **_: Any) -> Messages:
    """MySQL lacks the collations of the columns. Django asks this of ``migrate``'s databases."""
    connection = connections[database_alias()]
    is_asked = connection.alias in (databases or ()) and connection.vendor == "mysql"
    if is_asked and not connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        yield Error(
            "The app's database is MySQL, where its tables cannot be made.",
            hint="Use MariaDB, PostgreSQL or SQLite; a router can keep the app's tables there.",
            id="cellcast_django.E010",
        )


@check(_("Database"), deploy=True)
def check_database_options(**_: Any) -> Messages:
    """They must not slow webhooks down or lose them."""
    connection = connections[database_alias()]
    is_embedded, options = VENDORS[connection.vendor].is_embedded, connection.settings_dict
    driver: dict[str, Any] = options["OPTIONS"]
    text = str(driver).lower().replace(" ", "")
    if options["CONN_MAX_AGE"] == 0 and not driver.get("pool"):
        yield Notice(
            "Every webhook opens a new database connection: slower than storing the webhook.",
            hint='In DATABASES, set "CONN_MAX_AGE": 60, and "CONN_HEALTH_CHECKS": True.',
            id="cellcast_django.W009",
        )
    if is_embedded and ("journal_mode=wal" not in text or "immediate" not in text):
        yield Notice(
            'With these options, handlers get "database is locked" from SQLite under load.',
            hint='In DATABASES, set "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5, '
            '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"}.',
            id="cellcast_django.W010",
        )
    if not is_embedded and "connect_timeout" not in driver:
        yield Notice(
            "When the database's host does not respond, a webhook waits for minutes.",
            hint='In DATABASES, set "OPTIONS": {"connect_timeout": 2}.',
            id="cellcast_django.W012",
        )
    if re.search("synchronous(_commit)?='?(off|0)", text):
        yield Notice(
            "If the database's host crashes, webhooks already acknowledged with 200 are lost.",
            hint="In DATABASES, remove the option that turns off synchronous commits.",
            id="cellcast_django.W014",
        )
