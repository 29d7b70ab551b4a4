from django.contrib.auth.models import Group, Permission
from shop.teams import TEAMS

OFFICE = "view_message handle_message answer_message view_pupil view_absence add_absence"


def make_campus_groups():
    for name in TEAMS:
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.set(Permission.objects.filter(codename__in=OFFICE.split()))
