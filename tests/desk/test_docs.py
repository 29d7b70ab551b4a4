"""docs/admin.md and docs/reference/permissions.md: their code runs, and names what there is."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission

from tests.pages import blocks, table


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
