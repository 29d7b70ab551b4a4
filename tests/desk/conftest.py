from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.contrib.admin import site
from django.db.models import Model
from django.utils import timezone

Show = Callable[[type[Model], Callable[[Any], Any]], None]


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Noon of a Wednesday, so that no test runs into midnight."""
    noon = datetime(2026, 8, 12, 12, tzinfo=timezone.get_default_timezone())
    monkeypatch.setattr(timezone, "now", lambda: noon)
    return noon


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Lets the host's own class of a model show some of its rows."""

    def show(model: type[Model], narrowed: Callable[[Any], Any]) -> None:
        model_admin = site.get_model_admin(model)
        rows = model_admin.get_queryset
        monkeypatch.setattr(model_admin, "get_queryset", lambda request: narrowed(rows(request)))

    return show
