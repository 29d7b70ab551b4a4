"""Lists of the admin that count less far, as a host project's may."""

from collections.abc import Callable

import pytest
from django.contrib.admin import site

from cellcast_django.admin.lists.paging import CappedPaginator
from cellcast_django.models import HandlerCall, Message, StatusChange, WebhookEvent


@pytest.fixture
def cap_lists(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the lists of the admin a paginator that counts less far."""

    def cap(count: int, *, per_page: int = 50) -> None:
        paginator = type("Paginator", (CappedPaginator,), {"MAX_COUNT": count})
        for model in (HandlerCall, Message, StatusChange, WebhookEvent):
            model_admin = site.get_model_admin(model)
            monkeypatch.setattr(model_admin, "paginator", paginator)
            monkeypatch.setattr(model_admin, "list_per_page", per_page)

    return cap
