"""What a failing page of the desk shows to an error tracker."""

from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.core.signals import got_request_exception
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse

from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim
from cellcast_django.signals import message_received
from tests import test_error_reports as core
from tests.admin_pages import staff, url_of
from tests.database_faults import refusing
from tests.desk import every_page
from tests.handlers import Calls, Connect
from tests.html import hidden_fields, only
from tests.test_error_reports import (
    CUSTOMER,
    TEXT,
    RouterWithAMistake,
    assert_hides_everything,
    reported,
    serialised,
)

site = core.site


@pytest.fixture
def pages(site: Any, connect: Connect, admin_client: Client) -> list[tuple[str, Any]]:
    """Every address that shows something, and what each button of those pages sends."""
    site.CELLCAST_DIRECTORY = f"{every_page.__name__}.Everybody"
    site.CELLCAST_SEND_WITH = "cellcast_django.testing.pretend_to_send"
    connect(message_received, Calls("fails", error=ValueError("no luck")))
    every_page.store_something_of_everything()
    urls = every_page.addresses()
    forms = every_page.forms(admin_client, urls)
    return [*((url, None) for url in urls), *((form.url, form.data) for form in forms)]


STATEMENTS = ("^INSERT|^UPDATE|^DELETE", "FROM .cellcast_django_optout", "FROM .cellcast_django_m")
"""What the database refuses: what is stored, and what is looked up on the way or at first."""


def personal_in(report: str) -> set[str]:
    number = every_page.NUMBER.removeprefix("+61")
    typed = every_page.NEW_NUMBER.removeprefix("+61")
    words = (number, typed, every_page.TEXT, every_page.NAME, every_page.REASON)
    return {each for each in words if each in report}


@every_page.on_one_database
@pytest.mark.exhaustive
@pytest.mark.django_db
def test_no_page_reports_whom_it_is_about(
    pages: list[tuple[str, Any]], admin_client: Client
) -> None:
    failed = 0
    for url, data in pages:
        for statement in STATEMENTS:
            start: Any = connection.savepoint()
            error, form = error_of(admin_client, url, data, statement)
            transaction.set_rollback(False)
            connection.savepoint_rollback(start)
            if error is not None:
                failed += 1
                assert personal_in(reported(error) + form) == set(), (url, statement)
    assert failed > len(pages) / 2


def error_of(
    client: Client, url: str, data: Any, statement: str
) -> tuple[OperationalError | None, str]:
    """Return what is raised by the page while the database refuses such statements.

    And the form, which error trackers report too: at this moment, and with each logged error.
    """
    forms = []

    def remember(request: HttpRequest, **kwargs: Any) -> None:
        forms.append(serialised(request.POST.dict()))

    got_request_exception.connect(remember)
    try:
        with refusing(statement):
            client.get(url) if data is None else client.post(url, data)
    except OperationalError as error:
        return error, " ".join(forms)
    finally:
        got_request_exception.disconnect(remember)
    return None, ""


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["new", "conversation"])
def test_error_logged_while_sending_comes_without_the_form(
    site: Any, caplog: pytest.LogCaptureFixture, page: str
) -> None:
    site.CELLCAST_SEND_WITH = f"{__name__}.fails_to_send"
    client = staff("view_message", "answer_message", "write_message")
    others = {"conversation": CUSTOMER, "new": every_page.NUMBER}
    message = MessageFactory.create(inbound=True, sender=others[page])
    url = url_of("message", page, *([message.pk] if page == "conversation" else []))
    form = hidden_fields(only(client.get(url).text, "form[@class='cellcast-answer']"))
    response: Any = client.post(url, form | {"number": CUSTOMER, "text": TEXT})
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert not response.wsgi_request.POST


def fails_to_send(*arguments: Any, **options: Any) -> str:
    """Stand for ``CELLCAST_SEND_WITH``."""
    raise RuntimeError("a mistake")


class RouterForWrites(RouterWithAMistake):
    """The same for a page that reads where is written."""

    db_for_write = RouterWithAMistake.db_for_read


@pytest.mark.django_db
def test_failing_setup_page_hides_the_password(site: Any) -> None:
    site.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    client = staff("set_up_webhookevent")
    site.DATABASE_ROUTERS = [RouterForWrites()]
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
