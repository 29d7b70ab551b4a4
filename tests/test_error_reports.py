"""What Django's error mails, its debug page and an error tracker show of the host's secrets."""

from typing import Any

import django
import pytest
from django.core.mail import EmailMultiAlternatives
from django.test import Client

PASSWORD = "S3cretPassw0rdXYZ"  # noqa: S105
KEY = "4f1c9a52-cellcast-api-key-e07b"
OPERATOR = "operator@example.com"


@pytest.fixture
def site(settings: Any) -> Any:
    """A site as deployed: some hosts are allowed, and somebody reads its error mails."""
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.ADMINS = [OPERATOR] if django.VERSION >= (6, 0) else [("Operator", OPERATOR)]
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    settings.CELLCAST_WEBHOOK_SECRETS = [f"new:{PASSWORD}", f"old:{PASSWORD}"]
    settings.CELLCAST_API_KEY = KEY
    return settings


def test_an_error_mail_hides_password_and_key(
    site: Any, mailoutbox: list[EmailMultiAlternatives]
) -> None:
    assert Client().get("/", headers={"Host": "evil.example"}).status_code == 400
    [mail] = mailoutbox
    text = str(mail.message())
    assert "CELLCAST_WEBHOOK_SECRETS" in text
    assert PASSWORD not in text
    assert KEY not in text


def test_the_debug_page_hides_password_and_key(site: Any) -> None:
    site.DEBUG = True
    response = Client().get("/", headers={"Host": "evil.example"})
    assert "CELLCAST_WEBHOOK_SECRETS" in response.text
    assert PASSWORD not in response.text
    assert KEY not in response.text
