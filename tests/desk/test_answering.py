"""Names and answers: what the host project's functions let the pages show and do."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event
from time import sleep
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from cellcast_django.admin.display.texts import readable_number
from cellcast_django.desk.answering import SENDING_LASTS
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim, Message
from cellcast_django.opt_outs import opt_in, opt_out
from cellcast_django.sending import NotSentError, OptedOutError
from tests.admin_pages import CUSTOMER, ID, Know, levels, page_of, staff, url_of
from tests.desk.conftest import Show
from tests.html import every, hidden_fields, only, words
from tests.logs import logged

OTHER = "+61400000002"
OURS = "+61480000001"

pytestmark = pytest.mark.django_db

sent: list[tuple[str, str, str]] = []
asked: list[list[str]] = []


def names(contacts: list[str]) -> dict[str, str]:
    asked.append(contacts)
    return {CUSTOMER: "Mrs <Smith> \ud83d"}


def broken(*arguments: Any, **options: Any) -> Any:
    raise ConnectionError("the line is down \ud83d")


def send(receiver: str, body: str, sender: str, *, reference: str) -> str:
    sent.append((receiver, body, sender))
    return f"{ID}{len(sent)}"


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    sent.clear()
    asked.clear()


@pytest.fixture
def receptionist(settings: Any) -> Client:
    """A member of staff who may answer, on a site where that is possible."""
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    return staff("view_message", "answer_message")


@pytest.fixture
def question() -> Message:
    message: Message = MessageFactory.create(
        inbound=True, sender=CUSTOMER, receiver="cellcast", body="Open today?"
    )
    return message


def form_of(client: Client, message: Message) -> dict[str, str]:
    page = page_of(client, "message", "conversation", message.pk)
    return {name: value for form in forms(page) for name, value in hidden_fields(form).items()}


def forms(page: str) -> list[Any]:
    return every(page, "form[@class='cellcast-answer']")


def answer(client: Client, message: Message, text: str, **changes: Any) -> Any:
    form = {**form_of(client, message), "text": text, **changes}
    return client.post(url_of("message", "conversation", message.pk), form, follow=True)


def said(response: Any) -> str:
    return " ".join(map(str, response.context["messages"]))


def text_kept(response: Any) -> str:
    return words(only(response.text, "textarea"))


# Names


def test_names_are_shown_and_fetched_once_per_page(
    reader: Client, question: Message, know: Know
) -> None:
    know(names=names)
    MessageFactory.create(inbound=True, sender="+61400000002")

    for page in ((), ("to_answer",), ("conversation", question.pk), ("change", question.pk)):
        asked.clear()
        html = page_of(reader, "message", *page)
        assert "Mrs &lt;Smith&gt; \ufffd" in html
        assert "0400 000 001" in html
        assert len(asked) == 1
    assert sorted(asked[0]) == [CUSTOMER]


# Answers


def test_answer_is_sent_and_recorded_and_handles_the_reply(
    receptionist: Client, question: Message
) -> None:
    response = answer(receptionist, question, " Yes,\r\nuntil\x00 five. ")

    assert sent == [(CUSTOMER, "Yes,\nuntil five.", "")]
    assert levels(response) == ["success"]
    address = response.redirect_chain[0][0].partition("#")[0]
    assert address == url_of("message", "conversation", question.pk)
    message = Message.objects.outbound().get()
    username = User.objects.get().username
    assert (message.body, message.sent_by) == ("Yes,\nuntil five.", username)
    question.refresh_from_db()
    assert question.handled_at is not None
    assert question.handled_by == username
    entry = LogEntry.objects.get()
    assert entry.object_id == str(message.pk)
    assert not Claim.objects.filter(until__lt=timezone.now() + timedelta(hours=1)).exists()


def test_answer_beside_a_note_asks_and_keeps_both(receptionist: Client, question: Message) -> None:
    receptionist.force_login(User.objects.create_superuser("kim"))
    response = answer(receptionist, question, "Yes", note="Phoned her.")

    assert (sent, levels(response), text_kept(response)) == ([], ["warning"], "Yes")
    assert only(response.text, "input[@name='note']").get("value") == "Phoned her."


# From which number


NAME = "BrightTeeth"
FORGED = "+61499666666"


@pytest.mark.parametrize("own", [OURS, NAME])
def test_answer_is_sent_from_the_number_the_customer_wrote_to(
    receptionist: Client, question: Message, settings: Any, own: str
) -> None:
    settings.CELLCAST_OWN_NUMBERS = [NAME, OURS]
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=own)

    page = page_of(receptionist, "message", "conversation", question.pk)
    answer(receptionist, question, "Yes")

    assert sent == [(CUSTOMER, "Yes", own)]
    assert Message.objects.outbound().latest("pk").own_number == own
    assert readable_number(own) in words(forms(page)[0])
    assert not every(page, UNKNOWN_SENDER)
    assert not Message.objects.unhandled().exists(), "the person has seen both"


UNKNOWN_SENDER = "span[@id='cellcast-unknown-sender']"


@pytest.mark.parametrize("configured", [[], [OURS, "+61480000002"]])
def test_number_that_only_a_webhook_knows_is_not_answered_from(
    receptionist: Client, question: Message, settings: Any, configured: list[str]
) -> None:
    settings.CELLCAST_OWN_NUMBERS = configured
    MessageFactory.create(receiver=OTHER, sender=FORGED, recorded_at=None)
    if configured:  # which alone counts then
        Message.objects.record_sent("from it", receiver=OTHER, sender=FORGED)
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=FORGED)

    page = page_of(receptionist, "message", "conversation", question.pk)
    answer(receptionist, question, "Yes")

    assert sent == [(CUSTOMER, "Yes", "")]
    said = words(only(page, UNKNOWN_SENDER))
    assert readable_number(FORGED) in said


def test_answer_is_sent_from_the_chosen_number_and_leaves_replies_to_another(
    receptionist: Client, settings: Any
) -> None:
    chosen = "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = [OURS, chosen]
    theirs, reply = (
        MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=own) for own in (OURS, chosen)
    )
    url = url_of("message", "conversation", reply.pk, own=chosen)
    [form] = forms(receptionist.get(url).text)

    receptionist.post(url, {**hidden_fields(form), "text": "Yes"})

    assert sent == [(CUSTOMER, "Yes", chosen)]
    assert list(Message.objects.unhandled()) == [theirs]


def test_reply_arriving_while_user_writes_stays_unhandled(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    later = [
        MessageFactory.create(inbound=True, sender=CUSTOMER, created_at=question.created_at + wait)
        for wait in (timedelta(seconds=1), timedelta(seconds=-1))  # by a clock that is slow
    ]

    answer(receptionist, question, "Yes", **form)

    assert set(Message.objects.unhandled()) == {*later}


def test_text_that_is_the_newest_one_sent_asks(receptionist: Client, question: Message) -> None:
    other = MessageFactory.create(inbound=True, sender=OTHER)
    assert levels(answer(receptionist, other, "Yes")) == ["success"]
    assert levels(answer(receptionist, question, "Yes")) == ["success"]
    Message.objects.outbound().update(created_at=timezone.now() - timedelta(days=8))
    MessageFactory.create(receiver=CUSTOMER, body="", recorded_at=None)  # only reported

    asked = answer(receptionist, question, "Yes")

    assert (len(sent), levels(asked), text_kept(asked)) == (2, ["warning"], "Yes")
    again = hidden_fields(forms(asked.text)[0])
    assert levels(answer(receptionist, question, "yes", **again)) == ["success"]
    assert levels(answer(receptionist, question, "Yes")) == ["success"]
    again = hidden_fields(forms(answer(receptionist, question, "Yes").text)[0])
    assert levels(answer(receptionist, question, "Yes", **again)) == ["success"]
    assert len(sent) == 5


def test_send_and_next_leads_to_the_next_customer(receptionist: Client, question: Message) -> None:
    following = MessageFactory.create(inbound=True, sender=OTHER)

    response = answer(receptionist, question, "Yes", then="next")

    place = response.redirect_chain[0][0].partition("#")[0]
    assert place == url_of("message", "conversation", following.pk)
    assert "0400 000 001" in said(response)
    form = form_of(receptionist, following)
    following.mark_handled()
    response = answer(receptionist, following, "Yes", **form, then="next")
    assert response.redirect_chain[0][0].startswith(url_of("message", "to_answer"))
    assert len(sent) == 2


def test_form_sends_once(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)
    answer(receptionist, question, "Yes", **form)

    clicked = answer(receptionist, question, "Yes", **form)
    changed = answer(receptionist, question, "No", **form)

    assert len(sent) == 1
    assert (levels(clicked), levels(changed)) == (["warning"], ["error"])
    assert clicked.redirect_chain, "asks whether to send it once more"
    assert (text_kept(changed), said(changed)[:8]) == ("No", "Not sent")


@pytest.mark.parametrize(
    "form", [{"ticket": ""}, {"ticket": "x"}, {"ticket": "é" * 22}, {"seen": ""}, {"seen": "x"}]
)
def test_incomplete_form_sends_nothing(
    receptionist: Client, question: Message, form: dict[str, str]
) -> None:
    response = answer(receptionist, question, "Yes", **form)

    assert sent == []
    assert levels(response) == ["error"]


def test_answer_that_no_function_can_send_is_not_sent(
    receptionist: Client, question: Message, settings: Any
) -> None:
    form, function = form_of(receptionist, question), settings.CELLCAST_SEND_WITH
    settings.CELLCAST_SEND_WITH = "no.such.function"

    assert levels(answer(receptionist, question, "Yes", **form)) == ["error"]

    assert not LogEntry.objects.exists(), "which would say that it may have been sent"
    settings.CELLCAST_SEND_WITH = function
    assert levels(answer(receptionist, question, "Yes", **form)) == ["success"]


@pytest.mark.parametrize("function", ["send", "unsubscribed"])
def test_opted_out_customer_cannot_be_answered(
    receptionist: Client, question: Message, settings: Any, function: str
) -> None:
    """Whether we know of it, or only Cellcast does."""
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.{function}"
    if function == "send":
        opt_out(CUSTOMER)

    response = answer(receptionist, question, "Yes", **form)

    assert (sent, levels(response)) == ([], ["error"])
    for page in (response.text, page_of(receptionist, "message", "conversation", question.pk)):
        assert every(page, "p[@class='cellcast-warning']")
        assert not forms(page)
    assert not LogEntry.objects.exists()
    assert not Claim.objects.exists()


# Two people, one customer


@pytest.mark.parametrize("is_older_page", [False, True])
def test_newer_message_is_shown_before_another_is_sent(
    receptionist: Client, question: Message, *, is_older_page: bool
) -> None:
    url, form = url_of("message", "conversation", question.pk), form_of(receptionist, question)
    Message.objects.record_sent("of a colleague", receiver=CUSTOMER, body="Yes, until five")
    if is_older_page:
        url += f"?before={Message.objects.latest('pk').pk}"
        form = hidden_fields(forms(receptionist.get(url).text)[0])

    response = receptionist.post(url, form | {"text": "No"})

    assert (sent, levels(response), text_kept(response)) == ([], ["warning"], "No")
    assert "Yes, until five" in response.text
    receptionist.post(url, hidden_fields(forms(response.text)[0]) | {"text": "No"})
    assert len(sent) == 1


def test_page_without_messages_has_a_form(
    receptionist: Client, question: Message, settings: Any
) -> None:
    """Older ones have been pruned."""
    url = url_of("message", "conversation", question.pk, before=question.pk)

    form = hidden_fields(forms(receptionist.get(url).text)[0])

    assert levels(receptionist.post(url, form | {"text": "Yes"}, follow=True)) == ["success"]


def test_typed_number_that_the_persons_rows_do_not_hold_is_not_answered_from(
    receptionist: Client, question: Message, settings: Any, show: Show
) -> None:
    theirs = "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = [OURS, theirs]
    Message.objects.filter(pk=question.pk).update(own_number=OURS, receiver=OURS)
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=theirs)
    show(Message, lambda rows: rows.filter(own_number=OURS))

    url = url_of("message", "conversation", question.pk, own=theirs)
    form = hidden_fields(forms(receptionist.get(url).text)[0])
    receptionist.post(url, form | {"text": "Yes"})

    assert [sender for _receiver, _text, sender in sent] == [OURS]


@pytest.mark.parametrize("ends", ["release", "expire"])
def test_answer_is_refused_while_another_is_being_sent(
    receptionist: Client, question: Message, ends: str
) -> None:
    form = form_of(receptionist, question)
    claim = Claim.take(f"customer {CUSTOMER}", SENDING_LASTS)
    Claim.take("what has ended by itself", timedelta())
    assert claim and claim.until <= timezone.now() + timedelta(minutes=2)
    assert CUSTOMER not in f"{claim} {claim.key}"

    response = answer(receptionist, question, "Yes", **form)

    assert (sent, levels(response), text_kept(response)) == ([], ["warning"], "Yes")
    if ends == "release":
        claim.release()
    else:  # its process has died
        Claim.objects.update(until=timezone.now())
    answer(receptionist, question, "Yes", **form)  # back, and Send once more
    assert len(sent) == 1


may_arrive = Event()


def send_slowly(receiver: str, body: str, sender: str, *, reference: str) -> str:
    """Send, and wait until the tests let it arrive."""
    cellcast_id = send(receiver, body, sender, reference=reference)
    assert may_arrive.wait(60)
    return cellcast_id


def post(person: Client, question: Message, form: dict[str, str]) -> int:
    """Post in a thread; return the status of the response."""
    try:
        url = url_of("message", "conversation", question.pk)
        return person.post(url, form | {"text": "Yes"}).status_code
    finally:
        connections.close_all()


@contextmanager
def slow_network() -> Iterator[ThreadPoolExecutor]:
    """Let answers arrive at the end of the block, whatever happens in it."""
    may_arrive.clear()
    with ThreadPoolExecutor() as threads:
        try:
            yield threads
        finally:
            may_arrive.set()


def wait_until_sent() -> None:
    while not sent:
        sleep(0.005)


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
@pytest.mark.parametrize("is_later", [False, True])
def test_two_concurrent_answers_send_only_one(
    question: Message, settings: Any, *, is_later: bool
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_slowly"
    people = [staff("view_message", "answer_message") for _ in range(2)]
    forms = [form_of(person, question) for person in people]  # both see the same page
    with slow_network() as threads:
        first = threads.submit(post, people[0], question, forms[0])
        if is_later:
            wait_until_sent()
        second = threads.submit(post, people[1], question, forms[1])
        [refused], [answered] = wait([first, second], 30, FIRST_COMPLETED)
        assert refused.result() == 200
    assert answered.result() == 302
    assert len(sent) == Message.objects.outbound().count() == 1


@pytest.mark.django_db(transaction=True)
def test_sending_an_answer_locks_nothing(question: Message, settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_slowly"
    person = staff("view_message", "answer_message", "handle_message")
    form = form_of(person, question)
    with slow_network() as threads:
        answered = threads.submit(post, person, question, form)
        wait_until_sent()
        MessageFactory.create(inbound=True, sender=CUSTOMER)
        question.mark_handled()
        assert Claim.take("somebody else", SENDING_LASTS)
        assert not answered.done()
    assert answered.result() == 302


# What was never sent


def killed(*arguments: Any, reference: str) -> Any:
    raise SystemExit(1)


def test_answer_killed_while_it_is_sent_is_not_called_sent(
    receptionist: Client, question: Message, settings: Any
) -> None:
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.killed"
    with pytest.raises(SystemExit):
        answer(receptionist, question, "Yes", **form)
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"

    response = answer(receptionist, question, "Yes", **form)

    assert sent == []
    assert levels(response) == ["error"]
    assert not response.redirect_chain
    assert text_kept(response) == "Yes"
    answer(receptionist, question, "Yes", **hidden_fields(forms(response.text)[0]))
    assert len(sent) == 1


@pytest.mark.parametrize(
    "another",
    [{"receiver": OTHER}, {"body": "At five"}, {"recorded_at": None}, {"sent_by": "colleague"}],
    ids=["to another", "another text", "reported", "by another"],
)
def test_another_message_is_not_taken_for_the_forms(
    receptionist: Client, question: Message, settings: Any, another: dict[str, Any]
) -> None:
    sent = {"receiver": CUSTOMER, "body": "Yes", "sent_by": User.objects.get().username}
    MessageFactory.create(**sent, created_at=timezone.now() - timedelta(hours=1))
    MessageFactory.create(receiver=CUSTOMER, body="At noon")
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes", **form)
    MessageFactory.create(**sent | another)

    assert levels(answer(receptionist, question, "Yes", **form)) == ["error"]


DOUBT = "form[@id='cellcast-doubt']"


@pytest.mark.parametrize(
    ("function", "is_in_doubt"),
    [
        ("send", False),
        ("not_sent", False),
        ("unsubscribed", False),
        ("broken", True),
        ("killed", True),
    ],
)
def test_colleagues_are_told_of_an_answer_that_may_have_been_sent(
    receptionist: Client,
    reader: Client,
    question: Message,
    settings: Any,
    *,
    function: str,
    is_in_doubt: bool,
) -> None:
    other = MessageFactory.create(inbound=True, sender=OTHER)
    settings.CELLCAST_SEND_WITH = f"{__name__}.{function}"

    with suppress(SystemExit):
        answer(receptionist, question, "Yes")

    for message, expected in ((question, is_in_doubt), (other, False)):
        page = page_of(reader, "message", "conversation", message.pk)
        assert bool(every(page, DOUBT)) == expected
    Claim.objects.filter(until__lt=timezone.now() + timedelta(days=2)).update(until=timezone.now())
    assert not every(page_of(reader, "message", "conversation", question.pk), DOUBT)


def test_button_after_a_doubt_sends_once_more(
    receptionist: Client, question: Message, settings: Any
) -> None:
    def button(response: Any) -> list[str]:
        return [words(each) for each in every(forms(response.text)[0], "button")]

    MessageFactory.create(inbound=True, sender=OTHER)  # for whom there is a second button
    url = url_of("message", "conversation", question.pk)
    first = button(receptionist.get(url))
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"

    again = button(answer(receptionist, question, "Yes"))

    assert len(first) == 2 and not set(first) & set(again)
    assert button(receptionist.get(url)) == again, "for a colleague"
    receptionist.post(url, {"checked": "yes"})
    assert button(receptionist.get(url)) == first


def test_doubt_ends_when_somebody_has_looked(
    receptionist: Client, reader: Client, question: Message, settings: Any
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes")
    url = url_of("message", "conversation", question.pk)
    button = "button[@name='checked']"
    assert every(reader.get(url).text, DOUBT) and not every(reader.get(url).text, button)
    assert reader.post(url, {"checked": "yes"}).status_code == 403
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    answer(receptionist, question, "Yes")  # which ends no doubt about the first
    form = only(receptionist.get(url).text, DOUBT)
    Claim.take("doubt about another", SENDING_LASTS)

    response = receptionist.post(url, {**hidden_fields(form), "checked": "yes"}, follow=True)

    assert response.redirect_chain == [(url, 302)]
    assert not every(response.text, DOUBT) and Claim.is_taken("doubt about another")
    assert LogEntry.objects.latest("pk").object_id == str(question.pk)


def not_sent(*arguments: Any, reference: str) -> Any:
    raise NotSentError("Your balance is too low \ud83d.")


def unsubscribed(*arguments: Any, reference: str) -> Any:
    raise OptedOutError("The contact has unsubscribed.")


def test_refusal_is_shown_and_the_form_may_be_sent_again(
    receptionist: Client, question: Message, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.not_sent"

    response = answer(receptionist, question, "Yes", **form)

    assert levels(response) == ["error"]
    assert "Your balance is too low \ufffd." in said(response)
    assert text_kept(response) == "Yes"
    assert not LogEntry.objects.exists()
    assert not Claim.objects.exists()
    assert logged(caplog) == []
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    answer(receptionist, question, "Yes", **form)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [(" \n", 0), ("x" * 1_600, 1), ("x" * 1_601, 0)],
    ids=["blank", "longest", "too long"],
)
def test_text_has_one_to_1600_characters(
    receptionist: Client, question: Message, text: str, count: int
) -> None:
    response = answer(receptionist, question, text)

    assert (len(sent), levels(response)) == (count, ["success" if count else "error"])
    assert text_kept(response) == ("" if count else text.strip())
    assert LogEntry.objects.count() == count, "nothing may have been sent"


# A function that fails


def test_host_projects_error_is_logged_and_the_text_kept(
    receptionist: Client, question: Message, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"

    response = answer(receptionist, question, "Yes & no")

    assert levels(response) == ["error"]
    assert said(response) == "This may have been sent."  # Cellcast may well have answered
    assert "“Done”" not in words(only(response.text, DOUBT))  # who may not press it
    assert text_kept(response) == "Yes & no"
    assert not Message.objects.outbound().exists()
    entry = LogEntry.objects.get()
    assert entry.object_id == str(question.pk)
    assert "8 characters" in entry.change_message
    assert "ConnectionError" in entry.change_message
    assert "line is down" not in entry.change_message
    assert list(Message.objects.unhandled()) == [question]
    assert logged(caplog) == [("ERROR", ("ConnectionError",))]
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    answer(receptionist, question, "Yes & no")
    assert len(sent) == 1


# Texts to choose from


def offered(page: str) -> list[str]:
    return ["".join(each.itertext()) for each in every(page, "ul[@id='cellcast-texts']/li")]


def test_texts_are_asked_for_once_where_there_is_a_form(
    receptionist: Client, reader: Client, question: Message, know: Know
) -> None:
    url, asked = url_of("message", "conversation", question.pk), MagicMock(return_value=[])
    know(answers=asked)
    with CaptureQueriesContext(connection) as before:
        assert "cellcast-texts" not in receptionist.get(url).text
    asked.return_value = ["Yes,\r\n  <b>we</b> are", "نعم"]
    with CaptureQueriesContext(connection) as queries:
        texts = offered(receptionist.get(url).text)
    assert texts == ["Yes,\n  <b>we</b> are", "نعم"]
    assert len(queries) == len(before)
    assert [levels(answer(receptionist, question, texts[0])) for _ in range(2)] == [
        ["success"],
        ["warning"],  # the newest one sent is the same
    ]
    asked.reset_mock()
    reader.get(url)
    opt_out(CUSTOMER)
    receptionist.get(url)
    assert not asked.called
    opt_in(CUSTOMER)
    receptionist.get(url)
    asked.assert_called_once_with(CUSTOMER)


# Who may, and to whom


def test_answering_requires_its_permission_and_setting(
    receptionist: Client, reader: Client, question: Message, settings: Any
) -> None:
    url = url_of("message", "conversation", question.pk)

    assert not forms(reader.get(url).text)
    assert reader.post(url, {"text": "Yes"}).status_code == 403
    settings.CELLCAST_SEND_WITH = ""
    assert not forms(receptionist.get(url).text)
    assert receptionist.post(url, {"text": "Yes"}).status_code == 403


@pytest.mark.parametrize(
    "sender", ["", "cellcast", "+61400555666;+61400777888", "+61400555666@sms.example", "000"]
)
def test_contact_without_phone_number_cannot_be_answered(receptionist: Client, sender: str) -> None:
    message = MessageFactory.create(inbound=True, sender=sender)

    page = page_of(receptionist, "message", "conversation", message.pk)
    assert not forms(page)
    assert words(only(page, "p[@id='cellcast-no-answer']"))
    url = url_of("message", "conversation", message.pk)
    assert receptionist.post(url, {"text": "Yes"}).status_code == 403
