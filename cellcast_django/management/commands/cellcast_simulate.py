"""Stand for Cellcast on this machine, for a site on this machine."""

import json
import re
import sys
from argparse import RawDescriptionHelpFormatter
from contextlib import ExitStack
from textwrap import fill
from threading import Event
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django.conf import LOOPBACK, conf
from cellcast_django.diagnostics.diagnosis import diagnose
from cellcast_django.diagnostics.test_send import post_as_cellcast
from cellcast_django.management.commands.cellcast_test_send import find_url
from cellcast_django.management.terminal import printable
from cellcast_django.opt_outs import is_stop_word
from cellcast_django.payloads import Endpoint
from cellcast_django.simulator import FATES, Item, LiveSimulator, as_listed, slow_clock
from cellcast_django.webhooks import WEBHOOKS

WIDTH = 79
TIMEOUT_SECONDS = 15
OPENING = """\
Cellcast on this machine, at {url}. Ctrl-C ends it.
Start your site with these lines in its environment:
  CELLCAST_API_URL={url}
  CELLCAST_API_KEY={key}
  CELLCAST_SEND_WITH=cellcast_django.api.send_sms
Each SMS that it sends is shown here, and reported to {site}.
Type what a customer replies: 0491570006 YES, or 0491570006 STOP. To lose its
webhook, so that cellcast_recover fetches it: lost 0491570006 YES. More: help
The clock is eleven minutes slow, as recovery waits ten for a webhook: a fetched
reply may stand above the text it answers. The account is gone when this ends."""
HELP = """\
0491570006 YES       that customer replies; what begins with STOP opts them out
lost 0491570006 YES  the same, but its webhooks never come
By the slow clock, deliveries seem to take eleven minutes, and a lost STOP of
the eleven minutes after an opt-in does not count.
What becomes of an SMS, by its receiver:
""" + "\n".join(f"  0{number[3:]}  {fate.description}" for number, fate in FATES.items())


class Command(BaseCommand):
    help = (
        "Stand for Cellcast on this machine: its API, its webhooks, and the customers, for whom "
        "you type. Nothing is sent, and no database is touched."
    )
    requires_system_checks = []

    def create_parser(self, *names: str, **options: Any) -> CommandParser:
        options |= {"epilog": HELP, "formatter_class": RawDescriptionHelpFormatter}
        return super().create_parser(*names, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8765, help="of its API (default: 8765)")
        site = "http://127.0.0.1:8000"
        parser.add_argument("--url", default=site, help=f"your site, here (default: {site})")
        parser.add_argument(
            "--harsh",
            default="",
            metavar="SEED",
            help="send webhooks twice, late, in any order or never, and answer some SMS with 500 "
            "although they are sent; the same seed does the same",
        )

    def handle(self, *, port: int, url: str, harsh: str, **_: Any) -> None:
        if not LOOPBACK.fullmatch(url):
            raise CommandError(f"--url {url}: it must be the base URL of a site on this machine.")
        if not settings.DEBUG and not LOOPBACK.fullmatch(conf.api_url):
            raise CommandError(
                "DEBUG is off and CELLCAST_API_URL is not on this machine: a site in production "
                "would store what is only simulated."
            )
        self.urls = {each.endpoint: find_url(each, url) for each in WEBHOOKS}
        self.kept: set[tuple[Endpoint, str, str, str]] = set()
        self.shown = 0
        self.account = LiveSimulator(
            seed=harsh, watch=self.show_request, deliver=self.deliver, now=slow_clock
        )
        self.account.port = port
        with ExitStack() as stack:
            try:
                stack.enter_context(self.account)
            except (OSError, OverflowError) as error:
                raise CommandError(
                    f"Port {port} cannot be had ({error}): another cellcast_simulate may have it. "
                    "Choose one by --port."
                ) from None
            key = self.account.key
            self.say(OPENING.format(url=self.account.url, key=key, site=url))
            try:
                for line in sys.stdin if sys.stdin and sys.stdin.isatty() else ():
                    self.obey(line.strip())
                Event().wait()  # without a terminal it only serves
            except KeyboardInterrupt:
                self.conclude()

    def say(self, text: str, style: Any = str) -> None:
        self.stdout.write(style(text))
        self.stdout.flush()  # for whoever reads it through a pipe

    def show(self, text: str, style: Any = str) -> None:
        """Show a line that begins as it should on a terminal, whatever a stranger has typed."""
        line = printable(text)
        self.say(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…", style)

    def obey(self, line: str) -> None:
        """Do what has been typed."""
        found = re.fullmatch(r"(?i)(lost\s+)?(\S+)\s+(.+)", line)
        if line == "help":
            self.say(HELP)
        elif found is None and line:
            self.show("That means nothing here. Type 0491570006 YES, or help.", self.style.ERROR)
        elif found is not None:
            try:
                self.account.reply(found[2], found[3], webhook=not found[1])
            except ValueError as error:
                self.show(f"{error} Type 0491570006 YES, or help.", self.style.ERROR)

    def show_request(self, call: str, status: int, document: Item) -> None:
        """Show what the site has asked, and each SMS that it has sent."""
        for sms in self.account.sent[self.shown :]:
            self.show(f"SMS to {sms.receiver}: {sms.body}", self.style.MIGRATE_HEADING)
        self.shown = len(self.account.sent)
        if status != 200 or not call.startswith("POST"):
            self.show(f"{status} {call} {document.get('message', '')}")

    def deliver(self, endpoint: Endpoint, payload: Item) -> None:
        """Send a webhook, and show what the site said."""
        is_report = endpoint == Endpoint.STATUS
        number = payload.get("contact") or payload["receiver" if is_report else "sender"]
        said = payload["status"] if is_report else payload.get("message", "")
        about = f"{endpoint.label} {number} {said}".rstrip()
        if not conf.webhook_secrets:
            self.show(f"{about}: not sent", self.style.ERROR)
            return self.say("CELLCAST_WEBHOOK_SECRETS has no usable entry: see cellcast_setup.")
        body, secret = json.dumps(payload).encode(), conf.webhook_secrets[0]
        url = self.urls[endpoint]
        response = post_as_cellcast(url, body, secret, TIMEOUT_SECONDS, is_test=False)
        if (diagnosis := diagnose(response)) is not None:
            self.show(f"{about}: not kept", self.style.ERROR)
            return self.say(fill(printable(f"{diagnosis.problem} {diagnosis.remedy}"), WIDTH))
        self.kept.add((endpoint, payload.get("_id", ""), as_listed(number), said))
        self.show(f"{about}: {response.events[0]['outcome']}", self.style.SUCCESS)

    def conclude(self) -> None:
        """Say what a site has that lost nothing, and what of that no webhook has brought."""
        kept = self.kept.copy()  # webhooks are still on their way
        known = {each[1::2] for each in kept if each[0] == Endpoint.STATUS}
        brought = [each for each in kept if each[0] == Endpoint.RECEIVE]
        stopped = {each[2] for each in kept if each[0] == Endpoint.OPT_OUT}
        stopped |= {number for _, _, number, text in brought if is_stop_word(text)}
        account = self.account
        messages, replies, opt_outs = account._reports, account._replies, account._opt_outs
        unknown = [
            sum((each["_id"], each["status"]) not in known for each in messages),
            len(replies) - len(brought),
            sum(each["number"] not in stopped for each in opt_outs),
        ]
        self.say(
            f"A site that lost nothing has {len(messages)} messages, {len(replies)} replies and "
            f"{len(opt_outs)} opt-outs.\nOnly cellcast_recover could know how {unknown[0]} of the "
            f"messages ended,\nand of {unknown[1]} replies and {unknown[2]} opt-outs."
        )
