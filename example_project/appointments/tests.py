"""How a host project tests its handlers: plain ``TestCase``, and a client that sends webhooks.

A webhook is stored and its handlers are called before the client's method returns, inside the
test's own transaction. What would be sent to Cellcast is in ``self.client.sent``.
"""

from contextlib import nullcontext
from datetime import datetime, timedelta
from http import HTTPStatus
from io import StringIO
from typing import Any
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import SimpleTestCase, TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from cellcast_django.models import Message, WebhookEvent
from cellcast_django.opt_outs import is_opted_out, opt_in
from cellcast_django.sending import NotSentError, OptedOutError
from cellcast_django.testing import WebhookClient, fail_next, mms_payload, reset
from example_project.appointments.answers import read_answer
from example_project.appointments.models import Answer, Appointment
from example_project.appointments.names import Customers
from example_project.appointments.reminders import remind

CUSTOMER = "+61491570006"
TOMORROW = timedelta(days=1)

State = Appointment.State
Reminder = Appointment.Reminder


def report_before_responding(receiver: str, body: str, sender: str, *, reference: str) -> str:
    """Stand in for a send API that is slower than its webhooks."""
    WebhookClient().status(_id="66b5b93b1e2c012dfe964000", receiver=receiver)
    return "66b5b93b1e2c012dfe964000"


@override_settings(
    CELLCAST_WEBHOOK_SECRETS=["cellcast:a-password-for-tests"],
    CELLCAST_SEND_WITH="cellcast_django.testing.pretend_to_send",
)
class WebhookTestCase(TestCase):
    """A test whose ``self.client`` sends what Cellcast would send."""

    client: WebhookClient
    client_class = WebhookClient

    def setUp(self) -> None:
        reset()

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

    def test_answers_are_clear_or_left_to_staff(self) -> None:
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

    def test_names_lead_to_the_latest_appointment(self) -> None:
        make_appointment(customer_name="Anna Ng")
        make_appointment(customer_name="Ben Ng", starts_at=timezone.now() + 3 * TOMORROW)
        make_appointment(customer_name="Anna Ng", starts_at=timezone.now() + 2 * TOMORROW)
        latest = Appointment.objects.get(customer_name="Ben Ng")

        found = Customers().names([CUSTOMER, "+61491570157"])

        self.assertEqual(found, {CUSTOMER: ("Anna Ng / Ben Ng", latest.get_admin_url())})

    def test_references_lead_to_their_appointments(self) -> None:
        appointment = make_appointment()

        found = Customers().references([appointment.reference, "appointment-0", "order-1", "x"])

        expected = {appointment.reference: (str(appointment), appointment.get_admin_url())}
        self.assertEqual(found, expected)

    def test_appointment_leads_to_the_conversation(self) -> None:
        appointment = make_appointment()
        self.client.force_login(get_user_model().objects.create_superuser("admin"))
        self.assertNotContains(self.client.get(appointment.get_admin_url()), "/conversation/")
        message = Message.objects.record_sent("id", receiver=CUSTOMER)

        page = self.client.get(appointment.get_admin_url())

        url = reverse("admin:cellcast_django_message_conversation", args=[message.pk])
        self.assertContains(page, url)

    def test_texts_to_answer_with_name_the_next_appointment(self) -> None:
        general = Customers().answers(CUSTOMER)
        make_appointment(state=State.CANCELLED)
        make_appointment(starts_at=timezone.now() - TOMORROW)
        make_appointment(phone_number="+61491570157")
        self.assertEqual(Customers().answers(CUSTOMER), general)
        make_appointment(starts_at=timezone.now() + 3 * TOMORROW)
        appointment = make_appointment(starts_at=timezone.now() + 2 * TOMORROW)

        first, *others = Customers().answers(CUSTOMER)

        self.assertIn(f"{timezone.localtime(appointment.starts_at):%A %d %B at %H:%M}", first)
        self.assertEqual(others, general)

    def test_number_is_found_by_part_of_the_name(self) -> None:
        make_appointment(customer_name="Mrs Kim Lee")
        make_appointment(customer_name="Mrs Kim Lee", starts_at=timezone.now() + 2 * TOMORROW)

        self.assertEqual(list(Customers().search("kim")), [CUSTOMER])
        self.assertEqual(list(Customers().search("jo")), [])

    def test_number_is_found_by_words_in_any_order(self) -> None:
        make_appointment(customer_name="Mrs Chloé Grace Lee")

        for words in ("Mrs Lee", "lee grace", "grace  lee", "chloe", "CHLOÉ", "Chloe\u0301"):
            with self.subTest(words):
                self.assertEqual(list(Customers().search(words)), [CUSTOMER])
        self.assertEqual(list(Customers().search("Lee Kim")), [])

    def test_renamed_customer_is_found_by_the_new_name(self) -> None:
        appointment = make_appointment(customer_name="Kim")
        appointment.customer_name = "Zoë"
        appointment.save(update_fields=["customer_name"])

        self.assertEqual(list(Customers().search("zoe")), [CUSTOMER])
        self.assertEqual(list(Customers().search("kim")), [])


class ReplyTests(WebhookTestCase):
    """A customer's reply confirms or cancels the appointment."""

    def setUp(self) -> None:
        super().setUp()
        self.appointment = make_appointment()
        remind(self.appointment)

    def test_yes_confirms_the_appointment(self) -> None:
        self.assert_taken(self.client.reply(sender=CUSTOMER, message="Yes, I'll come"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CONFIRMED)
        self.assertFalse(self.appointment.needs_attention)

    def test_no_cancels_with_any_spelling_of_the_number(self) -> None:
        self.assert_taken(self.client.reply(sender="0491 570 006", message="no thanks"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CANCELLED)

    def test_unclear_answer_is_left_to_staff(self) -> None:
        self.client.reply(sender=CUSTOMER, message="not sure")

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)
        self.assertTrue(self.appointment.needs_attention)

    def test_only_a_clear_answer_is_marked_handled(self) -> None:
        self.client.reply(sender=CUSTOMER, message="not sure")
        self.assertEqual(Message.objects.unhandled().count(), 1)

        self.client.reply(sender=CUSTOMER, message="yes")
        self.assertEqual(Message.objects.unhandled().get().body, "not sure")

    def test_yes_below_a_picture_confirms_and_a_picture_alone_is_left_to_staff(self) -> None:
        for text, state in (("", State.PLANNED), ("Yes, here is the form", State.CONFIRMED)):
            self.assert_taken(self.client.reply(**mms_payload(sender=CUSTOMER, message=text)))

            self.appointment.refresh_from_db()
            self.assertEqual(self.appointment.state, state)
            self.assertEqual(self.appointment.needs_attention, not text)
        self.assertEqual(len(Message.objects.inbound().latest("pk").media), 1)

    def test_last_answer_counts(self) -> None:
        for text in ("no", "hmm, not sure", "YES please"):
            self.client.reply(sender=CUSTOMER, message=text)

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CONFIRMED)
        self.assertFalse(self.appointment.needs_attention)

    def test_retried_answer_does_not_undo_a_later_one(self) -> None:
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

    def test_answer_changes_the_appointment_of_the_answered_reminder(self) -> None:
        later = make_appointment(starts_at=timezone.now() + 7 * TOMORROW)
        remind(later)

        # It says which one it answers, although another came later.
        self.client.reply(
            sender=CUSTOMER, message="no", _id=reminder_of(self.appointment).cellcast_id
        )

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.CANCELLED)

    def test_reply_without_a_sender_is_left_to_staff(self) -> None:
        message_id = reminder_of(self.appointment).cellcast_id
        self.client.reply(sender="", message="no", _id=message_id)

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)
        self.assertEqual(Message.objects.unhandled().count(), 1)

    def test_late_reply_is_left_to_staff(self) -> None:
        Appointment.objects.update(starts_at=timezone.now() - TOMORROW)

        self.client.reply(sender=CUSTOMER, message="yes")

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)
        self.assertEqual(Message.objects.unhandled().count(), 1)

    def test_other_answer_changes_the_appointment_of_the_last_reminder(self) -> None:
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

    def test_strangers_reply_changes_nothing(self) -> None:
        self.assert_taken(self.client.reply(sender="+61491570156", message="NO"))

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.state, State.PLANNED)


class ReminderTests(WebhookTestCase):
    """A delivery report marks the reminder."""

    def setUp(self) -> None:
        super().setUp()
        self.appointment = make_appointment()

    def report(self, status: str, **changes: Any) -> None:
        """Send a delivery report on the reminder."""
        changes = {"_id": reminder_of(self.appointment).cellcast_id, "receiver": CUSTOMER} | changes
        self.assert_taken(self.client.status(status=status, **changes))
        self.appointment.refresh_from_db()

    def test_sent_reminder_is_recorded(self) -> None:
        remind(self.appointment)

        [sent] = self.client.sent
        self.assertEqual(sent.receiver, CUSTOMER)
        self.assertIn("Hi Kim, see you on", sent.body)
        self.assertEqual(sent.reference, self.appointment.reference)
        self.assertEqual(reminder_of(self.appointment).body, sent.body)
        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_reminder_goes_out_from_a_number_that_can_be_answered(self) -> None:
        remind(self.appointment)

        self.assertEqual(self.client.sent[0].sender, "")

    def test_number_may_be_typed_in_any_spelling(self) -> None:
        appointment = make_appointment(phone_number="0491 570 006")

        self.assertEqual(appointment.phone_number, CUSTOMER)
        for typed, is_valid in (("(04) 9157 0006", True), ("Kim", False), ("12", False)):
            with self.subTest(typed):
                appointment.phone_number = typed
                with nullcontext() if is_valid else self.assertRaises(ValidationError):
                    appointment.full_clean()

    def test_refused_reminder_can_be_sent_again(self) -> None:
        fail_next(NotSentError("Your balance is too low."))

        with self.assertRaises(NotSentError):
            remind(self.appointment)

        self.assertFalse(Message.objects.exists())
        remind(self.appointment)
        self.assertEqual(len(self.client.sent), 1)

    def test_delivered_report_marks_the_reminder(self) -> None:
        remind(self.appointment)

        self.report("delivered")

        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    def test_failed_report_marks_the_reminder(self) -> None:
        remind(self.appointment)

        for status in ("expired", "queued"):
            self.report(status)

        self.assertEqual(self.appointment.reminder, Reminder.FAILED)

    def test_failed_report_keeps_its_reason(self) -> None:
        remind(self.appointment)

        self.report("failed", reason="no such number")

        self.assertEqual(self.appointment.reminder, Reminder.FAILED)
        message = Message.objects.get()
        self.assertEqual(message.status_history.get().reason, "no such number")

    def test_reminder_stays_sent_without_a_final_status(self) -> None:
        remind(self.appointment)

        self.report("queued")

        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_reminder_stays_delivered_after_a_late_failure(self) -> None:
        remind(self.appointment)

        for status in ("delivered", "failed"):
            self.report(status)

        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    @override_settings(CELLCAST_SEND_WITH=f"{__name__}.report_before_responding")
    def test_report_before_the_send_apis_response_counts(self) -> None:
        remind(self.appointment)

        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.DELIVERED)

    def test_status_of_a_reply_does_not_change_the_reminder(self) -> None:
        remind(self.appointment)
        # They share the id.
        reply = {"_id": reminder_of(self.appointment).cellcast_id, "sender": CUSTOMER}
        self.assert_taken(self.client.reply(**reply, status="received"))

        self.assert_taken(self.client.reply(**reply, status="failed"))

        self.assertEqual(Message.objects.inbound().get().status, "failed")
        self.appointment.refresh_from_db()
        self.assertEqual(self.appointment.reminder, Reminder.SENT)

    def test_report_on_another_message_does_not_change_the_reminder(self) -> None:
        remind(self.appointment)

        self.report("failed", _id="66b5b93b1e2c012dfe964000")

        self.assertEqual(self.appointment.reminder, Reminder.SENT)


class OptOutTests(WebhookTestCase):
    """Customers who opt out get no more reminders."""

    def assert_gets_no_reminder(self) -> None:
        """Check that nothing is sent to the customer."""
        with self.assertRaises(OptedOutError):
            remind(make_appointment())

        self.assertEqual(self.client.sent, [])

    def test_opt_out_webhook_ends_reminders(self) -> None:
        self.assert_taken(self.client.opt_out(contact="491570006"))
        self.assert_taken(self.client.opt_out(contact="491570006"), "duplicate")

        self.assert_gets_no_reminder()

    def test_stop_reply_ends_reminders(self) -> None:
        self.assert_taken(self.client.reply(sender=CUSTOMER, message="Stop."))

        self.assert_gets_no_reminder()

    def test_opt_out_that_only_cellcast_knows_ends_reminders(self) -> None:
        fail_next(OptedOutError("unsubscribed"))

        self.assert_gets_no_reminder()
        self.assert_gets_no_reminder()

        self.assertTrue(is_opted_out(CUSTOMER))

    def test_customer_who_opts_in_again_is_reminded(self) -> None:
        self.client.opt_out(contact="491570006")
        opt_in(CUSTOMER, note="signed up again at the counter")

        remind(make_appointment())

        self.assertTrue(Message.objects.outbound().exists())


class FailureTests(WebhookTestCase):
    """What happens when a handler raises."""

    def test_failing_handler_is_called_again(self) -> None:
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
        self.assertEqual(event.calls.failing().get().error, "ConnectionError: lost")

        call_command("cellcast_run_handlers", "--event", str(event.pk), stdout=StringIO())

        appointment.refresh_from_db()
        self.assertEqual(appointment.state, State.CONFIRMED)


class AdminTests(WebhookTestCase):
    """The pages that staff see."""

    def test_appointment_page_shows_the_conversation(self) -> None:
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

    def test_list_marks_appointments_needing_a_call(self) -> None:
        make_appointment(customer_name="Ann", needs_attention=True)
        make_appointment(customer_name="Bob")
        self.client.force_login(get_user_model().objects.create_superuser("staff"))

        page = self.client.get(reverse("admin:appointments_appointment_changelist"))

        self.assertContains(page, "please call", count=1)

    def test_appointment_is_named_by_time_and_customer(self) -> None:
        starts_at = datetime(2026, 11, 24, 9, 30, tzinfo=timezone.get_default_timezone())
        appointment = make_appointment(starts_at=starts_at)
        appointment.refresh_from_db()

        self.assertEqual(str(appointment), "24 Nov 09:30, Kim")
