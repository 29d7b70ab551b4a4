"""A newcomer sends, reacts and respects a STOP, by two pages of the documentation alone."""

import base64
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cellcast_django.payloads import reply_payload
from tests.fake_cellcast import KEY, FakeCellcast, serving
from tests.fresh_project import FreshProject
from tests.newcomers.following import follow, set_up, use_postgresql

pytestmark = pytest.mark.newcomers

CUSTOMER = "+61491570006"
REMIND = "from shop.bookings import *; remind(Booking.objects.create(phone_number='{}', time='9'))"
BOOKINGS = (
    "from shop.models import Booking; "
    "print(*Booking.objects.order_by('pk').values_list('is_confirmed', 'needs_a_call'))"
)

ANSWER = (
    "from cellcast_django.models import *; from cellcast_django.sending import *; "
    "reply = Message.objects.get(); send(reply.contact, 'Until five', answers=reply)"
)
RENAME = (
    "from django.db import connection; connection.cursor().execute('ALTER TABLE {} RENAME TO {}')"
)
WAITING = "print(Message.objects.unhandled().count())"


@pytest.fixture
def cellcast() -> Iterator[FakeCellcast]:
    with serving() as server:
        yield server


@pytest.fixture(params=["Django 5.2, PostgreSQL", "Django 6.1, SQLite"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FreshProject]:
    """An empty project, on the oldest and on the newest Django."""
    if "SQLite" in request.param:
        yield FreshProject(tmp_path, "django>=6.1,<6.2")
    else:
        project = FreshProject(tmp_path, "django>=5.2,<5.3")
        use_postgresql(project, request.getfixturevalue("port"))
        yield project
        assert not (project.folder / "db.sqlite3").exists()


def test_newcomers_booking_is_cancelled_and_stop_respected(
    project: FreshProject, cellcast: FakeCellcast
) -> None:
    follow("docs/getting-started.md", project)
    follow("docs/sending.md", project)
    import_in_ready(project, "bookings")
    send_to(cellcast, project)
    project.manage("makemigrations", "shop")
    set_up(project)

    with project.server() as url:
        shell(project, REMIND.format(CUSTOMER))
        [sent] = cellcast.sent
        with without_bookings(project):
            reply(project, url, "YES")
        reply(project, url, "NO")
        assert shell(project, BOOKINGS) == "(None, False)", "NO waits for YES"

        [yes, _] = pending(project)
        project.manage("cellcast_run_handlers", "--event", yes)
        assert pending(project) == []
        assert shell(project, BOOKINGS) == "(False, False)"

        reply(project, url, "STOP")
        shell(project, REMIND.format(CUSTOMER))
        assert cellcast.sent == [sent]
        assert shell(project, BOOKINGS) == "(False, False) (None, True)"


def test_newcomer_answers_a_reply_without_code(
    project: FreshProject, cellcast: FakeCellcast
) -> None:
    follow("README.md", project)
    follow("docs/sending.md", project, "settings.py")
    send_to(cellcast, project)
    set_up(project)

    with project.server() as url:
        reply(project, url, "Are you open?")
    shell(project, ANSWER)

    [sent] = cellcast.sent
    assert (sent.receiver, sent.body) == (CUSTOMER, "Until five")
    assert shell(project, "from cellcast_django.models import *; " + WAITING) == "0"


def import_in_ready(project: FreshProject, module: str) -> None:
    """Import a module beside the handlers, as the page on sending says."""
    path = project.folder / "shop" / "apps.py"
    code = path.read_text()
    assert "from shop import handlers" in code
    path.write_text(code.replace("import handlers", f"import {module}, handlers"))


def send_to(cellcast: FakeCellcast, project: FreshProject) -> None:
    """Let the fake be the API."""
    project.append("shop/settings.py", f'CELLCAST_API_URL = "{cellcast.url}"\n')
    project.environment["CELLCAST_API_KEY"] = KEY


def shell(project: FreshProject, code: str) -> str:
    """Run Python in the project, and return what it prints."""
    return project.manage("shell", "--verbosity=0", "--command", code).strip()


def reply(project: FreshProject, url: str, text: str, **changes: str) -> None:
    """Send the webhook of a customer's reply, under an id of its own; no Test Send opts out."""
    changes = {"_id": f"reply {text}", "message": text, "sender": CUSTOMER, **changes}
    secret = project.environment["CELLCAST_WEBHOOK_SECRETS"].split()[0]
    headers = {
        "Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}",
        "Content-Type": "application/json",
    }
    body = json.dumps(reply_payload(**changes)).encode()
    request = urllib.request.Request(f"{url}/sms/webhook-receiver", body, headers)  # noqa: S310
    with urllib.request.urlopen(request) as response:  # noqa: S310
        assert response.status == 200


def pending(project: FreshProject) -> list[str]:
    """Return the ids of the events that have a handler left to run, in their order."""
    code = (
        "from cellcast_django.models import WebhookEvent; "
        "print(*WebhookEvent.objects.pending().order_by('pk').values_list('pk', flat=True))"
    )
    return shell(project, code).split()


@contextmanager
def without_bookings(project: FreshProject) -> Iterator[None]:
    """Take the table away, so that the project's handler raises."""
    shell(project, RENAME.format("shop_booking", "away"))
    yield
    shell(project, RENAME.format("away", "shop_booking"))
