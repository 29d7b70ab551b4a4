"""A process of its own that answers customers, as a second worker of a web server does.

Run as ``python -m tests.answering_process DATABASE SESSION``. Each line of its input is a form, its
URL included; each line of its output says how many seconds that took and what level was said.
"""

import json
import os
import sys
import time
from pathlib import Path

SENDING_SECONDS = 0.4


def send(receiver: str, body: str, sender: str) -> str:
    """Send slowly, as ``CELLCAST_SEND_WITH`` of a host: a line in the file that the tests name."""
    with Path(os.environ["SENT"]).open("a", encoding="utf-8") as sent:
        sent.write(f"{body}\n")
    time.sleep(SENDING_SECONDS)
    return f"{os.getpid()}-{time.monotonic_ns()}"


def main(database: str, session: str) -> None:
    """Answer until there are no more lines."""
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    settings.CELLCAST_SEND_WITH = f"{__name__.replace('__main__', 'tests.answering_process')}.send"
    import django

    django.setup()
    from django.contrib.messages import get_messages
    from django.test import Client

    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = session
    print("ready", flush=True)
    for line in sys.stdin:
        form = json.loads(line)
        started = time.monotonic()
        response = client.post(form.pop("url"), form)
        seconds = time.monotonic() - started
        levels = [message.level_tag for message in get_messages(response.wsgi_request)]
        print(json.dumps([response.status_code, seconds, levels]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
