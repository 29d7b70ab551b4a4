"""The part of the overview, and of the setup page, about what never arrived."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import MessageFactory
from cellcast_django.models import CommandRun, Message
from cellcast_django.recovery import recover
from tests.admin_pages import staff
from tests.fake_cellcast import FakeCellcast, Fault
from tests.html import addresses, section, words

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

HOUR = timedelta(hours=1)


@pytest.fixture
def reader(db: None) -> Client:
    """A member of staff who may view messages."""
    return staff("view_message")


def part_of(client: Client, page: str = "overview") -> str:
    """The text of the part."""
    html = client.get(reverse(f"admin:cellcast_django_{page}")).content.decode()
    return words(section(html, "recovery")).removeprefix("Missed by the webhooks").strip()


def test_messages_without_a_report_are_counted_and_listed(reader: Client) -> None:
    silent = MessageFactory.create(status="", created_at=timezone.now() - 7 * HOUR)
    MessageFactory.create(status="", created_at=timezone.now() - HOUR)
    MessageFactory.create(delivered=True, created_at=timezone.now() - 7 * HOUR)
    assert part_of(reader).startswith("1 … no report")

    html = reader.get(reverse("admin:cellcast_django_overview")).content.decode()
    [address] = [each for each in addresses(html) if each.endswith("status=silent")]
    listed = reader.get(address).context["cl"].result_list
    assert list(listed) == [silent]


def test_nothing_is_silent(reader: Client) -> None:
    assert part_of(reader).startswith("0 • no report")


def test_page_without_a_key_explains_recovery(reader: Client, settings: Any) -> None:
    assert part_of(reader).endswith(
        "Set CELLCAST_API_KEY , and manage.py cellcast_recover fetches what the webhooks missed."
    )


def test_page_points_out_recovery_never_ran(reader: Client, fake_cellcast: FakeCellcast) -> None:
    assert part_of(reader).endswith(
        "manage.py cellcast_recover has not run yet. Schedule it to run regularly."
    )


def test_last_recovery_and_what_it_found(reader: Client, fake_cellcast: FakeCellcast) -> None:
    for number in range(2):
        fake_cellcast.add_reply(timezone.now() - HOUR, body=str(number))
    fake_cellcast.add_report("1", timezone.now() - HOUR)
    fake_cellcast.faults.extend([None, None, Fault(status=404)])
    recover()
    CommandRun.objects.update(ran_at=timezone.now() - 2 * HOUR)
    part = part_of(reader)
    assert "Replies 2 of 2 were missing" in part
    assert "Delivery reports 1 of 1 was missing" in part
    assert "Opt-outs not read" in part
    assert "manage.py cellcast_recover last ran 2 hours ago" in part


def test_set_up_page_says_when_recovery_last_ran() -> None:
    person = staff("set_up_webhookevent")
    assert part_of(person, "setup").startswith("Set CELLCAST_API_KEY")
    CommandRun.record(
        CommandRun.Command.RECOVER,
        {"replies": {"seen": 3, "missing": 1, "error": True, "is_read": True}},
    )
    part = part_of(person, "setup")
    assert part.startswith("manage.py cellcast_recover last ran just now")
    assert part.endswith("Replies 1 of 3 was missing The list could not be read completely.")


def test_page_leaves_out_lists_not_recovered(reader: Client) -> None:
    found = {"seen": 1_234, "missing": 0, "error": False, "is_read": True}
    CommandRun.record(CommandRun.Command.RECOVER, {"statuses": found})
    part = part_of(reader)
    assert "Delivery reports 0 of 1,234 were missing" in part
    assert "Replies" not in part
    assert not Message.objects.exists()


def test_recovery_part_needs_permission_to_view_messages() -> None:
    client = staff("view_webhookevent")
    html = client.get(reverse("admin:cellcast_django_overview")).content.decode()
    assert "Missed by the webhooks" not in html
