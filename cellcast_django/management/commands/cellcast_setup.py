"""Print what to paste where, and what is still missing."""

import secrets
import string
from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.urls import NoReverseMatch

from cellcast_django.checks import TAG, check_secrets_for_deployment
from cellcast_django.conf import conf
from cellcast_django.models import database_alias
from cellcast_django.webhooks import WEBHOOKS, Webhook

ALPHABET = string.ascii_letters + string.digits  # nothing special to a shell or an .env file
PASSWORD_LENGTH = 32

SETTING = "CELLCAST_WEBHOOK_SECRETS"


class Command(BaseCommand):
    help = (
        "Print what to paste into Cellcast's dashboard and into your settings, including a fresh "
        "username and password, and list what is still missing. Changes nothing; run it as often "
        "as you like."
    )
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        username, password = new_secret()
        if conf.webhook_secrets:
            self._print_dashboard("(one you have configured)", "(its password)")
            self._print_rotation(username, password)
        else:
            self._print_dashboard(username, password)
            self._print_settings(f"{username}:{password}")
        self._print_missing()

    def _print_dashboard(self, username: str, password: str) -> None:
        self._section(
            "Paste into Cellcast's dashboard",
            "Top right: API menu, tab API KEYS, section Webhook.",
            "",
            *(self._field(each.label, _url(each)) for each in WEBHOOKS),
            self._field("Username", username),
            self._field("Password", password),
            "",
            "No Opt-Out field in your dashboard? Skip it.",
        )

    def _print_rotation(self, username: str, password: str) -> None:
        self._section(
            "To change the password without a gap",
            f"1. Add it to {SETTING} beside the old one, and restart:",
            f'   {SETTING} = [THE_OLD_ONE, "{username}:{password}"]',
            "   or in the environment, with a space between them:",
            f'   {SETTING}="THE_OLD_ONE {username}:{password}"',
            "2. Change the username and password in the dashboard:",
            self._field("   Username", username),
            self._field("   Password", password),
            "3. Once webhooks arrive with the new username, remove the old one.",
        )

    def _print_settings(self, secret: str) -> None:
        self._section(
            "Put into your site's environment, or its .env file",
            f"{SETTING}={secret}",
            "",
            "Or, if your settings do not read the environment, into them:",
            f'{SETTING} = ["{secret}"]',
            "",
            "The password is shown only this once. Keep it out of version control.",
        )

    def _print_missing(self) -> None:
        lines = [(self.style.WARNING(what), f"  {remedy}") for what, remedy in missing_parts()]
        nothing = self.style.SUCCESS("Nothing."), "Try it: manage.py cellcast_test_send receive"
        self._section("Still missing", *chain.from_iterable(lines or [nothing]))

    def _section(self, heading: str, *lines: str) -> None:
        self.stdout.write(f"\n{self.style.MIGRATE_HEADING(heading)}")
        for line in lines:
            self.stdout.write(f"  {line}" if line else "")

    def _field(self, name: str, value: str) -> str:
        return f"{name:<12} {self.style.SUCCESS(value)}"


def _url(webhook: Webhook) -> str:
    try:
        return webhook.url(conf.public_url or "https://your-site.example")
    except NoReverseMatch:
        return "(not in your URLs yet, see below)"


def new_secret() -> tuple[str, str]:
    """Return a fresh username and a strong password."""
    username = f"cellcast-{secrets.token_hex(3)}"
    return username, "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))


def missing_parts() -> Iterator[tuple[str, str]]:
    """Yield what is still missing, each with what to do."""
    if not getattr(settings, "CELLCAST_PUBLIC_URL", ""):
        yield "The public URL of your site is not known.", 'Set CELLCAST_PUBLIC_URL = "https://…".'
    try:
        loader = MigrationLoader(connections[database_alias()])
        if set(loader.graph.leaf_nodes(TAG)) - set(loader.applied_migrations):
            yield "The app's tables are missing or not up to date.", "Run manage.py migrate."
    except DatabaseError as error:
        yield f"The database cannot be reached ({type(error).__name__}).", "Check DATABASES."
    messages = run_checks(tags=[TAG], include_deployment_checks=not settings.DEBUG)
    if settings.DEBUG:  # which Django asks of deployed sites alone
        messages += check_secrets_for_deployment()
    for message in messages:
        if not message.is_silenced():
            yield f"{message.msg} ({message.id})", message.hint or ""
