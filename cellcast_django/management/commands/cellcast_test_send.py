"""Send a webhook to this site, as Cellcast's Test Send would."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch

from cellcast_django.conf import BASE_URL, conf
from cellcast_django.diagnostics import test_send
from cellcast_django.diagnostics.diagnosis import diagnose
from cellcast_django.error_reports import hides_variables
from cellcast_django.management.terminal import plural, printable, says_if_refused
from cellcast_django.payloads import read_object
from cellcast_django.webhooks import WEBHOOKS, Webhook, problem_of_keys

TIMEOUT_SECONDS = 15
BY_SLUG = {each.endpoint.slug: each for each in WEBHOOKS}


class Command(BaseCommand):
    help = (
        "Send Cellcast's documented example to one of the webhook URLs, and say what is wrong if "
        "it is not accepted. It is stored, and your handlers run."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "endpoint", nargs="?", choices=BY_SLUG, help="the webhook URL to send to"
        )
        parser.add_argument(
            "--url",
            help="where to send it, with the project's own path if it has none "
            "(default: CELLCAST_PUBLIC_URL)",
        )
        parser.add_argument("--data", metavar="TEXT", help="send this text, JSON or not")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="set a key of the payload to this string; may be repeated",
        )
        parser.add_argument(
            "--delete",
            action="store_true",
            help="send nothing, and take back what all tests have stored",
        )

    execute = says_if_refused(BaseCommand.execute)

    @hides_variables
    def handle(self, **options: Any) -> None:
        if options["delete"]:
            deleted = plural(test_send.delete_tests().events, "test event")
            self.stdout.write(f"Taken back: {deleted}.")
            return
        if options["endpoint"] is None:
            raise CommandError(f"Say which URL: {', '.join(BY_SLUG)}.")
        webhook = BY_SLUG[options["endpoint"]]
        url = find_url(webhook, options["url"])
        if not conf.webhook_secrets:
            raise CommandError(
                "CELLCAST_WEBHOOK_SECRETS has no usable entry here: set what cellcast_setup prints."
            )
        secret = conf.webhook_secrets[0]
        body = make_body(webhook, options["data"], options["set"])
        self.stdout.write(self.style.MIGRATE_HEADING(f"POST {url}"))
        self.stdout.write(f"  as {secret.partition(':')[0]}")
        self.stdout.write(f"  {printable(body.decode('utf-8', 'backslashreplace'))}")
        response = test_send.post_as_cellcast(url, body, secret, TIMEOUT_SECONDS)
        if response.error is None:
            after = f"after {response.seconds * 1000:.0f} ms"
            seen = f"{response.status} {response.reason} {after}: {response.text[:200]}"
            self.stdout.write(printable(seen))
        self._conclude(response)
        self.stdout.write(f"  {printable(test_send.describe_calls(webhook, response))}")
        if test_send.would_opt_out(webhook, body, response):
            self.stdout.write("  Nobody is opted out: a real one would have done that.")

    def _conclude(self, response: test_send.Response) -> None:
        if (diagnosis := diagnose(response)) is not None:
            self.stdout.write(self.style.ERROR(printable(str(diagnosis.problem))))
            self.stdout.write(f"  {printable(str(diagnosis.remedy))}")
            raise CommandError("The webhook was not accepted.")
        for event in response.events:
            text = f"Event {event.get('id')}: {event['outcome']}."
            self.stdout.write(self.style.SUCCESS(printable(text)))


def find_url(webhook: Webhook, given: str | None) -> str:
    """Return the URL to send to. Raises ``CommandError`` if it is not known."""
    url = given or conf.public_url
    if not url:
        raise CommandError("Set CELLCAST_PUBLIC_URL, or pass --url https://…")
    if given and not BASE_URL.fits(given):  # it has a path
        return given
    try:
        return webhook.url(url)
    except NoReverseMatch:
        raise CommandError(
            'Not in ROOT_URLCONF: add path("sms/", include("cellcast_django.urls")).'
        ) from None


def make_body(webhook: Webhook, data: str | None, changes: list[str]) -> bytes:
    """Return the bytes to send: the example or ``data``, with these keys changed."""
    body = webhook.body if data is None else data.encode("utf-8", "surrogateescape")
    if not changes:
        return body
    payload = read_object(body)
    if not payload:
        raise CommandError("--set works only on a JSON object.")
    for change in changes:
        key, separator, value = change.partition("=")
        if not separator:
            raise CommandError(f"--set {change}: write KEY=VALUE.")
        if key not in payload and (problem := problem_of_keys([key])):
            raise CommandError(f"--set {change}: {problem}")
        payload[key] = value
    return json.dumps(payload).encode()
