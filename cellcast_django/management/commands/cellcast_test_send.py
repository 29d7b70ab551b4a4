"""Cellcast's Test Send, from your side."""

import json
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch

from cellcast_django.authentication import hides_variables
from cellcast_django.checks import is_base_url
from cellcast_django.conf import conf, is_credential
from cellcast_django.diagnostics.diagnosis import diagnose
from cellcast_django.diagnostics.listeners import describe_handlers
from cellcast_django.diagnostics.test_send import EXAMPLES, Answer, send, webhook_url
from cellcast_django.management.terminal import printable
from cellcast_django.payloads import WEBHOOK_ENDPOINTS, Endpoint

TIMEOUT_SECONDS = 15
ENDPOINTS = {endpoint.slug: endpoint for endpoint in WEBHOOK_ENDPOINTS}


class Command(BaseCommand):
    """Sends one webhook over HTTP and says what the answer means."""

    help = (
        "Send Cellcast's documented example to one of the webhook URLs, as Cellcast would, and say "
        "what is wrong when it does not arrive. It is stored and announced like any webhook."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the endpoint and what changes the request."""
        parser.add_argument(
            "endpoint", choices=ENDPOINTS, help="which of the webhook URLs to send to"
        )
        parser.add_argument(
            "--url",
            help="where to send it; a site without a path will do "
            "(default: CELLCAST_PUBLIC_URL and the project's path)",
        )
        parser.add_argument(
            "--data", metavar="TEXT", help="send this text, JSON or not; @FILE sends a file"
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change one key of the payload to this string; may be repeated. "
            "KEY:=JSON changes it to any JSON, for example media:='[\"https://example.com/1.jpg\"]'",
        )
        parser.add_argument(
            "--credential",
            metavar="USERNAME:PASSWORD",
            help="default: the first of CELLCAST_WEBHOOK_SECRETS",
        )

    @hides_variables
    def handle(self, **options: Any) -> None:
        endpoint = ENDPOINTS[options["endpoint"]]
        url = find_url(endpoint, options["url"])
        credential = find_credential(options["credential"])
        body = make_body(endpoint, options["data"], options["set"])
        self.stdout.write(self.style.MIGRATE_HEADING(f"POST {url}"))
        self.stdout.write(f"  as {credential.partition(':')[0]}")
        self.stdout.write(f"  {printable(body.decode('utf-8', 'backslashreplace'))}")
        answer = send(url, body, credential, TIMEOUT_SECONDS)
        if answer.error is None:
            self.stdout.write(describe(answer))
        self._conclude(answer)
        self.stdout.write(f"  {printable(describe_handlers(endpoint))}")

    def _conclude(self, answer: Answer) -> None:
        findings = diagnose(answer)
        for finding in findings:
            self.stdout.write(self.style.ERROR(printable(finding.problem)))
            self.stdout.write(f"  {printable(finding.remedy)}")
        if findings:
            raise CommandError("The webhook was not stored as it should be.")
        for event in answer.events:
            text = f"Event {event.get('id')}: {event['outcome']}."
            self.stdout.write(self.style.SUCCESS(printable(text)))


def find_url(endpoint: Endpoint, given: str | None) -> str:
    """Return the URL to send to. Raises ``CommandError`` when nothing says where."""
    url = given or conf.public_url
    if not url:
        raise CommandError("Set CELLCAST_PUBLIC_URL, or say where to send it: --url https://…")
    if given and not is_base_url(given):
        return given
    try:
        return webhook_url(endpoint, url)
    except NoReverseMatch:
        raise CommandError(
            'The webhook URLs are not in ROOT_URLCONF: add path("sms/", '
            'include("cellcast_django.urls")), or give the whole --url.'
        ) from None


def find_credential(given: str | None) -> str:
    """Return the ``"username:password"`` to send. Raises ``CommandError`` when there is none."""
    if given is not None:
        if not is_credential(given):
            raise CommandError("--credential must be USERNAME:PASSWORD.")
        return given
    if not conf.webhook_secrets:
        raise CommandError(
            "CELLCAST_WEBHOOK_SECRETS has no usable entry: run cellcast_setup, or give "
            "--credential USERNAME:PASSWORD."
        )
    return conf.webhook_secrets[0]


def make_body(endpoint: Endpoint, data: str | None, changes: list[str]) -> bytes:
    """Return the bytes to send: the example or ``data``, with these changes to its keys."""
    body = EXAMPLES[endpoint] if data is None else _read_data(data)
    if not changes:
        return body
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise CommandError("--set needs a JSON object to change.")
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise CommandError(f"--set {change}: write KEY=VALUE.")
        is_json = key.endswith(":")
        payload[key.removesuffix(":")] = _parse_value(change, value) if is_json else value
    return json.dumps(payload).encode()


def _parse_value(change: str, value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise CommandError(f"--set {change}: what follows := is not JSON.") from None


def _read_data(data: str) -> bytes:
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"--data {data}: {error.strerror}.") from None


def describe(answer: Answer) -> str:
    """Return the answer in one line; of the body its size, or the title of a page."""
    content_type = answer.headers.get("content-type", "no Content-Type")
    title = re.search(r"<title>([^<]{1,200})", answer.text, re.IGNORECASE)
    what = f'"{title[1].strip()}"' if title else f"{len(answer.body)} bytes"
    duration = f"{answer.seconds * 1000:.0f} ms"
    return printable(f"{answer.status} {answer.reason} after {duration}: {content_type}, {what}")
