"""Each answer of Cellcast's: what ``send_sms`` raises, what is stored, what the page says, and
whether the same form sent again asks Cellcast once more."""

from typing import Any, NamedTuple

import pytest

from cellcast_django import api
from cellcast_django.api import ApiError, NotSentError, OptedOutError, send_sms
from cellcast_django.factories import MessageFactory
from cellcast_django.models import Message
from tests.admin_pages import CUSTOMER, staff
from tests.desk.test_answering import DOUBT, answer, form_of, forms, levels
from tests.fake_cellcast import FakeCellcast, Fault
from tests.html import every
from tests.test_api import NOT_REGISTERED, REFUSALS, UNCERTAIN, queued, refusal

pytestmark = pytest.mark.django_db

TEXT = "Until five"
ID = {"MessageId": "66b5b93b1e2c012dfe964000"}


class Row(NamedTuple):
    raises: type[Exception] | None
    stored: int
    level: str
    in_doubt: bool
    may_answer: bool
    asked_again: bool


SENT = Row(None, 1, "success", in_doubt=False, may_answer=True, asked_again=False)
NOT_SENT = Row(NotSentError, 0, "error", in_doubt=False, may_answer=True, asked_again=True)
OPTED_OUT = Row(OptedOutError, 0, "error", in_doubt=False, may_answer=False, asked_again=False)
UNKNOWN = Row(ApiError, 0, "error", in_doubt=True, may_answer=True, asked_again=False)

STATUSES = {
    **dict.fromkeys([201, 202], SENT),  # with an id
    **dict.fromkeys([400, 401, 402, 403, 404, 409, 413, 422, 429], NOT_SENT),
    **dict.fromkeys([204, 301, 307, 408, 499, 500, 501, 502, 503, 504, 520], UNKNOWN),
}
TABLE = {
    "success": (None, SENT),
    "byte order mark": (Fault(body=b"\xef\xbb\xbf" + queued(ID).body), SENT),
    "id beside others": (queued(ID, unsubscribeContacts=["+61400000099"]), SENT),
    "unsubscribed": (queued(unsubscribeContacts=[CUSTOMER]), OPTED_OUT),
    "unsubscribed, 422": (
        refusal(422, {"status": False, "data": {"unsubscribeContacts": [{"Contact": CUSTOMER}]}}),
        OPTED_OUT,
    ),
    **{
        str(status): (
            queued(ID, code=status)
            if row is SENT
            else refusal(status, {"status": False, "message": NOT_REGISTERED}),
            row,
        )
        for status, row in STATUSES.items()
        if status != 204
    },
    "204": (Fault(status=204), UNKNOWN),
    **{f"refused: {name}": (fault, NOT_SENT) for name, (fault, _) in REFUSALS.items()},
    **{f"uncertain: {name}": (fault, UNKNOWN) for name, fault in UNCERTAIN.items()},
}


@pytest.mark.parametrize(("fault", "row"), TABLE.values(), ids=TABLE)
def test_answer_decides_what_is_raised_stored_shown_and_tried_again(
    fake_cellcast: FakeCellcast,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None,
    row: Row,
) -> None:
    if fault is not None and (fault.hangs or fault.drips):
        monkeypatch.setattr(api, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(api, "MAX_RESPONSE_BYTES", 2_000)
    settings.CELLCAST_SEND_WITH = "cellcast_django.api.send_sms"
    receptionist = staff("view_message", "answer_message")
    question = MessageFactory.create(inbound=True, sender=CUSTOMER)
    form = form_of(receptionist, question)
    fake_cellcast.faults.extend([fault, fault])

    assert raised_by_send_sms() is row.raises
    response = answer(receptionist, question, TEXT, **form)

    assert levels(response) == [row.level]
    assert Message.objects.outbound().count() == row.stored
    assert bool(every(response.text, DOUBT)) == row.in_doubt
    assert bool(forms(response.text)) == row.may_answer
    assert len(fake_cellcast.requests) == 2, "one for each"
    answer(receptionist, question, TEXT, **form)
    assert len(fake_cellcast.requests) == 2 + row.asked_again


def raised_by_send_sms() -> type[Exception] | None:
    try:
        send_sms(CUSTOMER, TEXT)
    except Exception as error:
        return type(error)
    return None
