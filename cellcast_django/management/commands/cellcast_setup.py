"""Print what to paste where, and what is still missing."""

import secrets
import string
from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.urls import NoReverseMatch

from cellcast_django.checks import TAG
from cellcast_django.conf import conf, is_base_url
from cellcast_django.diagnostics.test_send import describe_handlers
from cellcast_django.models import database_alias
from cellcast_django.webhooks import WEBHOOKS, Webhook

ALPHABET = string.ascii_letters + string.digits  # nothing special to a shell or an .env file
PASSWORD_LENGTH = 32

SETTING = "CELLCAST_WEBHOOK_SECRETS"
LINES = {SETTING: '{} = ["{}"]', "CELLCAST_PUBLIC_URL": '{} = "{}"'}


class Command(BaseCommand):
    help = (
        "Print what to paste into Cellcast's dashboard and into your settings, including a fresh "
        "username and password, and list what is still missing. Changes nothing; run it as often "
        "as you like."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--public-url",
            metavar="URL",
            help="public URL of your site, such as https://sms.example.com "
            "(default: CELLCAST_PUBLIC_URL)",
        )

    def handle(self, **options: Any) -> None:
        base_url = find_base_url(options["public_url"])
        username, password = new_secret()
        is_configured = bool(conf.webhook_secrets)
        self._print_dashboard(base_url, None if is_configured else (username, password))
        if is_configured:
            self._print_rotation(username, password)
        self._print_settings(base_url, None if is_configured else f"{username}:{password}")
        self._print_handlers()
        self._print_missing(base_url)

    def _print_dashboard(self, base_url: str, secret: tuple[str, str] | None) -> None:
        username, password = secret or ("(one you have configured)", "(its password)")
        self._section(
            "Paste into Cellcast's dashboard",
            "Top right: API menu, tab API KEYS, section Webhook.",
            "",
            *(self._field(each.label, _url(each, base_url)) for each in WEBHOOKS),
            self._field("Username", username),
            self._field("Password", password),
            "",
            "No Opt-Out field in your dashboard? Skip it.",
        )

    def _print_rotation(self, username: str, password: str) -> None:
        count = len(conf.webhook_secrets)
        noun = "secret is" if count == 1 else "secrets are"
        self._section(
            "To change the password without a gap",
            f"{count} {noun} configured. To switch to a new one:",
            f"1. Add it to {SETTING} beside the old one, and restart:",
            f'   {SETTING} = [THE_OLD_ONE, "{username}:{password}"]',
            "   or in the environment, with a space between them:",
            f'   {SETTING}="THE_OLD_ONE {username}:{password}"',
            "2. Change the username and password in the dashboard:",
            self._field("   Username", username),
            self._field("   Password", password),
            "3. Once webhooks arrive with the new username, remove the old one.",
        )

    def _print_settings(self, base_url: str, secret: str | None) -> None:
        values = {SETTING: secret}
        if base_url != conf.public_url:
            values["CELLCAST_PUBLIC_URL"] = base_url
        given = {name: value for name, value in values.items() if value}
        if not given:
            return
        self._section(
            "Put into your site's environment, or its .env file",
            *(f"{name}={value}" for name, value in given.items()),
            "",
            "Or, if your settings do not read the environment, into them:",
            *(line.format(name, given[name]) for name, line in LINES.items() if name in given),
        )
        if secret:
            self._lines("", "The password is shown only this once. Keep it out of version control.")

    def _print_handlers(self) -> None:
        lines = [(each.label, f"  {describe_handlers(each)}") for each in WEBHOOKS]
        self._section("Handlers called for each URL", *chain.from_iterable(lines))

    def _print_missing(self, base_url: str) -> None:
        missing = missing_parts(base_url)
        lines = [(self.style.WARNING(what), f"  {remedy}") for what, remedy in missing]
        nothing = self.style.SUCCESS("Nothing."), "Try it: manage.py cellcast_test_send receive"
        self._section("Still missing", *chain.from_iterable(lines or [nothing]))

    def _section(self, heading: str, *lines: Any) -> None:
        self.stdout.write(f"\n{self.style.MIGRATE_HEADING(heading)}")
        self._lines(*lines)

    def _lines(self, *lines: Any) -> None:
        for line in lines:
            self.stdout.write(f"  {line}" if line else "")

    def _field(self, name: str, value: str) -> str:
        return f"{name:<12} {self.style.SUCCESS(value)}"


def _url(webhook: Webhook, base_url: str) -> str:
    try:
        return webhook.url(base_url or "https://your-site.example")
    except NoReverseMatch:
        return "(not in your URLs yet, see below)"


def find_base_url(given: str | None) -> str:
    """Return the site's base URL; empty if it is not known. Raises ``CommandError``."""
    if given is None:
        return conf.public_url
    if not is_base_url(given):
        raise CommandError(
            "--public-url must be only a scheme and a host, such as https://sms.example.com."
        )
    return given.rstrip("/")


def new_secret() -> tuple[str, str]:
    """Return a fresh username and a strong password."""
    username = f"cellcast-{secrets.token_hex(3)}"
    return username, "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))


def missing_parts(base_url: str) -> Iterator[tuple[str, str]]:
    """Yield what is still missing, each with what to do."""
    if not base_url and not getattr(settings, "CELLCAST_PUBLIC_URL", ""):
        yield (
            "The public URL of your site is not known.",
            'Set CELLCAST_PUBLIC_URL = "https://…", or use --public-url.',
        )
    try:
        loader = MigrationLoader(connections[database_alias()])
        if set(loader.graph.leaf_nodes(TAG)) - set(loader.applied_migrations):
            yield "The app's tables are missing or not up to date.", "Run manage.py migrate."
    except DatabaseError as error:
        yield f"The database cannot be reached ({type(error).__name__}).", "Check DATABASES."
    for message in run_checks(tags=[TAG], include_deployment_checks=not settings.DEBUG):
        # Of E004, another message names the cause.
        if message.id != "cellcast_django.E004" and not message.is_silenced():
            yield f"{message.msg} ({message.id})", message.hint or ""
