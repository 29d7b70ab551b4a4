"""The part of the overview about what never arrived."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cellcast_django.factories import MessageFactory
from cellcast_django.models import CommandRun
from cellcast_django.recovery import recover
from tests.admin_pages import staff
from tests.fake_cellcast import FakeCellcast, Fault
from tests.html import addresses, every, section, words

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

HOUR = timedelta(hours=1)


@pytest.fixture
def reader(db: None) -> Client:
    """The developer on call."""
    return staff("view_message", "view_webhookevent", "rerun_webhookevent")


def part_of(client: Client) -> str:
    """The text of the part."""
    html = client.get(reverse("admin:cellcast_django_overview")).content.decode()
    return words(section(html, "recovery")).removeprefix("What may not have arrived").strip()


def test_messages_without_a_report_are_counted_and_listed(reader: Client) -> None:
    overview = reverse("admin:cellcast_django_overview")
    assert "cellcast-silent" not in reader.get(overview).text
    silent = MessageFactory.create(status="", created_at=timezone.now() - 7 * HOUR)
    MessageFactory.create(status="", created_at=timezone.now() - HOUR)
    MessageFactory.create(delivered=True, created_at=timezone.now() - 7 * HOUR)
    assert part_of(reader).startswith("1 message of this week")
    html = reader.get(overview).text
    [address] = [each for each in addresses(html) if each.endswith("status=silent")]
    listed = reader.get(address).context["cl"].result_list
    assert list(listed) == [silent]


def test_page_shows_the_last_recovery_and_what_it_found(
    reader: Client, fake_cellcast: FakeCellcast
) -> None:
    for number in range(2):
        fake_cellcast.add_reply(timezone.now() - HOUR, body=str(number))
    fake_cellcast.add_report("1", timezone.now() - HOUR)
    fake_cellcast.faults.extend([*[None] * 3, Fault(status=404)])
    recover()
    CommandRun.objects.update(ran_at=timezone.now() - 2 * HOUR)
    part = part_of(reader)
    assert "Replies 2 of 2" in part
    assert "Delivery reports 1 of 1" in part
    assert "Opt-outs 0" not in part
    assert "2 h ago" in part


def test_list_that_was_not_read_to_its_end_is_marked(reader: Client) -> None:
    found = {"seen": 3_000, "missing": 1, "error": True, "is_read": True}
    CommandRun.record(CommandRun.Command.RECOVER, {"replies": found})
    html = reader.get(reverse("admin:cellcast_django_overview")).content.decode()
    [card] = every(section(html, "recovery"), "li[h3]")
    assert "1 of 3,000" in words(card)
    assert every(card, "p[@class='quiet']")


def test_recovery_part_requires_permission_to_view_messages() -> None:
    client = staff("view_webhookevent")
    html = client.get(reverse("admin:cellcast_django_overview")).content.decode()
    assert not every(html, "*[@id='cellcast-recovery-heading']")
