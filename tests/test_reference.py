"""The reference pages: what repeats the code is made from it, and what else they say is true."""

import json
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

import cellcast_django
from cellcast_django.models import WebhookEvent
from cellcast_django.testing import WebhookClient
from cellcast_django.upkeep import retention
from tests.database_faults import refusing
from tests.pages import PAGES, ROOT, blocks, table, text_of

PACKAGE = Path(cellcast_django.__file__).parent


GENERATED = runpy.run_path(str(ROOT / "docs" / "generated.py"))


@pytest.mark.parametrize("page", [path.relative_to(ROOT) for path in PAGES], ids=str)
def test_page_repeats_the_code_as_it_is(page: Path) -> None:
    text = text_of(str(page))
    assert GENERATED["fill_in"](text) == text, "Run: make reference"


def test_every_block_has_a_page() -> None:
    placed = {name for path in PAGES for _, name, _ in GENERATED["BLOCK"].findall(path.read_text())}
    assert set(GENERATED["BLOCKS"]) <= placed


def test_list_of_checks_has_every_check_id() -> None:
    source = (PACKAGE / "checks.py").read_text(encoding="utf-8")
    ids = set(re.findall(r'"(cellcast_django\.[EWI]\d{3})"', source))
    assert set(re.findall(r"cellcast_django\.[EWI]\d{3}", GENERATED["checks_block"]())) == ids


def test_publication_names_no_column_that_redaction_empties() -> None:
    tables = re.findall(r"cellcast_django_(\w+) \((.+)\)", GENERATED["publication_sql"]())
    published = {f"{table}.{column}" for table, columns in tables for column in columns.split(", ")}
    emptied = {f"message.{column}" for column in retention.EMPTY_MESSAGE}
    emptied |= {f"webhookevent.{column}" for column in retention.EMPTY_EVENT}
    assert {"message.handled_by", "webhookevent.received_at"} <= published
    assert {"message.handled_note", "webhookevent.body"} <= emptied
    assert not published & emptied


@pytest.mark.django_db
def test_documented_responses_match_the_views(client: WebhookClient, settings: Any) -> None:
    stored, invalid = client.reply(), client.webhook(b"{", "receive")
    unauthenticated = Client().post("/sms/webhook-receiver")
    wrong_method = client.put("/sms/webhook-receiver")
    settings.CELLCAST_MAX_BODY_BYTES = 10
    too_large = client.reply()
    settings.CELLCAST_MAX_BODY_BYTES = 1_000
    with refusing("INSERT"):
        unavailable = client.reply()
    responses = [stored, invalid, unauthenticated, wrong_method, too_large, unavailable]
    documented = [int(row[0]) for row in table("docs/reference/urls.md", "status")]
    assert [each.status_code for each in responses] == [each for each in documented if each != 411]
    assert unavailable["Retry-After"]
    [example] = blocks("docs/reference/urls.md", "json")
    assert stored.json() == json.loads(example.code) | {
        "events": [{"id": WebhookEvent.objects.earliest("pk").pk, "outcome": "stored"}]
    }
    assert client.get("/sms/webhook-receiver").json() == {}


def test_documentation_names_the_supported_versions() -> None:
    classifiers = tomllib.loads(text_of("pyproject.toml"))["project"]["classifiers"]
    declared = set()
    for classifier in classifiers:
        if found := re.fullmatch(r".*:: (Python|Django) :: (\d\.\d+)", classifier):
            declared.add(found.groups())
    rows = table("docs/versions.md", "", "supported")
    assert {(row[0], row[1].split()[0]) for row in rows} == declared
