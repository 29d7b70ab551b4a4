"""What ``CELLCAST_DIRECTORY`` names: asked once a page, and its mistakes left out."""

from collections.abc import Iterable
from itertools import count, repeat
from typing import Any

import pytest
from django.test import Client
from django.utils.functional import lazystr

from cellcast_django.admin.customers import HostDirectory
from cellcast_django.desk.answering import texts_to_choose_from
from cellcast_django.directory import Directory
from cellcast_django.factories import MessageFactory
from tests.admin_pages import CUSTOMER, Know, page_of
from tests.logs import logged

OTHER, PAGE = "+61400000002", "/customers/7/"


class Counted(Directory):
    """Says when it is made and what it is asked."""

    asked: list[object] = []

    def __init__(self) -> None:
        self.asked.append("made")

    def names(self, contacts: list[str]) -> dict[str, str]:
        self.asked.append(contacts)
        return dict.fromkeys(contacts, "Mrs Lee")

    def search(self, words: str) -> list[str]:
        self.asked.append(words)
        return [CUSTOMER]


@pytest.mark.django_db
def test_page_makes_one_and_asks_each_method_once(reader: Client, settings: Any) -> None:
    settings.CELLCAST_DIRECTORY = f"{__name__}.Counted"
    MessageFactory.create(inbound=True, sender=CUSTOMER)
    MessageFactory.create(inbound=True, sender=OTHER)
    Counted.asked.clear()
    assert "Mrs Lee" in page_of(reader, "message", q="Lee")
    assert Counted.asked == ["made", "Lee", [CUSTOMER]]
    page_of(reader, "message")
    assert Counted.asked[3:] == ["made", [CUSTOMER, OTHER]]


def test_nobody_is_asked_twice_about_one_customer(know: Know) -> None:
    asked: list[list[str]] = []

    def references(references: list[str]) -> dict[str, str]:
        asked.append(references)
        return {}

    know(references=references)
    directory = HostDirectory()
    directory.references(["7", ""])
    assert set(directory.references(["7", "8"])) == {"7", "8"}
    assert asked == [["7"], ["8"]]


@pytest.mark.parametrize("said", [7, b"Mrs Lee", ("Mrs Lee",), ("Mrs", "Lee", PAGE), {"Mrs": 1}])
@pytest.mark.django_db
def test_name_of_a_wrong_shape_is_left_out_and_others_stay(
    know: Know, said: object, caplog: pytest.LogCaptureFixture
) -> None:
    know(names=lambda contacts: {CUSTOMER: said, OTHER: "Mr Ng"})
    found = HostDirectory().customers([CUSTOMER, OTHER])
    assert [found[each].name for each in (CUSTOMER, OTHER)] == ["", "Mr Ng"]
    assert [(level, names[0]) for level, names in logged(caplog)] == [("ERROR", "names")]


@pytest.mark.parametrize("said", [None, ["Mrs Lee"], "0400 000 001", 7, [7]])
@pytest.mark.django_db
def test_answer_of_a_wrong_shape_is_left_out(
    know: Know, said: Any, caplog: pytest.LogCaptureFixture
) -> None:
    know(names=lambda contacts: said, references=lambda references: said, search=lambda words: said)
    directory = HostDirectory()
    assert directory.customer(CUSTOMER).name == ""
    assert directory.references(["7"])["7"].name == "7"
    assert [names[0] for _, names in logged(caplog)] == ["names", "references"]
    if said != ["Mrs Lee"]:
        assert directory.search("Lee") == ([], False)
        assert logged(caplog)[-1] == ("ERROR", ("search", "TypeError"))


LONGEST = "x" * 1_600
MIXED: list[Any] = ["Yes", 7, "No"]


@pytest.mark.parametrize(
    ("said", "texts", "error"),
    [
        (None, [], None),
        ([" Yes\r\nNo\0 \ud83d ", "<b>", "😀"], ["Yes\nNo \ufffd", "<b>", "😀"], None),
        (("Yes", None, "", " \0 "), ["Yes"], None),
        ([lazystr("Yes"), LONGEST], ["Yes", LONGEST], None),
        (["No"] * 10_000, ["No"] * 20, None),
        (repeat("No"), ["No"] * 20, None),
        (["Yes", 7, b"No", ["No"], "No"], ["Yes", "No"], "TypeError"),
        (count(1), [], "TypeError"),
        (["Yes", LONGEST + "x", "No"], ["Yes", "No"], "ValueError"),
        ((each.strip() for each in MIXED), ["Yes"], "AttributeError"),  # raises half-way
        ("Yes", [], "TypeError"),
        (lazystr("Yes"), [], "TypeError"),
        (7, [], "TypeError"),
    ],
)
def test_texts_to_choose_from_are_those_that_can_be_sent(
    know: Know, said: Any, texts: list[str], error: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    know(answers=lambda contact: said)
    assert texts_to_choose_from(HostDirectory(), CUSTOMER) == texts
    assert logged(caplog) == ([("ERROR", ("answers", error))] if error else [])


class Fails(Directory):
    def __init__(self) -> None:
        raise ConnectionError


@pytest.mark.parametrize(
    ("path", "error"), [("Fails", "ConnectionError"), ("Nowhere", "ImportError")]
)
@pytest.mark.django_db
def test_page_opens_without_a_directory(
    reader: Client, settings: Any, path: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CELLCAST_DIRECTORY = f"{__name__}.{path}"
    MessageFactory.create(inbound=True, sender=CUSTOMER)
    assert "0400 000 001" in page_of(reader, "message")
    assert ("ERROR", ("Directory", error)) in logged(caplog)


class OnlyNames:
    """A class of the host's own with some of the methods."""

    def names(self, contacts: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(contacts, "Mrs Lee")


@pytest.mark.django_db
def test_all_methods_are_optional(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    nobody = Directory()
    assert nobody.names([CUSTOMER]) == nobody.references(["7"]) == {}
    assert nobody.search("Lee") == nobody.answers(CUSTOMER) == []
    settings.CELLCAST_DIRECTORY = f"{__name__}.OnlyNames"
    directory = HostDirectory()
    assert directory.customer(CUSTOMER).name == "Mrs Lee"
    assert directory.references(["7"])["7"].name == "7"
    assert directory.search("Lee") == ([], False)
    assert texts_to_choose_from(directory, CUSTOMER) == []
    assert not logged(caplog)
