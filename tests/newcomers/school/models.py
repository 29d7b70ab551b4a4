from cellcast_django.contacts import to_contact
from django.db import models
from django.utils import timezone
from shop.teams import TEAMS

CAMPUSES = {own_number: name for name, (own_number, _) in TEAMS.items()}


class Pupil(models.Model):
    name = models.CharField(max_length=100)
    own_number = models.CharField("campus", max_length=12, choices=CAMPUSES)
    phone_number = models.CharField("parent's number", max_length=30)
    contact = models.CharField(max_length=64, db_index=True, editable=False)

    def __str__(self):
        return self.name

    def save(self, **options):
        self.contact = to_contact(self.phone_number)
        super().save(**options)


class Absence(models.Model):
    pupil = models.ForeignKey(Pupil, models.CASCADE)
    day = models.DateField(default=timezone.localdate)
    asked_at = models.DateTimeField(null=True, editable=False)
    reason = models.CharField(max_length=20, blank=True)
    escalated_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pupil", "day"], name="one_a_day")]

    def __str__(self):
        return f"{self.pupil}, {self.day}"


def absences_about(references):
    keys = [each.removeprefix("absence-") for each in references]
    absences = Absence.objects.filter(pk__in=filter(str.isdecimal, keys))
    return absences.select_related("pupil")
