"""How a host project tests its handlers: plain ``TestCase``, and a client that sends webhooks.

Nothing has to be mocked. A webhook is stored and its handlers are called before the client's method
returns, inside the test's own transaction.
"""

from datetime import datetime, timedelta
from http import HTTPStatus
from io import StringIO
from typing import Any
from unittest.mock import patch

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import SimpleTestCase, TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.opt_outs import opt_in
from cellcast_django.sending import OptedOutError
from cellcast_django.testing import WebhookClient, mms_payload
from example_project.appointments.answers import read_answer
from example_project.appointments.models import Answer, Appointment
from example_project.appointments.names import names_of, numbers_of
from example_project.appointments.reminders import remind

CUSTOMER = "+61491570006"
TOMORROW = timedelta(days=1)

State = Appointment.State
Reminder = Appointment.Reminder


@override_settings(CELLCAST_WEBHOOK_SECRETS=["cellcast:a-password-for-tests"])
class WebhookTestCase(TestCase):
    """A test whose ``self.client`` sends what Cellcast would send."""

    client: WebhookClient
    client_class = WebhookClient

    def assert_taken(self, response: Any, outcome: str = "stored") -> None:
        """Check that the response is 200, and the outcome of its one event."""
        self.assertEqual(response.status_code, HTTPStatus.OK)
        [event] = response.json()["events"]
        self.assertEqual(event["outcome"], outcome)


def make_appointment(**values: Any) -> Appointment:
    """Store an appointment for tomorrow."""
    defaults = {
        "customer_name": "Kim",
        "phone_number": CUSTOMER,
        "starts_at": timezone.now() + TOMORROW,
    }
    return Appointment.objects.create(**defaults | values)


def reminder_of(appointment: Appointment) -> Message:
    """Return what was sent about the appointment."""
    return Message.objects.with_reference(appointment.reference).get()


class ReadAnswerTests(SimpleTestCase):
    """What counts as a yes and as a no."""

    def test_clear_answers_and_those_for_a_person(self) -> None:
        examples = {
            Answer.YES: ["YES", "yes!", "Yes, I'll come", " ok 👍", "Y", "Yep.\nSee you"],
            Answer.NO: ["NO", "No thanks", "NOPE can't", "nah, not today", "Cancel please"],
            Answer.UNCLEAR: [
                "not sure",
                "No worries, I'll be there",
                "Yes, but can it be later",
                "Yes, I can’t come",
                "No, yes!",
                "yes?",
                "Yesterday I called",
                "Nobody told me",
                "STOP",
                "👍",
                "",
            ],
        }
        for answer, texts in examples.items():
            for text in texts:
                with self.subTest(text):
                    self.assertEqual(read_answer(text), answer)


class NamesTests(TestCase):
    """The admin shows whose number it is."""

    def test_name_of_the_latest_appointment(self) -> None:
        make_appointment(customer_name="Kim")
        make_appointment(customer_name="Mrs Kim Lee", starts_at=timezone.now() + 2 * TOMORROW)

        self.assertEqual(names_of([CUSTOMER, "+61491570157"]), {CUSTOMER: "Mrs Kim Lee"})

    def test_number_is_found_by_part_of_the_name(self) -> None:
        make_appointment(customer_name="Mrs Kim Lee")
        make_appointment(customer_name="Mrs Kim Lee", starts_at=timezone.now() + 2 * TOMORROW)

        self.assertEqual(list(numbers_of("kim")), [CUSTOMER])
        self.assertEqual(list(numbers_of("jo")), [])


class ReplyTests(WebhookTestCase):
    """A customer's reply confirms or cancels the appointment."""

    def setUp(self) -> None:
        self.appointment = make_appointment()
        remind(self.appointment)

    def test_yes_confirms(self) -> None:
        self.assert_taken(self.client.reply(sender=CUSTOMER, message="Yes, I'll come"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CONFIRMED)
        self.assertFalse(self.appointment.needs_attention)

    def test_no_cancels_whatever_the_spelling_of_the_number(self) -> None:
        self.assert_taken(self.client.reply(sender="0491 570 006", message="no thanks"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CANCELLED)

    def test_an_unclear_answer_is_for_a_person(self) -> None:
        self.client.reply(sender=CUSTOMER, message="not sure")

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)
        self.assertTrue(self.appointment.needs_attention)

    def test_only_a_clear_answer_needs_nobody_any_more(self) -> None:
        self.client.reply(sender=CUSTOMER, message="not sure")
        self.assertEqual(Message.objects.unhandled().count(), 1)

        self.client.reply(sender=CUSTOMER, message="yes")
        self.assertEqual(Message.objects.unhandled().count(), 0)

    def test_a_yes_below_a_picture_confirms_and_a_picture_alone_is_for_a_person(self) -> None:
        for text, state in (("", State.PLANNED), ("Yes, here is the form", State.CONFIRMED)):
            self.assert_taken(self.client.reply(**mms_payload(sender=CUSTOMER, message=text)))

            self.appointment.refresh_from_db()
            self.assertEqual(self.appointment.state, state)
            self.assertEqual(self.appointment.needs_attention, not text)
        self.assertEqual(len(Message.objects.inbound().latest("pk").media), 1)

    def test_the_last_answer_counts(self) -> None:
        for text in ("no", "hmm, not sure", "YES please"):
            self.client.reply(sender=CUSTOMER, message=text)

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CONFIRMED)
        self.assertFalse(self.appointment.needs_attention)

    def test_an_answer_that_has_to_be_retried_does_not_undo_a_later_one(self) -> None:
        self.client.raise_handler_errors = False  # as Cellcast sees it: a 200
        with (
            patch.object(Appointment, "take_answer", side_effect=ConnectionError("lost")),
            self.assertLogs("cellcast_django", "ERROR"),
        ):
            self.client.reply(sender=CUSTOMER, message="no")
        self.client.reply(sender=CUSTOMER, message="yes")

        [no, _yes] = WebhookEvent.objects.pending().order_by("pk")  # the second one waits
        call_command("cellcast_run_handlers", "--event", str(no.pk), stdout=StringIO())

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CONFIRMED)
        self.assertFalse(WebhookEvent.objects.pending().exists())

    def test_the_appointment_whose_reminder_was_answered_is_meant(self) -> None:
        later = make_appointment(starts_at=timezone.now() + 7 * TOMORROW)
        remind(later)

        # It says which one it answers, although another came later.
        self.client.reply(
            sender=CUSTOMER, message="no", _id=reminder_of(self.appointment).cellcast_id
        )

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CANCELLED)

    def test_a_reply_that_comes_too_late_is_for_a_person(self) -> None:
        Appointment.objects.update(starts_at=timezone.now() - TOMORROW)

        self.client.reply(sender=CUSTOMER, message="yes")

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)
        self.assertEqual(Message.objects.unhandled().count(), 1)

    def test_the_appointment_of_the_last_reminder_is_meant_otherwise(self) -> None:
        later = make_appointment(starts_at=timezone.now() + 7 * TOMORROW)
        not_reminded = make_appointment()
        remind(later)

        self.client.reply(sender=CUSTOMER, message="yes", _id="66b5b93b1e2c012dfe964000")

        for appointment, state in [
            (later, State.CONFIRMED),
            (self.appointment, State.PLANNED),
            (not_reminded, State.PLANNED),
        ]:
            appointment.refresh_from_db()
            self.assertEqual(appointment.state, state)

    def test_the_reply_of_a_stranger_changes_nothing(self) -> None:
        self.assert_taken(self.client.reply(sender="+61491570156", message="NO"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)


class ReminderTests(WebhookTestCase):
    """A delivery report marks the reminder."""

    def setUp(self) -> None:
        self.appointment = make_appointment()

    def report(self, status: str, **changes: Any) -> None:
        """Send a delivery report on the reminder."""
        changes = {"_id": reminder_of(self.appointment).cellcast_id, "receiver": CUSTOMER} | changes
        self.assert_taken(self.client.status(status=status, **changes))
        self.appointment.refresh_from_db()

    def test_what_was_sent_is_recorded(self) -> None:
        remind(self.appointment)

        self.assertIn("Hi Kim, see you on", reminder_of(self.appointment).body)
        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_delivered(self) -> None:
        remind(self.appointment)

        self.report("delivered")

        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    def test_failed(self) -> None:
        remind(self.appointment)

        for status in ("expired", "queued"):
            self.report(status)

        self.assertEqual(self.appointment.reminder, Reminder.FAILED)

    def test_failed_for_a_reason(self) -> None:
        remind(self.appointment)

        self.report("failed", reason="no such number")

        self.assertEqual(self.appointment.reminder, Reminder.FAILED)
        message = Message.objects.get()
        self.assertEqual(message.status_history.get().reason, "no such number")

    def test_still_sent_while_nothing_final_is_known(self) -> None:
        remind(self.appointment)

        self.report("queued")

        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_delivered_stays_so_when_reports_overtake_each_other(self) -> None:
        remind(self.appointment)

        for status in ("delivered", "failed"):
            self.report(status)

        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    def test_a_report_that_comes_before_the_answer_of_the_send_api(self) -> None:
        def send_slowly(receiver: str, body: str, sender: str) -> str:
            self.client.status(_id="66b5b93b1e2c012dfe964000", receiver=receiver)
            return "66b5b93b1e2c012dfe964000"

        with patch(settings.CELLCAST_SEND_WITH, send_slowly):
            remind(self.appointment)

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    def test_a_report_on_the_reply_says_nothing_about_the_reminder(self) -> None:
        remind(self.appointment)
        # They share the id.
        reply = {"_id": reminder_of(self.appointment).cellcast_id, "sender": CUSTOMER}
        self.assert_taken(self.client.reply(**reply, status="received"))

        self.assert_taken(self.client.reply(**reply, status="failed"))

        self.assertEqual(Message.objects.inbound().get().status, "failed")
        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_a_report_on_a_message_that_is_no_reminder(self) -> None:
        remind(self.appointment)

        self.report("failed", _id="66b5b93b1e2c012dfe964000")

        self.assertEqual(self.appointment.reminder, Reminder.SENT)


class OptOutTests(WebhookTestCase):
    """Customers who opt out get no more reminders."""

    def assert_gets_no_reminder(self) -> None:
        """Check that nothing is sent to the customer."""
        with self.assertRaises(OptedOutError):
            remind(make_appointment())

        self.assertFalse(Message.objects.outbound().exists())

    def test_by_cellcasts_webhook(self) -> None:
        self.assert_taken(self.client.opt_out(contact="491570006"))
        self.assert_taken(self.client.opt_out(contact="491570006"), "duplicate")

        self.assert_gets_no_reminder()

    def test_by_a_reply(self) -> None:
        self.assert_taken(self.client.reply(sender=CUSTOMER, message="Stop."))

        self.assert_gets_no_reminder()

    def test_a_customer_who_signs_up_again_is_reminded(self) -> None:
        self.client.opt_out(contact="491570006")
        opt_in(CUSTOMER, note="signed up again at the counter")

        remind(make_appointment())

        self.assertTrue(Message.objects.outbound().exists())


class FailureTests(WebhookTestCase):
    """What happens when a handler raises."""

    def test_the_webhook_is_taken_and_the_handler_is_called_again(self) -> None:
        appointment = make_appointment()
        remind(appointment)
        self.client.raise_handler_errors = False  # as Cellcast sees it: a 200

        with (
            patch.object(Appointment, "take_answer", side_effect=ConnectionError("lost")),
            self.assertLogs("cellcast_django", "ERROR"),
        ):
            response = self.client.reply(sender=CUSTOMER, message="yes")

        self.assert_taken(response)
        event = WebhookEvent.objects.pending().get()
        self.assertEqual(list(event.handler_errors().values()), ["ConnectionError: lost"])

        call_command("cellcast_run_handlers", "--event", str(event.pk), stdout=StringIO())

        appointment.refresh_from_db()
        self.assertEqual(appointment.state, State.CONFIRMED)


class AdminTests(WebhookTestCase):
    """The pages that staff see."""

    def test_an_appointment_shows_the_conversation(self) -> None:
        appointment = make_appointment()
        remind(appointment)
        self.client.reply(sender=CUSTOMER, message="<b>YES</b>")
        staff = get_user_model().objects.create_superuser("staff")
        self.client.force_login(staff)

        page = self.client.get(
            reverse("admin:appointments_appointment_change", args=[appointment.pk])
        )

        self.assertContains(page, "inbound: <bdi>&lt;b&gt;YES&lt;/b&gt;</bdi>")
        self.assertContains(page, "Hi Kim, see you on")

    def test_the_list_shows_where_a_person_has_to_call(self) -> None:
        make_appointment(customer_name="Ann", needs_attention=True)
        make_appointment(customer_name="Bob")
        self.client.force_login(get_user_model().objects.create_superuser("staff"))

        page = self.client.get(reverse("admin:appointments_appointment_changelist"))

        self.assertContains(page, "please call", count=1)

    def test_names(self) -> None:
        starts_at = datetime(2026, 11, 24, 9, 30, tzinfo=timezone.get_default_timezone())
        appointment = make_appointment(starts_at=starts_at)
        appointment.refresh_from_db()

        self.assertEqual(str(appointment), "24 Nov 09:30, Kim")
