"""Settings other than the credentials must have usable values."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import phonenumbers
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Notice
from django.http.request import split_domain_port, validate_host
from django.utils.translation import gettext

from cellcast_django.conf import conf

Messages = Iterator[CheckMessage]


def check_default_region(**_: Any) -> Messages:
    """The region must be one that phonenumbers knows."""
    region: Any = conf.default_region
    if not isinstance(region, str) or region not in phonenumbers.SUPPORTED_REGIONS:
        yield Error(
            gettext("CELLCAST_DEFAULT_REGION is %(region)s, which is not a valid region.")
            % {"region": repr(region)},
            hint=gettext('Use an ISO 3166 code of two capital letters, such as "AU" or "NZ".'),
            id="cellcast_django.E005",
        )


def check_numbers(**_: Any) -> Messages:
    """Sizes, seconds and counts must be whole and more than zero."""
    values: list[tuple[str, Any, str]] = [
        ("CELLCAST_MAX_BODY_BYTES", conf.max_body_bytes, "cellcast_django.E006"),
        ("CELLCAST_HANDLER_LEASE", conf.handler_lease, "cellcast_django.E007"),
        ("CELLCAST_HANDLER_MAX_ATTEMPTS", conf.handler_max_attempts, "cellcast_django.E008"),
    ]
    for name, value, message_id in values:
        if type(value) is not int or value < 1:  # True is an int too, hence not isinstance
            yield Error(
                gettext("%(name)s is %(value)s, which is not a whole number above zero.")
                % {"name": name, "value": repr(value)},
                hint=gettext("Write it without quotes, or remove the setting to use the default."),
                id=message_id,
            )


def check_run_handlers(**_: Any) -> Messages:
    """Handlers run inline or as a task."""
    if conf.run_handlers not in ("inline", "task"):
        yield Error(
            gettext('CELLCAST_RUN_HANDLERS is %(value)s, which is neither "inline" nor "task".')
            % {"value": repr(conf.run_handlers)},
            hint=gettext(
                'Use "inline" to run handlers before the response, or "task" to run them on a '
                "Tasks backend."
            ),
            id="cellcast_django.E009",
        )


BASE_URL = re.compile(r"(?i:https?)://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?/*")
SAMPLE_HOST = re.compile(r"(www\.)?example\.(com|net|org)")
"""Hosts of documentation that really exist: what is sent there arrives."""


def is_base_url(url: object) -> bool:
    """Whether this is a scheme and a host, with or without a port, and nothing else."""
    return isinstance(url, str) and BASE_URL.fullmatch(url) is not None


def check_public_url(**_: Any) -> Messages:
    """The public URL must be a base for paths, with a host that Django allows."""
    url = getattr(settings, "CELLCAST_PUBLIC_URL", "")
    if url == "":
        return
    if not is_base_url(url):
        yield Error(
            gettext("CELLCAST_PUBLIC_URL is not the base URL of a site."),
            hint=gettext(
                'Write only the scheme and host, such as "https://sms.example.com", without a '
                "path, query or username."
            ),
            id="cellcast_django.E010",
        )
        return
    host, _port = split_domain_port(urlsplit(url).netloc.lower())
    if SAMPLE_HOST.fullmatch(host):
        yield Notice(
            gettext(
                "CELLCAST_PUBLIC_URL is a sample from the documentation: Test Send would send your "
                "password to %(host)s."
            )
            % {"host": host},
            hint=gettext("Write the URL of your own site, or remove the setting."),
            id="cellcast_django.W011",
        )
    allowed_hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed_hosts:  # what HttpRequest.get_host() allows then
        allowed_hosts = [".localhost", "127.0.0.1", "[::1]"]
    if not validate_host(host, allowed_hosts):
        yield Notice(
            gettext("The host of CELLCAST_PUBLIC_URL, %(host)s, is not in ALLOWED_HOSTS.")
            % {"host": host},
            hint=gettext('Add "%(host)s" to ALLOWED_HOSTS, or Django rejects webhooks with 400.')
            % {"host": host},
            id="cellcast_django.W004",
        )
