"""Print what to paste where, and what is still missing."""

import secrets
import string
from collections.abc import Iterator
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
        "Print what to paste into Cellcast's dashboard and into your settings, with a fresh "
        "username and password, and what is still missing. Changes nothing."
    )
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        username, password = new_secret()
        secret = f"{username}:{password}"
        if conf.webhook_secrets:
            purpose = ", to change the password. Remove the old one once webhooks come with the new"
            in_environment, in_settings = f'"THE_OLD_ONE {secret}"', f'[THE_OLD_ONE, "{secret}"]'
        else:
            purpose, in_environment, in_settings = "", secret, f'["{secret}"]'
        self._section(
            f"Put into your site's environment, or its .env file{purpose}",
            f"{SETTING}={in_environment}",
            "",
            "Or, if your settings do not read the environment, into them:",
            f"{SETTING} = {in_settings}",
            "",
            "The password is shown only this once. Keep it out of version control.",
        )
        self._section(
            "Paste into Cellcast's dashboard, once the site knows the password",
            "Top right: API menu, tab API KEYS, section Webhook.",
            "",
            *(self._field(each.label, _url(each)) for each in WEBHOOKS),
            self._field("Username", username),
            self._field("Password", password),
            "",
            "No Opt-Out field in your dashboard? Skip it.",
        )
        missing = []
        for what, remedy in missing_parts():
            missing += [self.style.WARNING(what), f"  {remedy}"]
        nothing = [self.style.SUCCESS("Nothing."), "Try it: manage.py cellcast_test_send receive"]
        self._section("Still missing", *(missing or nothing))

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
    if not getattr(settings, "CELLCAST_PUBLIC_URL", ""):  # the checks report a wrong one
        yield "The public URL of your site is not known.", 'Set CELLCAST_PUBLIC_URL = "https://…".'
    try:
        loader = MigrationLoader(connections[database_alias()])
        if set(loader.graph.leaf_nodes("cellcast_django")) - set(loader.applied_migrations):
            yield "The app's tables are missing or not up to date.", "Run manage.py migrate."
    except DatabaseError as error:
        yield f"The database cannot be reached ({type(error).__name__}).", "Check DATABASES."
    messages = run_checks(tags=[TAG], include_deployment_checks=not settings.DEBUG)
    if settings.DEBUG:  # which Django asks of deployed sites alone
        messages += check_secrets_for_deployment()
    for message in messages:
        if not message.is_silenced():
            yield f"{message.msg} ({message.id})", message.hint or ""
