from datetime import timedelta
from io import StringIO

from cellcast_django.models import Message
from cellcast_django.sending import NotSentError, OptedOutError
from cellcast_django.testing import WebhookClient, fail_next, reset, sent
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.management import call_command
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone
from shop.models import Absence, Pupil
from shop.roles import make_campus_groups
from shop.tasks import ask
from shop.teams import TEAMS

NORTH, SOUTH = (own_number for own_number, _ in TEAMS.values())


class AbsenceLineTests(TestCase):
    def setUp(self):
        reset()
        self.cellcast = WebhookClient()

    def miss(self, name, own_number=NORTH):
        values = {"name": name, "own_number": own_number, "phone_number": "(0491) 570-006"}
        absence = Absence.objects.create(pupil=Pupil.objects.create(**values))
        call_command("follow_up")
        return absence

    def reply(self, text, own_number=NORTH):
        self.cellcast.reply(sender="0491570006", receiver=own_number, message=text, _id=text)

    def reasons(self):
        return list(Absence.objects.order_by("pk").values_list("reason", flat=True))

    def test_reply_is_about_the_campus_that_asked(self):
        self.miss("Ada", NORTH)
        self.miss("Bo", SOUTH)
        self.reply("Sick in bed", NORTH)
        self.assertEqual(self.reasons(), ["sick", ""])
        self.reply("dentist", SOUTH)
        self.assertEqual(self.reasons(), ["sick", "appointment"])
        self.assertEqual([each.sender for each in sent], [NORTH, SOUTH])

    def test_reply_to_two_texts_says_both_or_waits(self):
        self.miss("Ada")
        self.miss("Bo")
        self.reply("sick")
        self.reply("Who is this? Please no more texts")
        self.assertEqual(self.reasons(), ["", ""])
        self.reply("both are sick")
        self.assertEqual(self.reasons(), ["sick", "sick"])
        self.assertEqual(Message.objects.unhandled().count(), 2)

    def test_refused_text_is_sent_by_the_next_run(self):
        fail_next(NotSentError("Too many requests."))
        self.miss("Ada")
        call_command("follow_up")
        call_command("follow_up")
        self.assertEqual(len(sent), 1)

    def test_text_that_may_have_gone_is_not_sent_again(self):
        fail_next(TimeoutError())
        absence = self.miss("Ada")
        ask.call(absence.pk)
        self.assertEqual(len(sent), 0)

    def test_campus_phones_whoever_got_nothing(self):
        self.miss("Ada")
        self.cellcast.status(_id=Message.objects.get().cellcast_id, status="failed")
        fail_next(OptedOutError())
        self.miss("Bo", SOUTH)
        self.assertEqual([each.to for each in mail.outbox], [[each[1]] for each in TEAMS.values()])

    def test_campus_phones_whoever_does_not_answer(self):
        self.miss("Ada")
        self.assertEqual(mail.outbox, [])
        Absence.objects.update(asked_at=timezone.now() - timedelta(hours=1))
        call_command("follow_up")
        call_command("follow_up")
        self.assertEqual(len(mail.outbox), 1)

    def test_export_has_reasons_and_statuses(self):
        self.miss("Ada")
        self.reply("sick")
        self.cellcast.status(_id=Message.objects.outbound().get().cellcast_id, status="delivered")
        file = StringIO()
        call_command("export_absences", stdout=file)
        self.assertEqual(file.getvalue(), "North,Ada,sick,delivered\r\n")

    def test_office_sees_its_own_campus_by_names(self):
        make_campus_groups()
        ann = User.objects.create_user("ann", is_staff=True)
        ann.groups.add(Group.objects.get(name="North"))
        self.client.force_login(ann)
        for own_number, name in ((NORTH, "Ada"), (SOUTH, "Bo")):
            self.miss(name, own_number)
            self.reply(f"{name} says hello", own_number)
        call_command("mail_teams")
        self.assertEqual([each.to for each in mail.outbox], [[each[1]] for each in TEAMS.values()])
        self.see("Ada says", "Bo says", "cellcast_django_message_to_answer")
        self.see("Ada</a>", "Bo</a>", "shop_absence_changelist")
        theirs, others = Message.objects.inbound().order_by("pk")
        self.see("Ada says", "Bo says", "cellcast_django_message_conversation", theirs.pk)
        self.see("", "Bo says", "cellcast_django_message_conversation", others.pk)
        new = self.client.get(reverse("admin:cellcast_django_message_new"))
        self.assertEqual(new.status_code, 403)

    def see(self, text, other_text, page, *arguments):
        response = self.client.get(reverse(f"admin:{page}", args=arguments))
        self.assertContains(response, text)
        self.assertNotContains(response, other_text)
