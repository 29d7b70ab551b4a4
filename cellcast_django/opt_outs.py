"""Who must not be texted: ask before you send.

The inbox creates opt-outs from webhooks and from replies that are a stop word; people create and
end them through ``opt_out`` and ``opt_in``. A number may be given in any spelling, or as an object
of ``phonenumbers``; anything else is a ``TypeError``.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import Value
from django.utils import timezone
from phonenumbers import PhoneNumber

from cellcast_django.conf import conf
from cellcast_django.contacts import to_contact
from cellcast_django.database.transactions import again_if_refused
from cellcast_django.models import (
    Direction,
    Message,
    OptOut,
    OptOutQuerySet,
    WebhookEvent,
    database_alias,
    username_of,
)
from cellcast_django.payloads import (
    MAX_NUMBER_LENGTH,
    Endpoint,
    OptOut as OptOutPayload,
    Payload,
    Reply,
    clean,
    letters_and_digits,
    read,
)

NUMBERS_PER_QUERY = 1_000
N = TypeVar("N", bound=str | PhoneNumber)

STOP_HINTS = re.compile(
    r"(?i)stop|unsub|opt(?: me| us)?[\W_]*out|leave me alone|wrong number|not interested"
    r"|no (?:more|furth|text)|(?:remove|delete) (?:me|my (?:number|name|details)|this number)"
    r"|take (?:me|us|\w+ number) off|\b(?:do ?n.?t|never|no longer)\b[^.,!?]{,25}"
    r"(?:text|sms|msg|message|contact|receive|send|hear)"
)


def is_opted_out(number: str | PhoneNumber) -> bool:
    """Whether the contact with this number must not be texted. One query.

    It asks the database that is written to, never a replica or a cache. A deferred STOP counts.
    """
    return bool(opted_out([number]))


def opted_out(numbers: Iterable[N]) -> set[N]:
    """Return those of the numbers that must not be texted, in your spelling.

    One query per 1,000 contacts. Raises ``TypeError`` for a single string.
    """
    if isinstance(numbers, str):
        raise TypeError("opted_out() takes several numbers; use is_opted_out() for one.")
    given: dict[str, set[Any]] = defaultdict(set)
    number: Any
    for number in numbers:
        contact = to_contact(number)
        # Some phone number objects fit into no set.
        given[contact].add(number if isinstance(number, Hashable) else contact)
    contacts = [contact for contact in given if contact]
    opted_out: set[Any] = set()
    for start in range(0, len(contacts), NUMBERS_PER_QUERY):
        for contact in _active_among(contacts[start : start + NUMBERS_PER_QUERY]):
            opted_out |= given[contact]
    return opted_out


def _active_among(contacts: list[str]) -> set[str]:
    """Return those of the contacts whose opt-out stands, or whose STOP has been deferred.

    By one statement: between two, a deferred STOP might be read, and be found by neither.
    """
    no_event = [Value(""), Value(""), Value("")]  # for its body, content_type and endpoint
    active = _opt_outs().active().filter(contact__in=contacts).values_list("contact", *no_event)
    standing, values = active.query.get_compiler(using=active.db).as_sql()
    marks = ", ".join(["%s"] * len(contacts))
    deferred = (
        f"SELECT contact, body, content_type, endpoint FROM {WebhookEvent._meta.db_table} "
        f"WHERE contact IN ({marks}) AND next_read_at IS NOT NULL AND NOT is_test"
    )
    # Caches of the ORM would not notice what webhooks write.
    with connections[active.db].cursor() as cursor:
        cursor.execute(f"{standing} UNION ALL {deferred}", [*values, *contacts])
        return {
            contact
            for contact, body, content_type, endpoint in cursor.fetchall()
            if not endpoint or _says_stop(body, content_type, endpoint)
        }


def _says_stop(body: str, content_type: str, endpoint: str) -> bool:
    """Whether a deferred event opts its contact out."""
    return any(map(opts_out, read(body.encode(), content_type, Endpoint(endpoint))))


def opt_out(
    number: str | PhoneNumber,
    *,
    note: str = "",
    username: str = "",
    asked_in: Message | None = None,
) -> OptOut:
    """Opt a contact out on behalf of a person who learned of it elsewhere. Sends no signal.

    ``note`` says why and ``username`` who did it. ``asked_in`` is the reply in which the customer
    asked: its text becomes the proof, and it alone is handled. An opt-out that stands keeps its
    source and its time, and gets the note and a row of history. Raises ``ValueError`` for a number
    that is empty or too long, and if ``asked_in`` is another's.
    """
    contact = to_contact(number)
    if not contact.strip():
        raise ValueError("The number is empty.")
    if len(contact) > MAX_NUMBER_LENGTH:
        raise ValueError(f"The number is longer than {MAX_NUMBER_LENGTH} characters.")
    if asked_in and (asked_in.direction, asked_in.contact) != (Direction.INBOUND, contact):
        raise ValueError("asked_in is not a reply of this contact.")
    text = asked_in.body if asked_in else ""
    proof = {"text": text, "note": clean(note), "username": username_of(username)}
    return _begin(contact, OptOut.Source.PERSON, proof, asked_in=asked_in)


def opt_out_as_listed(contact: str, text: str) -> None:
    """Opt out a contact whom Cellcast has just refused to text, saying this. Sends no signal.

    Also where a person has ended it here: Cellcast goes on refusing.
    """
    _begin(contact, OptOut.Source.LIST, {"text": clean(text), "note": "", "username": ""})


def _begin(
    contact: str, source: OptOut.Source, proof: dict[str, str], *, asked_in: Message | None = None
) -> OptOut:
    """Begin the contact's opt-out now, or add a person's reason; ``asked_in`` is handled, too."""
    using = database_alias()

    @transaction.atomic(using=using)
    def begin() -> OptOut:
        if asked_in is not None:  # before the opt-out, as webhooks lock: no deadlock
            asked_in.mark_handled(username=proof["username"])
        locked = _opt_outs().insert_and_lock([contact])[contact]
        change = locked.begin(source, at=timezone.now(), has_just_arrived=True, **proof)
        if change is None and source == OptOut.Source.PERSON:
            change = locked.add_reason(at=timezone.now(), **proof)
        if change is not None:
            _opt_outs().save_changes([change])
        return locked

    return again_if_refused(begin, using=using)


def opt_in(number: str | PhoneNumber, *, note: str = "", username: str = "") -> bool:
    """End the opt-out of a contact who agreed to be texted again; return whether there was one.

    ``note`` says why and ``username`` who did it. Any later opt-out begins it again.
    """
    note, username = clean(note), username_of(username)
    using = database_alias()
    stands = _opt_outs().active().filter(contact=to_contact(number))

    @transaction.atomic(using=using)
    def end() -> bool:
        # A write that changes nothing: on SQLite, a transaction that reads first may fail to write.
        stands.update(ended_at=None)
        locked = stands.select_for_update().first()
        if locked is not None:
            change = locked.end(at=timezone.now(), note=note, username=username)
            _opt_outs().save_changes([change])
        return locked is not None

    return again_if_refused(end, using=using)


def is_stop_word(text: str) -> bool:
    """Whether the whole text is one of ``CELLCAST_STOP_WORDS``: only letters and digits, any case.

    Never whether it *contains* one, as "don't stop" and your own "Reply STOP to opt out" do.
    """
    return letters_and_digits(text) in _words_as(letters_and_digits, conf.stop_words)


def opts_out(payload: Payload) -> bool:
    """Whether a webhook of Cellcast's that says this opts its contact out."""
    if isinstance(payload, Reply):
        return payload.sender.strip() != "" and is_stop_word(payload.body)
    return isinstance(payload, OptOutPayload)


def may_want_to_stop(text: str) -> bool:
    """Whether a person should read the text: it mentions stopping but is not a stop word.

    It does so in English, or in the words of ``CELLCAST_STOP_HINTS``.
    """
    hints = _words_as(_folded, conf.stop_hints)
    is_hint = STOP_HINTS.search(text) or any(hint in _folded(text) for hint in hints)
    return bool(is_hint) and not is_stop_word(text)


def _folded(text: str) -> str:
    """Return a text without case, composed: a phone may send Vietnamese in either form."""
    return unicodedata.normalize("NFC", text.casefold()).strip()


@lru_cache(maxsize=16)
def _words_as(change: Callable[[str], str], words: tuple[str, ...]) -> frozenset[str]:
    """Return a setting's words as texts are compared with them."""
    return frozenset(map(change, words)) - {""}


def _opt_outs() -> OptOutQuerySet:
    return OptOut.objects.fresh()
