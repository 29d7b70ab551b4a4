"""What Django's error mails, its debug page and an error tracker show: no password, no customer."""

import hmac
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

import django
import pytest
from django.core.mail import EmailMultiAlternatives
from django.db import connection
from django.test import Client
from django.urls import reverse

from cellcast_django import payloads, receiving
from cellcast_django.diagnostics import test_send
from cellcast_django.error_reports import hides_variables
from cellcast_django.retention import Selection
from cellcast_django.testing import authorization, opt_out_payload, reply_payload, status_payload
from tests.admin_pages import staff


pytestmark = pytest.mark.django_db


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
