"""docs/admin.md and docs/reference/permissions.md: their code runs, and names what there is."""

import re
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission

from cellcast_django.desk.models import ToAnswer
from cellcast_django.models import Message
from tests.pages import blocks, table


@pytest.mark.django_db
def test_admin_page_code_grants_the_permissions_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    unfold = SimpleNamespace(ModelAdmin=admin.ModelAdmin)  # stands in for django-unfold
    monkeypatch.setitem(sys.modules, "unfold", SimpleNamespace(admin=unfold))
    monkeypatch.setitem(sys.modules, "unfold.admin", unfold)
    for name in ("shop", "shop.models"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    registered: dict[Any, Any] = admin.site._registry
    monkeypatch.setitem(registered, Message, registered[Message])  # puts it back afterwards
    namespace: dict[str, Any] = {}
    for block in blocks("docs/admin.md", "python"):
        if "TEAMS" not in block.code:  # a host of its own runs those
            block.run(namespace)
    assert namespace["folded"]("Chloé LEE") == "chloe lee"
    models = set(apps.get_app_config("cellcast_django").get_models()) | {ToAnswer}
    assert set(namespace["site"]._registry) == models & set(admin.site._registry)


@pytest.mark.django_db
def test_documented_groups_and_tables_have_every_permission_of_the_app() -> None:
    namespace: dict[str, Any] = {}
    for block in blocks("docs/reference/permissions.md", "python"):
        block.run(namespace)
    namespace["make_groups"]()
    for name, codenames in (
        ("Reception", namespace["RECEPTION"]),
        ("Practice manager", f"{namespace['RECEPTION']} {namespace['MANAGER']}"),
        ("On call", namespace["ON_CALL"]),
    ):
        granted = Group.objects.get(name=name).permissions.values_list("codename", flat=True)
        assert set(granted) == set(codenames.split())
    page = "docs/reference/permissions.md"
    cells = [row[1] for heading in ("page", "to do") for row in table(page, heading)]
    every = Permission.objects.filter(content_type__app_label="cellcast_django")
    assert set(re.findall(r"`(\w+_\w+)`", " ".join(cells))) == set(
        every.values_list("codename", flat=True)
    )
