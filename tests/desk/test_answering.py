"""Names and answers: what the host project's functions let the pages show and do."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from django.test import Client
from django.utils import timezone

from cellcast_django.admin import MessageAdmin
from cellcast_django.admin.display.texts import readable_number
from cellcast_django.desk.answering import SENDING_LASTS
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Claim, Message
from cellcast_django.opt_outs import opt_out
from cellcast_django.sending import NotSentError, OptedOutError
from tests.admin_pages import CUSTOMER, ID, Know, page_of, staff, url_of
from tests.html import every, hidden_fields, only, words
from tests.logs import logged

OTHER = "+61400000002"
OURS = "+61480000001"

pytestmark = pytest.mark.django_db

sent: list[tuple[str, str, str]] = []
asked: list[list[str]] = []


def names(contacts: list[str]) -> dict[str, str]:
    asked.append(contacts)
    return {CUSTOMER: "Mrs <Smith>"}


def odd_names(contacts: list[str]) -> dict[str, Any]:
    return {CUSTOMER: "Mrs Lee \ud83d", OTHER: None}


def no_names(contacts: list[str]) -> None:
    return None


def broken(*arguments: Any, **options: Any) -> Any:
    raise ConnectionError("the line is down \ud83d")


def send(receiver: str, body: str, sender: str, *, reference: str) -> str:
    sent.append((receiver, body, sender))
    return f"{ID}{len(sent)}"


def returns(value: Any) -> Callable[..., Any]:
    return lambda *arguments, **options: value


send_nothing, send_empty, send_dict, send_false, send_number = map(
    returns, [None, "", {"MessageId": ID}, False, 123456]
)


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


def levels(response: Any) -> list[str]:
    return [message.level_tag for message in response.context["messages"]]


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
        assert "Mrs &lt;Smith&gt;" in html
        assert "0400 000 001" in html
        assert len(asked) == 1
    assert sorted(asked[0]) == [CUSTOMER]


def test_page_opens_when_fetching_names_fails(
    reader: Client, question: Message, know: Know, caplog: pytest.LogCaptureFixture
) -> None:
    know(names=broken)

    assert "0400 000 001" in page_of(reader, "message")
    assert logged(caplog) == [("ERROR", ("names", "ConnectionError"))]


def test_odd_customer_names_break_no_page(reader: Client, question: Message, know: Know) -> None:
    MessageFactory.create(inbound=True, sender=OTHER)
    know(names=odd_names)

    page = page_of(reader, "message", "to_answer")

    assert "Mrs Lee \ufffd" in page
    assert "None" not in words(only(page, "form[@class='cellcast-waiting']//table"))
    know(names=no_names)
    assert "0400 000 001" in page_of(reader, "message")


@pytest.mark.parametrize(
    ("contact", "written"),
    [
        ("+61400000001", "0400 000 001"),
        ("+61299998888", "(02) 9999 8888"),
        ("+14155552671", "+1 415-555-2671"),
        ("cellcast", "cellcast"),
        ("", ""),
    ],
)
def test_readable_number_uses_the_regions_format(contact: str, written: str) -> None:
    assert readable_number(contact) == written


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


# From which number


NAME = "BrightTeeth"
FORGED = "+61499666666"


@pytest.mark.parametrize("own", [OURS, NAME])
@pytest.mark.parametrize("is_configured", [True, False])
def test_answer_is_sent_from_the_number_the_customer_wrote_to(
    receptionist: Client, question: Message, settings: Any, own: str, *, is_configured: bool
) -> None:
    if is_configured:
        settings.CELLCAST_OWN_NUMBERS = ["0480 000 001", NAME]
    else:
        for sender in (OURS, NAME, "+61480000002"):
            Message.objects.record_sent(f"from {sender}", receiver=OTHER, sender=sender)
    later = MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=own)

    page = page_of(receptionist, "message", "conversation", question.pk)
    answer(receptionist, question, "Yes")

    assert sent == [(CUSTOMER, "Yes", own)]
    assert Message.objects.outbound().latest("pk").own_number == own
    assert readable_number(own) in words(forms(page)[0])
    assert not every(page, UNKNOWN_SENDER)
    later.refresh_from_db()
    assert later.handled_at is not None


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


def test_reply_to_no_number_is_answered_from_any(receptionist: Client) -> None:
    question = MessageFactory.create(inbound=True, sender=CUSTOMER, receiver="")

    page = page_of(receptionist, "message", "conversation", question.pk)
    answer(receptionist, question, "Yes")

    assert sent == [(CUSTOMER, "Yes", "")]
    assert not every(page, UNKNOWN_SENDER)


def test_answer_is_sent_from_the_conversations_number(
    receptionist: Client, question: Message, settings: Any
) -> None:
    chosen = "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = [OURS, chosen]
    MessageFactory.create(inbound=True, sender=OTHER, receiver=chosen)
    MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=OURS)
    url = url_of("message", "conversation", question.pk, own=chosen)
    [form] = forms(receptionist.get(url).text)

    receptionist.post(url, {**hidden_fields(form), "text": "Yes"})

    assert sent == [(CUSTOMER, "Yes", chosen)]


def test_answer_from_one_number_leaves_replies_to_another(
    receptionist: Client, question: Message, settings: Any
) -> None:
    chosen = "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = [OURS, chosen]
    MessageFactory.create(inbound=True, sender=OTHER, receiver=chosen)
    theirs = MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=OURS)
    reply = MessageFactory.create(inbound=True, sender=CUSTOMER, receiver=chosen)
    url = url_of("message", "conversation", reply.pk, own=chosen)
    [form] = forms(receptionist.get(url).text)

    receptionist.post(url, {**hidden_fields(form), "text": "Yes"})

    theirs.refresh_from_db()
    reply.refresh_from_db()
    assert (theirs.handled_at, reply.handled_at) != (None, None)
    assert theirs.handled_at is None


def test_reply_arriving_while_user_writes_stays_unhandled(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    later = MessageFactory.create(inbound=True, sender=CUSTOMER, body="And tomorrow?")

    answer(receptionist, question, "Yes", **form)

    assert list(Message.objects.unhandled()) == [later]


@pytest.mark.parametrize("key", ["", "x", "999999"])
def test_message_can_be_sent_without_answering_a_reply(
    receptionist: Client, question: Message, key: str
) -> None:
    answer(receptionist, question, "Hello", answers=key)

    assert len(sent) == 1
    assert list(Message.objects.unhandled()) == [question]


def test_same_text_within_ten_minutes_asks(receptionist: Client, question: Message) -> None:
    answer(receptionist, question, "Yes")

    asked = answer(receptionist, question, "Yes")

    assert (len(sent), levels(asked), text_kept(asked)) == (1, ["warning"], "Yes")
    again = hidden_fields(forms(asked.text)[0])
    assert levels(answer(receptionist, question, "No", **again)) == ["success"]
    asked = answer(receptionist, question, "Yes")
    again = hidden_fields(forms(asked.text)[0])
    assert levels(answer(receptionist, question, "Yes", **again)) == ["success"]
    assert [text for _receiver, text, _sender in sent] == ["Yes", "No", "Yes"]


def test_same_text_of_earlier_or_to_another_customer_is_sent(
    receptionist: Client, question: Message
) -> None:
    other = MessageFactory.create(inbound=True, sender=OTHER)
    answer(receptionist, other, "Yes")
    Message.objects.record_sent("earlier", receiver=CUSTOMER, body="Yes")
    Message.objects.outbound().update(created_at=timezone.now() - timedelta(minutes=11))

    assert levels(answer(receptionist, question, "Yes")) == ["success"]
    assert levels(answer(receptionist, question, "yes")) == ["success"]


def test_send_and_next_leads_to_the_next_customer(receptionist: Client, question: Message) -> None:
    following = MessageFactory.create(inbound=True, sender=OTHER)

    response = answer(receptionist, question, "Yes", then="next")

    place = response.redirect_chain[0][0].partition("#")[0]
    assert place == url_of("message", "conversation", following.pk)
    assert "0400 000 001" in str(next(iter(response.context["messages"])))
    form = form_of(receptionist, following)
    following.mark_handled()
    response = answer(receptionist, following, "Yes", **form, then="next")
    assert response.redirect_chain[0][0].startswith(url_of("message", "to_answer"))
    assert len(sent) == 2


def test_draft_belongs_to_the_person_and_the_customer(
    receptionist: Client, question: Message
) -> None:
    other = MessageFactory.create(inbound=True, sender=OTHER)
    later = MessageFactory.create(inbound=True, sender=CUSTOMER)
    colleague = staff("view_message", "answer_message")

    def key(client: Client, message: Message) -> str:
        [form] = forms(page_of(client, "message", "conversation", message.pk))
        return str(form.get("data-draft"))

    mine = key(receptionist, question)
    assert mine and mine == key(receptionist, later)
    assert len({mine, key(receptionist, other), key(colleague, question)}) == 3
    response = answer(receptionist, question, "Yes")
    assert response.redirect_chain[0][0].endswith(f"#cellcast-sent-{mine}")


def test_form_that_has_sent_another_text_says_so(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)
    answer(receptionist, question, "Yes", **form)

    response = answer(receptionist, question, "No", **form)

    assert (len(sent), levels(response), text_kept(response)) == (1, ["error"], "No")


def test_second_click_sends_nothing(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)

    answer(receptionist, question, "Yes", **form)
    response = answer(receptionist, question, "Yes", **form)

    assert len(sent) == 1
    assert levels(response) == ["warning"]
    assert response.redirect_chain, "asks whether to send it once more"


@pytest.mark.parametrize(
    "form", [{"ticket": ""}, {"ticket": "x"}, {"ticket": "é" * 22}, {"shown": ""}, {"shown": "x"}]
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
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = "no.such.function"

    assert levels(answer(receptionist, question, "Yes", **form)) == ["error"]
    assert not LogEntry.objects.exists(), "which would say that it may have been sent"

    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    assert levels(answer(receptionist, question, "Yes", **form)) == ["success"]
    assert len(sent) == 1


def test_empty_answer_is_not_sent(receptionist: Client, question: Message) -> None:
    assert levels(answer(receptionist, question, "  \n")) == ["error"]
    assert sent == []


def test_opted_out_customer_cannot_be_answered(receptionist: Client, question: Message) -> None:
    form = form_of(receptionist, question)
    opt_out(CUSTOMER)

    response = answer(receptionist, question, "Yes", **form)

    assert sent == []
    assert levels(response) == ["error"]
    page = page_of(receptionist, "message", "conversation", question.pk)
    assert every(page, "p[@class='cellcast-warning']")
    assert not forms(page)


# Two people, one customer


def test_colleagues_answer_is_shown_before_another_is_sent(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    Message.objects.record_sent("of a colleague", receiver=CUSTOMER, body="Yes, until five")

    response = answer(receptionist, question, "No", **form)

    assert sent == []
    assert levels(response) == ["warning"]
    assert text_kept(response) == "No"
    assert "Yes, until five" in response.text
    again = hidden_fields(forms(response.text)[0])
    receptionist.post(url_of("message", "conversation", question.pk), again | {"text": "No"})
    assert len(sent) == 1


def test_older_pages_form_asks_about_newer_messages(
    receptionist: Client, question: Message
) -> None:
    Message.objects.record_sent("later", receiver=CUSTOMER)
    newest = Message.objects.latest("pk")
    url = url_of("message", "conversation", question.pk, before=newest.pk)
    form = hidden_fields(forms(receptionist.get(url).text)[0])

    assert levels(receptionist.post(url, form | {"text": "Yes"})) == ["warning"]
    assert sent == []


def test_answer_can_be_sent_from_an_older_page_after_confirmation(
    receptionist: Client, question: Message
) -> None:
    Message.objects.record_sent("later", receiver=CUSTOMER, body="Yes, until five")
    newest = Message.objects.latest("pk")
    url = url_of("message", "conversation", question.pk, before=newest.pk)
    form = hidden_fields(forms(receptionist.get(url).text)[0])
    response = receptionist.post(url, form | {"text": "Yes"})
    assert "Yes, until five" in response.text

    receptionist.post(url, hidden_fields(forms(response.text)[0]) | {"text": "Yes"})

    assert len(sent) == 1


def test_page_without_messages_has_a_form(
    receptionist: Client, question: Message, settings: Any
) -> None:
    """Older ones have been pruned; or the customer has never written to the chosen number."""
    chosen = "+61480000002"
    settings.CELLCAST_OWN_NUMBERS = [OURS, chosen]
    Message.objects.filter(pk=question.pk).update(own_number=OURS, receiver=OURS)

    for text, query in (("Yes", {"before": question.pk}), ("No", {"own": chosen})):
        url = url_of("message", "conversation", question.pk, **query)
        form = hidden_fields(forms(receptionist.get(url).text)[0])
        assert levels(receptionist.post(url, form | {"text": text}, follow=True)) == ["success"]

    assert [sender for _receiver, _text, sender in sent] == [OURS, chosen]


def test_form_can_be_resubmitted_if_nothing_was_sent(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    claim = Claim.take(f"customer {CUSTOMER}", SENDING_LASTS)
    assert claim
    answer(receptionist, question, "Yes", **form)
    claim.release()

    answer(receptionist, question, "Yes", **form)  # back, and Send once more

    assert len(sent) == 1


def test_answer_is_refused_while_another_is_being_sent(
    receptionist: Client, question: Message
) -> None:
    claim = Claim.take(f"customer {CUSTOMER}", SENDING_LASTS)
    assert claim

    response = answer(receptionist, question, "Yes")

    assert (sent, levels(response), text_kept(response)) == ([], ["warning"], "Yes")
    claim.release()
    answer(receptionist, question, "Yes")
    assert len(sent) == 1


def test_claim_of_a_dead_process_expires(receptionist: Client, question: Message) -> None:
    assert Claim.take(f"customer {CUSTOMER}", SENDING_LASTS)
    assert Claim.objects.get().until <= timezone.now() + timedelta(minutes=2)
    Claim.objects.update(until=timezone.now())

    answer(receptionist, question, "Yes")

    assert len(sent) == 1


def test_claim_does_not_contain_the_number(question: Message) -> None:
    claim = Claim.take(f"customer {CUSTOMER}", SENDING_LASTS)
    assert claim
    assert CUSTOMER not in f"{claim} {claim.key}"


ROUNDS = 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.exhaustive
def test_two_concurrent_answers_send_only_one(sms_folder: Path) -> None:
    here, elsewhere = (staff("view_message", "answer_message") for _ in range(2))
    with ThreadPoolExecutor() as threads, answering_process(elsewhere) as process:
        for number in range(ROUNDS):
            customer = f"+6140000010{number}"
            question = MessageFactory.create(inbound=True, sender=customer)
            # Both see the same page; in half of the rounds one of them is a moment later.
            forms = [filled_in(person, question, number) for person in (elsewhere, here)]
            with arriving_at_last(sms_folder, number):
                first = threads.submit(post_elsewhere, process, forms[0])
                if number % 2:
                    wait_until_sent(sms_folder, number)
                second = threads.submit(post_here, here, forms[1])
                [refused], [answered] = wait([first, second], 30, FIRST_COMPLETED)
                assert refused.result() == 200
            assert answered.result() == 302

            assert len((sms_folder / "sent").read_text().splitlines()) == number + 1
            assert Message.objects.outbound().filter(contact=customer).count() == 1


@pytest.mark.django_db(transaction=True)
def test_sending_an_answer_locks_nothing(sms_folder: Path) -> None:
    person = staff("view_message", "answer_message", "handle_message")
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)
    with ThreadPoolExecutor() as threads, arriving_at_last(sms_folder, 0):
        answered = threads.submit(post_here, person, filled_in(person, question, 0))
        wait_until_sent(sms_folder, 0)
        MessageFactory.create(inbound=True, sender=CUSTOMER)
        question.mark_handled()
        assert Claim.take("somebody else", SENDING_LASTS)
        assert not answered.done()
    assert answered.result() == 302


@pytest.fixture
def sms_folder(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are while they are sent, here and elsewhere."""
    settings.CELLCAST_SEND_WITH = "tests.answering_process.send"
    monkeypatch.setenv("SMS_FOLDER", str(tmp_path))
    return tmp_path


@contextmanager
def arriving_at_last(folder: Path, number: int) -> Iterator[None]:
    """Let this answer arrive at the end of the block, whatever happens in it."""
    try:
        yield
    finally:
        (folder / f"answer {number}").touch()


Process = subprocess.Popen[str]


@contextmanager
def answering_process(person: Client) -> Iterator[Process]:
    name = str(connection.settings_dict["NAME"])
    session = person.cookies["sessionid"].value
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.answering_process", name, session],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate()


def filled_in(person: Client, question: Message, number: int) -> dict[str, str]:
    url = url_of("message", "conversation", question.pk)
    return form_of(person, question) | {"url": url, "text": f"answer {number}"}


def post_elsewhere(process: Process, form: dict[str, str]) -> int:
    """Post in that process; return the status of the response."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(form) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def post_here(person: Client, form: dict[str, str]) -> int:
    """Post in a thread of this process; return the status of the response."""
    try:
        return person.post(form["url"], form).status_code
    finally:
        connections.close_all()


def wait_until_sent(folder: Path, number: int) -> None:
    """Wait until this answer is being sent, and has not arrived yet."""
    sent = folder / "sent"
    while not (sent.exists() and f"answer {number}\n" in sent.read_text()):
        time.sleep(0.005)


# What was never sent


def lose_connection(*arguments: Any, **options: Any) -> None:
    raise OperationalError("the server has gone away")


def killed(*arguments: Any, reference: str) -> Any:
    raise SystemExit(1)


def test_form_can_be_resubmitted_if_the_customer_could_not_be_claimed(
    receptionist: Client, question: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_of(receptionist, question)
    take = Claim.take
    with monkeypatch.context() as patched:
        patched.setattr(
            Claim,
            "take",
            lambda name, lasts: take(name, lasts) if name[:4] == "form" else lose_connection(),
        )
        with pytest.raises(OperationalError):
            answer(receptionist, question, "Yes", **form)
    assert sent == []

    assert levels(answer(receptionist, question, "Yes", **form)) == ["success"]  # reloads

    assert len(sent) == 1


def test_form_can_be_resubmitted_after_a_colleagues_answer_was_shown(
    receptionist: Client, question: Message
) -> None:
    form = form_of(receptionist, question)
    colleagues = Message.objects.record_sent("of a colleague", receiver=CUSTOMER, body="No")
    answer(receptionist, question, "Yes", **form)

    again = answer(receptionist, question, "Yes", **form | {"shown": str(colleagues.pk)})

    assert levels(again) == ["success"]
    assert len(sent) == 1


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


def test_doubt_ends_when_somebody_has_looked(
    receptionist: Client, reader: Client, question: Message, settings: Any
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes")
    url = url_of("message", "conversation", question.pk)
    button = "button[@name='checked']"
    assert every(reader.get(url).text, DOUBT) and not every(reader.get(url).text, button)
    assert reader.post(url, {"checked": "yes"}).status_code == 403
    form = only(receptionist.get(url).text, DOUBT)

    response = receptionist.post(url, {**hidden_fields(form), "checked": "yes"}, follow=True)

    assert response.redirect_chain == [(url, 302)]
    assert not every(response.text, DOUBT)
    assert LogEntry.objects.latest("pk").object_id == str(question.pk)


def test_second_answer_does_not_end_the_doubt_about_the_first(
    receptionist: Client, question: Message, settings: Any
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes")
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    answer(receptionist, question, "Yes")

    assert every(page_of(receptionist, "message", "conversation", question.pk), DOUBT)


@pytest.mark.parametrize(("receiver", "body"), [(OTHER, "Yes"), (CUSTOMER, "Come at five")])
def test_another_message_is_not_taken_for_the_forms(
    receptionist: Client,
    question: Message,
    settings: Any,
    receiver: str,
    body: str,
) -> None:
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes", **form)
    Message.objects.record_sent("another", receiver=receiver, body=body)

    assert levels(answer(receptionist, question, "Yes", **form)) == ["error"]


def test_text_that_only_a_report_tells_of_is_not_called_sent(
    receptionist: Client, question: Message, settings: Any
) -> None:
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"
    answer(receptionist, question, "Yes", **form)
    MessageFactory.create(receiver=CUSTOMER, body="Yes", recorded_at=None)

    assert levels(answer(receptionist, question, "Yes", **form)) == ["error"]


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

    [message] = response.context["messages"]
    assert message.level_tag == "error"
    assert "Your balance is too low \ufffd." in str(message)
    assert text_kept(response) == "Yes"
    assert not LogEntry.objects.exists()
    assert not Claim.objects.exists()
    assert logged(caplog) == []
    settings.CELLCAST_SEND_WITH = f"{__name__}.send"
    answer(receptionist, question, "Yes", **form)
    assert len(sent) == 1


def test_customer_whom_cellcast_knows_as_opted_out_is_shown_as_that(
    receptionist: Client, question: Message, settings: Any
) -> None:
    form = form_of(receptionist, question)
    settings.CELLCAST_SEND_WITH = f"{__name__}.unsubscribed"

    response = answer(receptionist, question, "Yes", **form)

    assert levels(response) == ["error"]
    assert every(response.text, "p[@class='cellcast-warning']")
    assert not forms(response.text)
    assert not LogEntry.objects.exists()
    assert not Claim.objects.exists()


@pytest.mark.parametrize(("length", "expected"), [(1_600, 1), (1_601, 0)])
def test_answer_has_at_most_1600_characters(
    receptionist: Client, question: Message, length: int, expected: int
) -> None:
    response = answer(receptionist, question, "x" * length)

    assert len(sent) == expected
    if not expected:
        assert levels(response) == ["error"]
        assert text_kept(response) == "x" * length


# A function that fails


def test_host_projects_error_is_logged_and_the_text_kept(
    receptionist: Client, question: Message, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.broken"

    response = answer(receptionist, question, "Yes & no")

    [message] = response.context["messages"]
    assert message.level_tag == "error"
    assert "ConnectionError: the line is down" in str(message)
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


@pytest.mark.parametrize("name", ["send_nothing", "send_empty", "send_dict", "send_false"])
def test_unusable_id_is_logged_and_not_recorded(
    receptionist: Client, question: Message, settings: Any, name: str
) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.{name}"

    response = answer(receptionist, question, "Yes")

    assert levels(response) == ["error"]
    assert text_kept(response) == "Yes"
    assert not Message.objects.outbound().exists()
    assert LogEntry.objects.get().object_id == str(question.pk)


def test_integer_id_is_recorded(receptionist: Client, question: Message, settings: Any) -> None:
    settings.CELLCAST_SEND_WITH = f"{__name__}.send_number"

    answer(receptionist, question, "Yes")

    assert Message.objects.outbound().get().cellcast_id == "123456"


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


def test_answer_leaves_hidden_replies_unhandled(
    receptionist: Client, question: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = MessageFactory.create(
        inbound=True, sender=CUSTOMER, receiver=OURS, created_at=question.created_at
    )
    shown = MessageAdmin.get_queryset
    monkeypatch.setattr(
        MessageAdmin,
        "get_queryset",
        lambda self, request: shown(self, request).exclude(receiver=OURS),
    )

    answer(receptionist, question, "Yes")

    assert len(sent) == 1
    assert list(Message.objects.unhandled()) == [hidden]
