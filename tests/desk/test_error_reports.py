"""What a failing page of the desk shows to an error tracker."""

from typing import Any

import pytest
from django.urls import reverse

from tests import test_error_reports as core
from tests.admin_pages import staff
from tests.test_error_reports import RouterWithAMistake, assert_hides_everything, reported

site = core.site


@pytest.mark.django_db
def test_failing_setup_page_hides_the_password(site: Any) -> None:
    site.CELLCAST_PUBLIC_URL = "https://sms.example.com"
    client = staff("set_up_webhookevent")
    site.DATABASE_ROUTERS = [RouterWithAMistake()]
    with pytest.raises(RuntimeError) as caught:
        client.get(reverse("admin:cellcast_django_setup"))
    site.DATABASE_ROUTERS = []  # a report may ask the database again
    assert_hides_everything(reported(caught.value))
    site.DEBUG = True
    response = client.post(reverse("admin:cellcast_django_setup"), {"endpoint": "nope"})
    assert response.status_code == 400
    assert_hides_everything(response.text)
