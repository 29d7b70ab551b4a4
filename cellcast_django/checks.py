"""System checks: what may be wrong with the settings or the deployment, and what to do.

``manage.py check --tag cellcast_django --deploy`` runs them, and the setup page shows them by
subject. They are in English, like Django's own. None opens a database or shows a password.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cached_property
from inspect import iscoroutinefunction, signature
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import phonenumbers
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning as Notice, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http.request import split_domain_port, validate_host
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from cellcast_django.api import why_not
from cellcast_django.conf import DEFAULT_API_URL, Settings, conf, is_secret
from cellcast_django.database.transactions import BUDGET_SECONDS
from cellcast_django.database.vendors import vendor_of
from cellcast_django.models import database_alias
from cellcast_django.payloads import letters_and_digits
from cellcast_django.receiving import tasks_package
from cellcast_django.webhooks import WEBHOOKS, Webhook

TAG = "cellcast_django"
PREFIX = "CELLCAST_"

Messages = Iterator[CheckMessage]
Function = Callable[..., Messages]


class Check(NamedTuple):
    """One check, and the subject by which the setup page shows it."""

    function: Function
    subject: Promise
    deploy: bool
    """Whether it runs with ``--deploy`` alone."""


CHECKS: list[Check] = []


def check(subject: Promise, *, deploy: bool = False) -> Callable[[Function], Function]:
    """Register a check with Django and for the setup page, which shows a subject once."""

    def decorate(function: Function) -> Function:
        CHECKS.append(Check(function, subject, deploy))
        register(function, TAG, deploy=deploy)
        return function

    return decorate


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
    """There must be a secret, and its password must be hard to guess."""
    value = getattr(settings, "CELLCAST_WEBHOOK_SECRETS", [])
    if not isinstance(value, (list, tuple)):
        yield Error(
            "CELLCAST_WEBHOOK_SECRETS is not a list, so every webhook is refused.",
            hint='Write ["username:password"], with the brackets, or split an environment variable '
            "with .split().",
            id="cellcast_django.E001",
        )
        return
    if not value and "--deploy" not in sys.argv:  # which reports it as E004
        yield Notice(
            "CELLCAST_WEBHOOK_SECRETS is empty, so every webhook is refused.",
            hint="Add a secret, such as the one that cellcast_setup prints.",
            id="cellcast_django.W001",
        )
    for position, entry in enumerate(value, start=1):
        where = f"Entry {position} of CELLCAST_WEBHOOK_SECRETS"
        if not is_secret(entry) or any(part != part.strip() for part in entry.split(":", 1)):
            yield Error(
                f"{where} is malformed, so it is ignored.",
                hint='It must be a string "username:password", with both parts present, no '
                "surrounding white space and no line breaks.",
                id="cellcast_django.E002",
            )
        else:
            yield from _check_well_formed_secret(where, entry)


def _check_well_formed_secret(where: str, entry: str) -> Messages:
    username, _, password = entry.partition(":")
    if PASTED.fullmatch(entry):
        yield Notice(
            f"{where} has quotes, brackets, its own name or another secret in it, so it is wrong.",
            hint="Write username:password alone: Docker's --env-file keeps quotes, and .split() "
            "wants white space between secrets.",
            id="cellcast_django.W021",
        )
    elif entry.lower() in SAMPLES or re.fullmatch(r"<.*>", password):
        yield Error(
            f"{where} is a sample from the documentation, which anybody can read.",
            hint="Use your own, such as the one that cellcast_setup prints.",
            id="cellcast_django.E003",
        )
    elif (
        len(password) < MIN_PASSWORD_LENGTH
        or len(set(password)) < MIN_DISTINCT_CHARACTERS
        or password.lower() == username.lower()
    ):
        yield Notice(
            f"{where} has a weak password.",
            hint=f"Use at least {MIN_PASSWORD_LENGTH} random characters, not the username; "
            "cellcast_setup generates such a password.",
            id="cellcast_django.W002",
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


@check(_("Webhook URLs"))
def check_urls(**_: Any) -> Messages:
    """The webhook views must be in the project's URLs, and be found at their own."""
    for webhook in WEBHOOKS:
        path = _path_of(webhook)
        if not path:
            yield Notice(
                "The webhook URLs are not in ROOT_URLCONF, so no webhook can arrive.",
                hint='Add path("sms/", include("cellcast_django.urls")) to urlpatterns.',
                id="cellcast_django.W006",
            )
            return
        if not _leads_to(path, webhook):
            yield Notice(
                f"Another view stands before the {webhook.label} and gets its webhooks: {path}.",
                hint='Move include("cellcast_django.urls") to the top of urlpatterns.',
                id="cellcast_django.W023",
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
    """HTTP Basic sends the password in clear, so the connection must be encrypted."""
    scheme = urlsplit(conf.public_url).scheme
    mentions_https = (
        settings.SECURE_SSL_REDIRECT
        or settings.SECURE_PROXY_SSL_HEADER
        or settings.SECURE_HSTS_SECONDS
    )
    if scheme != "https" and (scheme or not mentions_https):
        yield Notice(
            "No setting shows that the site uses HTTPS. Over plain HTTP, anyone on the network "
            "can read the password and the messages.",
            hint='Serve the site over HTTPS and set CELLCAST_PUBLIC_URL = "https://…".',
            id="cellcast_django.W007",
        )


@check(_("Redirects"), deploy=True)
def check_redirects(**_: Any) -> Messages:
    """A redirect drops the body of a POST, so the URL in the dashboard must be the final one."""
    path = _path_of(WEBHOOKS[0]).lstrip("/")
    url = urlsplit(conf.public_url)
    if (
        url.scheme == "http"
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
    common = "django.middleware.common.CommonMiddleware"
    redirects_to_www = settings.PREPEND_WWW and common in settings.MIDDLEWARE
    if redirects_to_www and not (url.hostname or "").startswith("www."):
        yield Notice(
            "PREPEND_WWW redirects webhooks to www., and a redirect loses them.",
            hint='Set CELLCAST_PUBLIC_URL = "https://www.…" and paste the URLs with www. '
            "into Cellcast's dashboard.",
            id="cellcast_django.W009",
        )


@check(_("Public URL"))
def check_public_url(**_: Any) -> Messages:
    """The public URL must be a base for paths, with a host that Django allows."""
    url = getattr(settings, "CELLCAST_PUBLIC_URL", "")
    if url == "":
        return
    if not conf.public_url:
        yield Error(
            "CELLCAST_PUBLIC_URL is not the base URL of a site.",
            hint='Write only the scheme and host, such as "https://sms.example.com", without a '
            "path, query or username. DNS spells a host that is not ASCII as xn--….",
            id="cellcast_django.E010",
        )
        return
    host, _port = split_domain_port(urlsplit(conf.public_url).netloc.lower())
    allowed_hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed_hosts:  # what HttpRequest.get_host() allows then
        allowed_hosts = [".localhost", "127.0.0.1", "[::1]"]
    if not validate_host(host, allowed_hosts):
        yield Notice(
            f"The host of CELLCAST_PUBLIC_URL, {host}, is not in ALLOWED_HOSTS.",
            hint=f'Add "{host}" to ALLOWED_HOSTS, or Django rejects webhooks with 400.',
            id="cellcast_django.W004",
        )


@check(_("Handlers"))
def check_task_backend(**_: Any) -> Messages:
    """Running handlers through tasks needs a Tasks backend that accepts them."""
    if conf.run_handlers != "task":
        return
    alias, package = conf.task_backend, tasks_package()
    if package is None:
        yield Error(
            'CELLCAST_RUN_HANDLERS is "task", but this version of Django has no Tasks.',
            hint='Install "cellcast-django[tasks]", or upgrade to Django 6.0.',
            id="cellcast_django.E011",
        )
    elif problem := _problem_of_backend(package.task_backends, alias):
        yield Error(
            f"The Tasks backend {alias!r} of CELLCAST_TASK_BACKEND cannot be used: {problem}.",
            hint="Fix it in TASKS, or name another.",
            id="cellcast_django.E012",
        )


def _problem_of_backend(backends: Any, alias: Any) -> str:
    try:
        queues = backends[alias].queues
    except (ImproperlyConfigured, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return 'it has no queue "default"' if queues and "default" not in queues else ""


@check(_("Handlers"), deploy=True)
def check_task_worker(**_: Any) -> Messages:
    """Django's own backends have no worker: they run a task immediately, or never."""
    if conf.run_handlers != "task" or any(check_task_backend()):
        return
    name = type(tasks_package().task_backends[conf.task_backend]).__name__
    if name in ("ImmediateBackend", "DummyBackend"):
        is_immediate = name == "ImmediateBackend"
        when = "before the response" if is_immediate else "by cellcast_run_handlers"
        yield Notice(
            f'CELLCAST_RUN_HANDLERS is "task", but with {name} handlers run only {when}.',
            hint="Configure a backend with a worker in TASKS, such as django-tasks-db.",
            id="cellcast_django.W005",
        )


@check(_("Transactions"), deploy=True)
def check_atomic_requests(**_: Any) -> Messages:
    """The webhook views are exempt from ``ATOMIC_REQUESTS``, which handlers may rely on."""
    if any(options.get("ATOMIC_REQUESTS") for options in settings.DATABASES.values()):
        yield Info(
            "ATOMIC_REQUESTS does not apply to webhooks: they are committed before handlers "
            "run, and handlers run outside any transaction.",
            hint="Use transaction.atomic() in each handler that writes more than once.",
            id="cellcast_django.I001",
        )


@check(_("Database"), deploy=True)
def check_connections(**_: Any) -> Messages:
    """The options of the app's database must not slow webhooks down or lose them."""
    connection = connections[database_alias()]
    vendor, options = vendor_of(connection), connection.settings_dict
    driver: dict[str, Any] = options["OPTIONS"]
    pool: Any = driver.get("pool")
    text = str(driver).lower().replace(" ", "")
    if not options["CONN_MAX_AGE"] and options["CONN_MAX_AGE"] is not None and not pool:
        keep = '"CONN_MAX_AGE": 60'
        if not vendor.is_embedded:
            keep += ', "CONN_HEALTH_CHECKS": True'
        yield Notice(
            "Every webhook opens a new database connection: slower than storing the webhook.",
            hint=_in_databases(keep),
            id="cellcast_django.W013",
        )
    if vendor.is_embedded and ("journal_mode=wal" not in text or "immediate" not in text):
        yield Notice(
            'With these options, handlers get "database is locked" from SQLite under load.',
            hint=_in_databases(f'"OPTIONS": {json.dumps(SQLITE_OPTIONS)}'),
            id="cellcast_django.W014",
        )
    if pool and (pool is True or pool.get("timeout", 30) > BUDGET_SECONDS):
        yield Notice(
            "When the database is down, a webhook waits half a minute for the pool.",
            hint=_in_databases('"OPTIONS": {"pool": {"timeout": 2}}'),
            id="cellcast_django.W015",
        )
    limit = vendor.lock_limit
    if limit and "connect_timeout" not in driver:
        yield Notice(
            "When the database's host does not respond, a webhook waits for minutes.",
            hint=_in_databases('"OPTIONS": {"connect_timeout": 2}'),
            id="cellcast_django.W016",
        )
    if limit and not re.search("(?<!innodb_)lock_(wait_)?timeout", text):
        yield Notice(
            "If sessions do not limit lock waits, each webhook takes more round trips to do so.",
            hint=_in_databases(f'"OPTIONS": {json.dumps(dict([limit]))}'),
            id="cellcast_django.W020",
        )
    if re.search("synchronous(_commit)?='?(off|0)", text):
        yield Notice(
            "If the database's host crashes, webhooks already acknowledged with 200 are lost.",
            hint="In DATABASES, remove the option that turns off synchronous commits.",
            id="cellcast_django.W017",
        )


def _in_databases(line: str) -> str:
    return f"In DATABASES, set {line}."


SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 5,
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000;"
    ),
}


Kind = tuple[Callable[[Any], bool], str]
"""What is a value of this kind, and how to write one."""


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, str) and letters_and_digits(entry) for entry in value
    )


def _count_of(noun: str) -> Kind:
    # True is an int too, hence not isinstance.
    return lambda value: type(value) is int and value > 0, f"a whole number of {noun} above zero"


REGION: Kind = (
    lambda value: isinstance(value, str) and value in phonenumbers.SUPPORTED_REGIONS,
    'an ISO 3166 code of two capital letters, such as "AU" or "NZ"',
)
WAY: Kind = (
    lambda value: value in ("inline", "task"),
    '"inline" to run handlers before the response, or "task" to run them on a Tasks backend',
)
TEXTS: Kind = (
    _is_list_of_texts,
    'a list of texts, each with a letter or a digit, such as ["stop", "opt out"]',
)


@check(_("Values"))
def check_values(**_: Any) -> Messages:
    """A value must be of its setting's kind."""
    for name, (is_right, kind), message_id in (
        ("CELLCAST_DEFAULT_REGION", REGION, "cellcast_django.E005"),
        ("CELLCAST_MAX_BODY_BYTES", _count_of("bytes"), "cellcast_django.E006"),
        ("CELLCAST_HANDLER_LEASE", _count_of("seconds"), "cellcast_django.E007"),
        ("CELLCAST_HANDLER_MAX_ATTEMPTS", _count_of("calls"), "cellcast_django.E008"),
        ("CELLCAST_RUN_HANDLERS", WAY, "cellcast_django.E009"),
        ("CELLCAST_STOP_WORDS", TEXTS, "cellcast_django.E017"),
        ("CELLCAST_STOP_HINTS", TEXTS, "cellcast_django.E022"),
        ("CELLCAST_OWN_NUMBERS", TEXTS, "cellcast_django.E023"),
    ):
        value = getattr(settings, name, None)
        if hasattr(settings, name) and not is_right(value):
            yield Error(
                f"{name} is {value!r}, which cannot be used.",
                hint=f"Write {kind}, or remove the setting to use its default.",
                id=message_id,
            )


ANSWERS = frozenset(
    {"yes", "yep", "yeah", "no", "nope", "ok", "okay", "thanks", "thankyou", "confirm", "cancel"}
)
"""Reduced to their letters and digits, in lower case."""


@check(_("Stop words"))
def check_stop_words(**_: Any) -> Messages:
    """A stop word that may be an ordinary answer opts out who says it."""
    answers = [word for word in conf.stop_words if _is_answer(letters_and_digits(word))]
    if answers:
        words = ", ".join(map(repr, answers))
        yield Notice(
            f"CELLCAST_STOP_WORDS contains {words}, which may be an ordinary answer.",
            hint="A customer who replies with it is opted out. Use words that mean nothing else.",
            id="cellcast_django.W010",
        )


def _is_answer(word: str) -> bool:
    return len(word) == 1 or word.isdigit() or word in ANSWERS


@check(_("Names and answers"))
def check_callables(**_: Any) -> Messages:
    """What a dotted path names must be importable, and be called as we call it."""
    for name, arguments, message_id in (
        ("CELLCAST_CONTACT_NAMES", ["contacts"], "cellcast_django.E018"),
        ("CELLCAST_SEND_WITH", ["receiver", "body", "sender"], "cellcast_django.E019"),
        ("CELLCAST_CONTACT_SEARCH", ["words"], "cellcast_django.E020"),
        ("CELLCAST_REFERENCE_LINKS", ["references"], "cellcast_django.E024"),
    ):
        path = getattr(conf, name.removeprefix(PREFIX).lower())
        if problem := _problem_of(path, arguments):
            yield Error(
                f"{name} is {path!r}, which names no function for it: it {problem}.",
                hint='Write the dotted path of a function, such as "shop.sms.send_sms", or remove '
                "the setting.",
                id=message_id,
            )


def _problem_of(path: Any, arguments: list[str]) -> str:
    if path == "":
        return ""
    if not isinstance(path, str):
        return "is not a dotted path"
    try:
        found = import_string(path)
    except Exception as error:  # the host's module may raise anything
        return f"cannot be imported: {type(error).__qualname__}: {error}"
    if not callable(found):
        return "is not callable"
    if iscoroutinefunction(found) or iscoroutinefunction(type(found).__call__):
        return "is asynchronous"
    try:
        signature(found).bind(*arguments)
    except TypeError:
        return f"does not take {', '.join(arguments)}"
    except ValueError:  # one written in C does not say what it takes
        pass
    return ""


@check(_("Cellcast’s API"))
def check_api(**_: Any) -> Messages:
    """The key must fit into a header, and go where nobody on the network can read it."""
    if getattr(settings, "CELLCAST_API_KEY", "") != conf.api_key:
        yield Error(
            "CELLCAST_API_KEY is not a valid API key, so nothing can be recovered.",
            hint="Write the key as a string without white space or line breaks, or remove the "
            "setting to switch recovery off.",
            id="cellcast_django.E015",
        )
    elif not conf.api_url:
        yield Error(
            "CELLCAST_API_URL is not a base URL with https://: the key is not sent there.",
            hint=f'Write only the base URL, such as "{DEFAULT_API_URL}", without a path, query or '
            "username. http:// is allowed only for localhost.",
            id="cellcast_django.E016",
        )
    elif conf.send_with == "cellcast_django.api.send_sms" and (reason := why_not()):
        yield Error(
            f"CELLCAST_SEND_WITH names send_sms, which sends nothing: {reason}",
            hint="Set CELLCAST_API_KEY, and install the extra. To send nothing on purpose, name "
            '"cellcast_django.testing.pretend_to_send" instead.',
            id="cellcast_django.E025",
        )


@check(_("Time"))
def check_time_zone(**_: Any) -> Messages:
    """Times without a zone are ambiguous for an hour each year."""
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False, but this app stores and compares times with a time zone.",
            hint="Set USE_TZ = True, Django's default.",
            id="cellcast_django.E021",
        )


@check(_("Spelling"))
def check_names(**_: Any) -> Messages:
    """A setting under a wrong name has no effect, and nothing else says so."""
    ours = [
        name.upper() for name, each in vars(Settings).items() if isinstance(each, cached_property)
    ]
    given = {name.removeprefix(PREFIX) for name in dir(settings) if name.startswith(PREFIX)}
    for name in sorted(given.difference(ours)):
        for similar in get_close_matches(name, ours, n=1, cutoff=0.75):
            yield Notice(
                f"{PREFIX + name} is not a setting of this app, so it has no effect.",
                hint=f"Did you mean {PREFIX + similar}?",
                id="cellcast_django.W022",
            )


@check(_("Caches"))
def check_cacheops(**_: Any) -> Messages:
    """django-cacheops forgets a row when the ORM saves it, and the inbox writes SQL of its own."""
    profiles = {
        name.lower(): profile for name, profile in getattr(settings, "CACHEOPS", {}).items()
    }
    ours = [profile for name, profile in profiles.items() if name.startswith(f"{TAG}.")]
    if f"{TAG}.*" not in profiles:
        ours.append(profiles.get("*.*"))
    defaults = getattr(settings, "CACHEOPS_DEFAULTS", {})
    is_cached = any(each is not None and {**defaults, **each}.get("ops") for each in ours)
    if is_cached and apps.is_installed("cacheops"):
        yield Notice(
            "django-cacheops caches this app's models, so that pages show old rows.",
            hint='Write CACHEOPS = {"cellcast_django.*": None, …} in your settings.',
            id="cellcast_django.W024",
        )
