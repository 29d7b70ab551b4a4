"""What the tests of the admin share: people of the staff, and what a page says."""

import re

from django.contrib.auth.models import Permission, User
from django.test import Client


def staff(*codenames: str) -> Client:
    user = User.objects.create_user(f"staff-{User.objects.count()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def text_of(html: str) -> str:
    """Return the text of a page as it is read, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())
