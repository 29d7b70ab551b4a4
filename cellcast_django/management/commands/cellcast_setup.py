"""What to paste where, and what is still missing."""

import secrets
import string
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError, connections, router
from django.db.migrations.loader import MigrationLoader
from django.urls import NoReverseMatch

from cellcast_django.checks import TAG, is_base_url
from cellcast_django.conf import conf
from cellcast_django.diagnostics.listeners import describe_handlers
from cellcast_django.diagnostics.test_send import webhook_url
from cellcast_django.payloads import WEBHOOK_ENDPOINTS, Endpoint

ALPHABET = string.ascii_letters + string.digits  # nothing that a shell or an .env file reads
PASSWORD_LENGTH = 32

SETTING = "CELLCAST_WEBHOOK_SECRETS"


class Command(BaseCommand):
    """Prints what to paste into Cellcast's dashboard and into the settings."""

    help = (
        "Print what to paste into Cellcast's dashboard and into your settings, with a fresh "
        "username and password, and say what is still missing. Changes nothing; run it as often as "
        "you like."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--public-url``."""
        parser.add_argument(
            "--public-url",
            metavar="URL",
            help="your site as the world sees it, such as https://sms.example.com "
            "(default: CELLCAST_PUBLIC_URL)",
        )

    def handle(self, **options: Any) -> None:
        base_url = find_base_url(options["public_url"])
        username, password = new_credential()
        is_configured = bool(conf.webhook_secrets)
        self._print_dashboard(base_url, None if is_configured else (username, password))
        if is_configured:
            self._print_rotation(username, password)
        self._print_settings(base_url, None if is_configured else f"{username}:{password}")
        self._print_handlers()
        self._print_missing(base_url)

    def _print_dashboard(self, base_url: str, credential: tuple[str, str] | None) -> None:
        self._head("Paste into Cellcast's dashboard")
        self.stdout.write("  Top right: API menu, tab API KEYS, section Webhook.")
        self.stdout.write("")
        for endpoint in WEBHOOK_ENDPOINTS:
            self._field(str(endpoint.label), self._url(endpoint, base_url))
        username, password = credential or ("(one that is configured already)", "(its password)")
        self._field("Username", username)
        self._field("Password", password)
        self.stdout.write("")
        self.stdout.write("  No Opt-Out field in your dashboard? Skip it.")

    def _url(self, endpoint: Endpoint, base_url: str) -> str:
        try:
            return webhook_url(endpoint, base_url or "https://your-site.example")
        except NoReverseMatch:
            return "(not in your URLs yet, see below)"

    def _print_rotation(self, username: str, password: str) -> None:
        count = len(conf.webhook_secrets)
        noun = "credential is" if count == 1 else "credentials are"
        self._head("To change the password without a gap")
        self.stdout.write(f"  {count} {noun} configured already. For a new one:")
        self.stdout.write(f"  1. Put it beside the old one in {SETTING}, and restart:")
        self.stdout.write(f'     {SETTING} = [THE_OLD_ONE, "{username}:{password}"]')
        self.stdout.write("  2. In the dashboard, change the username and the password:")
        self._field("   Username", username)
        self._field("   Password", password)
        self.stdout.write("  3. When webhooks come with the new username, remove the old one.")

    def _print_settings(self, base_url: str, credential: str | None) -> None:
        lines = [f'{SETTING} = ["{credential}"]'] if credential else []
        if base_url and base_url != conf.public_url:
            lines.append(f'CELLCAST_PUBLIC_URL = "{base_url}"')
        if not lines:
            return
        self._head("Put into your settings")
        for line in lines:
            self.stdout.write(f"  {line}")
        if credential:
            self.stdout.write("")
            self.stdout.write("  Or, where your settings read the environment or a .env file:")
            self.stdout.write(f"  {SETTING}={credential}")
            self.stdout.write("")
            self.stdout.write("  The password is shown this once. Keep it out of version control.")

    def _print_handlers(self) -> None:
        self._head("What runs when something arrives")
        for endpoint in WEBHOOK_ENDPOINTS:
            self.stdout.write(f"  {endpoint.label}")
            self.stdout.write(f"    {describe_handlers(endpoint)}")

    def _print_missing(self, base_url: str) -> None:
        self._head("Still missing")
        missing = list(missing_parts(base_url))
        for problem, remedy in missing:
            self.stdout.write(self.style.WARNING(f"  {problem}"))
            self.stdout.write(f"    {remedy}")
        if not missing:
            self.stdout.write(self.style.SUCCESS("  Nothing."))
            self.stdout.write("  Try it: manage.py cellcast_test_send receive")

    def _head(self, text: str) -> None:
        self.stdout.write("")
        self.stdout.write(self.style.MIGRATE_HEADING(text))

    def _field(self, name: str, value: str) -> None:
        self.stdout.write(f"  {name:<12} {self.style.SUCCESS(value)}")


def find_base_url(given: str | None) -> str:
    """Return the site's base URL; empty when nothing says it. Raises ``CommandError``."""
    if given is None:
        return conf.public_url if is_base_url(conf.public_url) else ""
    if not is_base_url(given):
        raise CommandError(
            "--public-url must be scheme and host alone, such as https://sms.example.com."
        )
    return given.rstrip("/")


def new_credential() -> tuple[str, str]:
    """Return a fresh username and a strong password."""
    username = f"cellcast-{secrets.token_hex(3)}"
    return username, "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_LENGTH))


def missing_parts(base_url: str) -> Iterator[tuple[str, str]]:
    """Yield what is not in place yet, each with what to do."""
    if not base_url and not conf.public_url:
        yield (
            "Nothing says where your site is.",
            'Set CELLCAST_PUBLIC_URL = "https://…", or run this with --public-url.',
        )
    yield from _pending_migrations()
    for message in _check_messages():
        yield f"{message.msg} ({message.id})", message.hint or ""


def _pending_migrations() -> Iterator[tuple[str, str]]:
    label = apps.get_app_config(TAG).label
    alias = router.db_for_write(apps.get_model(TAG, "Message"))
    try:
        loader = MigrationLoader(connections[alias])
    except DatabaseError as error:
        yield f"The database cannot be asked ({type(error).__name__}).", "Look at DATABASES."
        return
    if set(loader.graph.leaf_nodes(label)) - set(loader.applied_migrations):
        yield "The app's tables are not there yet, or not up to date.", "Run manage.py migrate."


def _check_messages() -> list[CheckMessage]:
    messages = run_checks(tags=[TAG], include_deployment_checks=not settings.DEBUG)
    told_by_others = "cellcast_django.E004"  # the reason has a message of its own
    return [m for m in messages if m.id != told_by_others and not m.is_silenced()]
