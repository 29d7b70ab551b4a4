"""A process of its own that answers customers, as a second worker of a web server does.

Run as ``python -m tests.answering_process DATABASE SESSION``. Each line of its input is a form, its
URL included; each line of its output is the status of the response.
"""

import json
import os
import sys
import time
from pathlib import Path

LONGEST_SECONDS = 60


def send(receiver: str, body: str, sender: str, *, reference: str) -> str:
    """Send as ``CELLCAST_SEND_WITH`` of a host does: until the tests let it arrive.

    The text becomes a line of the file "sent"; it arrives when there is a file of its name.
    """
    folder = Path(os.environ["SMS_FOLDER"])
    with (folder / "sent").open("a", encoding="utf-8") as sent:
        sent.write(f"{body}\n")
    end = time.monotonic() + LONGEST_SECONDS
    while not (folder / body).exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    return f"{os.getpid()}-{time.monotonic_ns()}"


def main(database: str, session: str) -> None:
    """Answer until there are no more lines."""
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    settings.CELLCAST_SEND_WITH = f"{__name__.replace('__main__', 'tests.answering_process')}.send"
    import django

    django.setup()
    from django.test import Client

    import tests.disk  # noqa: F401

    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = session
    print("ready", flush=True)
    for line in sys.stdin:
        form = json.loads(line)
        print(client.post(form.pop("url"), form).status_code, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
