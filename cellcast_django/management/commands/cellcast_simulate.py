"""Stand for Cellcast on this machine, for a site on this machine."""

import json
import re
import signal
import sys
from argparse import RawDescriptionHelpFormatter
from contextlib import ExitStack, suppress
from textwrap import fill, shorten
from threading import Event, Thread
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cellcast_django.conf import LOOPBACK, conf
from cellcast_django.contacts import is_phone_number
from cellcast_django.diagnostics.diagnosis import diagnose
from cellcast_django.diagnostics.test_send import post_as_cellcast
from cellcast_django.management.commands.cellcast_test_send import TIMEOUT_SECONDS, find_url
from cellcast_django.management.terminal import plural, printable
from cellcast_django.payloads import Endpoint
from cellcast_django.simulator import FATES, Item, Simulator, slow_clock
from cellcast_django.webhooks import WEBHOOKS

WIDTH = 79
OPENING = """\
Cellcast on this machine, at {account.url}. Ctrl-C ends it.
Start your site with these lines in its environment:
  CELLCAST_API_URL={account.url}
  CELLCAST_API_KEY={account.key}
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

    def add_arguments(self, parser: CommandParser) -> None:
        parser.epilog, parser.formatter_class = HELP, RawDescriptionHelpFormatter
        site = "http://127.0.0.1:8000"
        parser.add_argument("--port", type=int, default=8765, help="of its API (default: 8765)")
        parser.add_argument("--url", default=site, help=f"your site, here (default: {site})")
        harsh = "lose, double, delay and mix webhooks, answer SMS with 500; alike for each seed"
        parser.add_argument("--harsh", default="", metavar="SEED", help=harsh)

    def handle(self, *, port: int, url: str, harsh: str, **_: Any) -> None:
        if not LOOPBACK.fullmatch(url):
            raise CommandError(f"--url {url}: it must be the base URL of a site on this machine.")
        if not settings.DEBUG and not LOOPBACK.fullmatch(conf.api_url):
            raise CommandError(
                "DEBUG is off and CELLCAST_API_URL is not on this machine: a site in production "
                "would store what is only simulated."
            )
        self.urls = {each.endpoint: find_url(each, url) for each in WEBHOOKS}
        self.account = Simulator(deliver=self.deliver, now=slow_clock)
        self.account.port, self.account.seed, self.account.show = port, harsh, self.show
        over = Event()
        with ExitStack() as stack, suppress(KeyboardInterrupt):
            stack.callback(over.set)
            try:
                stack.enter_context(self.account)
            except (OSError, OverflowError) as error:
                raise CommandError(
                    f"Port {port} cannot be had ({error}): another cellcast_simulate may have it. "
                    "Choose one by --port."
                ) from None
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self.stdout.write(OPENING.format(account=self.account, site=url))
            self.stdout.flush()  # for whoever reads it through a pipe
            if not conf.webhook_secrets:
                self.show("CELLCAST_WEBHOOK_SECRETS has no usable entry: see cellcast_setup.")
            Thread(target=self.keep_reporting, args=[over], daemon=True).start()
            for line in sys.stdin if sys.stdin and sys.stdin.isatty() else ():
                self.obey(line.strip())
            over.wait()  # without a terminal it only serves
        (sent, lost), (replies, lost_replies), (opt_outs, lost_opt_outs) = self.account.counts()
        self.stdout.write(
            f"A site that lost nothing has {plural(sent, 'message')}, "
            f"{plural(replies, 'reply', 'replies')} and {plural(opt_outs, 'opt-out')}.\n"
            f"Only cellcast_recover could know of {lost}, {lost_replies} and {lost_opt_outs} of "
            "these, or how they ended."
        )

    def keep_reporting(self, over: Event) -> None:
        while not over.wait(0.1):
            self.account.send_reports()

    def obey(self, line: str) -> None:
        """Do what has been typed."""
        found = re.fullmatch(r"(?i)(lost\s+)?(\S+)\s+(.+)", line)
        if line == "help":
            self.stdout.write(HELP)
        elif found is not None and is_phone_number(found[2], "AU"):
            self.account.reply(found[2], found[3], webhook=not found[1])
        elif line:
            self.show(f"Type help, or a number and text: 0491570006 YES. Not: {line}")

    def deliver(self, endpoint: Endpoint, payload: Item) -> bool:
        """Send a webhook, show what the site said, and return whether it has kept it."""
        number = payload.get("contact") or payload["sender" if "message" in payload else "receiver"]
        about = f"{endpoint.label} {number} {payload.get('message', payload.get('status', ''))}"
        url, body = self.urls[endpoint], json.dumps(payload).encode()
        secret = next(iter(conf.webhook_secrets), "")
        response = post_as_cellcast(url, body, secret, TIMEOUT_SECONDS, is_test=False)
        if (diagnosis := diagnose(response)) is None:
            self.show(f"{response.events[0]['outcome']}: {about}", self.style.SUCCESS)
        else:
            self.show(f"not kept: {about}", self.style.ERROR)
            self.stdout.write(fill(printable(f"{diagnosis.problem} {diagnosis.remedy}"), WIDTH))
        return diagnosis is None

    def show(self, text: str, style: Any = str) -> None:
        """Show one line, whatever a stranger has typed."""
        self.stdout.write(style(shorten(printable(text), WIDTH, placeholder="…")))
        self.stdout.flush()
