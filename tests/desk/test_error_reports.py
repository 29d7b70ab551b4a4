"""What a failing page of the desk shows to an error tracker."""

from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.urls import reverse

from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim
from tests import test_error_reports as core
from tests.admin_pages import staff, url_of
from tests.html import hidden_fields, only
from tests.test_error_reports import (
    CUSTOMER,
    TEXT,
    RouterWithAMistake,
    assert_hides_everything,
    reported,
)

site = core.site


@pytest.mark.django_db
def test_failing_setup_page_hides_the_password(site: Any) -> None:
    site.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    client = staff("set_up_webhookevent")
    site.DATABASE_ROUTERS = [RouterWithAMistake()]
    with pytest.raises(RuntimeError) as caught:
        client.get(reverse("admin:cellcast_django_setup"))
    site.DATABASE_ROUTERS = []  # a report may ask the database again
    assert_hides_everything(reported(caught.value))
    site.DEBUG = True
    response = client.post(reverse("admin:cellcast_django_setup"), {"endpoint": "nope"})
    assert response.status_code == 400
    assert_hides_everything(response.text)


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["new", "conversation"])
def test_failing_answer_hides_what_was_typed(
    site: Any,
    mailoutbox: list[EmailMultiAlternatives],
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    site.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    client = staff("view_message", "answer_message", "write_message")
    client.raise_request_exception = False
    message = MessageFactory.create(inbound=True, sender=CUSTOMER)
    url = url_of("message", page, *([message.pk] if page == "conversation" else []))
    form = hidden_fields(only(client.get(url).text, "form[@class='cellcast-answer']"))
    form |= {"number": CUSTOMER, "text": TEXT}

    def take(*arguments: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Claim, "take", take)
    assert client.post(url, form).status_code == 500
    [mail] = mailoutbox
    assert_hides_everything(str(mail.message()))
    client.raise_request_exception = True
    with pytest.raises(RuntimeError) as caught:
        client.post(url, form)
    assert_hides_everything(reported(caught.value))
