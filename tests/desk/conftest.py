from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.db.models import Model

Show = Callable[[type[Model], Callable[[Any], Any]], None]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Lets the host's own class of a model show some of its rows."""

    def show(model: type[Model], narrowed: Callable[[Any], Any]) -> None:
        model_admin = site.get_model_admin(model)
        rows = model_admin.get_queryset
        monkeypatch.setattr(model_admin, "get_queryset", lambda request: narrowed(rows(request)))

    return show
