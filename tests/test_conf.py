"""The settings: their defaults, that they are read when used, and that mistakes let nobody in."""

from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from cellcast_django.conf import DEFAULT_STOP_WORDS, conf, is_credential


@pytest.mark.parametrize(
    ("setting", "name", "default"),
    [
        ("CELLCAST_WEBHOOK_SECRETS", "webhook_secrets", ()),
        ("CELLCAST_DEFAULT_REGION", "default_region", "AU"),
        ("CELLCAST_MAX_BODY_BYTES", "max_body_bytes", 262_144),
        ("CELLCAST_RUN_HANDLERS", "run_handlers", "inline"),
        ("CELLCAST_TASK_BACKEND", "task_backend", "default"),
        ("CELLCAST_HANDLER_LEASE", "handler_lease", 300),
        ("CELLCAST_HANDLER_MAX_ATTEMPTS", "handler_max_attempts", 12),
        ("CELLCAST_PUBLIC_URL", "public_url", ""),
        ("CELLCAST_STOP_WORDS", "stop_words", DEFAULT_STOP_WORDS),
        ("CELLCAST_CONTACT_NAMES", "contact_names", ""),
        ("CELLCAST_SEND_WITH", "send_with", ""),
        ("CELLCAST_API_KEY", "api_key", ""),
        ("CELLCAST_API_URL", "api_url", "https://api.cellcast.com"),
    ],
)
def test_unset_setting_has_its_default(setting: str, name: str, default: object) -> None:
    with override_settings(**{setting: None}):
        delattr(settings, setting)
        assert getattr(conf, name) == default


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("CELLCAST_WEBHOOK_SECRETS", "webhook_secrets", ("new:secret", "old:secret")),
        ("CELLCAST_DEFAULT_REGION", "default_region", "US"),
        ("CELLCAST_MAX_BODY_BYTES", "max_body_bytes", 1),
        ("CELLCAST_RUN_HANDLERS", "run_handlers", "task"),
        ("CELLCAST_TASK_BACKEND", "task_backend", "sms"),
        ("CELLCAST_HANDLER_LEASE", "handler_lease", 60),
        ("CELLCAST_HANDLER_MAX_ATTEMPTS", "handler_max_attempts", 3),
        ("CELLCAST_PUBLIC_URL", "public_url", "https://example.com"),
        ("CELLCAST_STOP_WORDS", "stop_words", ("stop", "quit")),
        ("CELLCAST_CONTACT_NAMES", "contact_names", "shop.sms.names"),
        ("CELLCAST_SEND_WITH", "send_with", "shop.sms.send_sms"),
        ("CELLCAST_API_KEY", "api_key", "4f1c9a52"),
        ("CELLCAST_API_URL", "api_url", "https://api.example.com"),
    ],
)
def test_setting_is_read_lazily(setting: str, name: str, value: Any) -> None:
    before = getattr(conf, name)
    with override_settings(**{setting: value}):
        assert getattr(conf, name) == value
    assert getattr(conf, name) == before != value


@pytest.mark.parametrize(
    ("value", "opens"),
    [
        (["cellcast:secret"], ("cellcast:secret",)),
        (("cellcast:secret",), ("cellcast:secret",)),
        (["cellcast:pass:with:colons"], ("cellcast:pass:with:colons",)),
        (["no-colon", "", ":", "user:", ":password", None, 5, b"user:password"], ()),
        (["no-colon", "cellcast:secret"], ("cellcast:secret",)),
        ("cellcast:secret", ()),  # a string is a sequence of strings too
        ({"cellcast:secret": ""}, ()),
        (None, ()),
    ],
)
def test_malformed_credentials_are_ignored(value: object, opens: tuple[str, ...]) -> None:
    with override_settings(CELLCAST_WEBHOOK_SECRETS=value):
        assert conf.webhook_secrets == opens


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("cellcast:secret", True),
        ("a:b", True),
        ("cellcast:", False),
        (":secret", False),
        ("cellcast", False),
        ("", False),
        (None, False),
        (("cellcast", "secret"), False),
    ],
)
def test_credential_requires_username_and_password(entry: object, expected: bool) -> None:
    assert is_credential(entry) is expected


@pytest.mark.parametrize(
    "value", ["https://example.com", "https://example.com/", "https://example.com//"]
)
def test_public_url_has_no_trailing_slash(value: str) -> None:
    with override_settings(CELLCAST_PUBLIC_URL=value):
        assert conf.public_url == "https://example.com"


@pytest.mark.parametrize("value", [None, b"key", 5, "two words", "line\n"])
def test_unsendable_api_key_counts_as_unset(value: object) -> None:
    with override_settings(CELLCAST_API_KEY=value):
        assert conf.api_key == ""


def test_api_url_has_no_trailing_slash() -> None:
    with override_settings(CELLCAST_API_URL="https://api.example.com/"):
        assert conf.api_url == "https://api.example.com"
