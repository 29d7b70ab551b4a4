"""The settings: their defaults, that they are read when used, and that mistakes let nobody in."""

from functools import cached_property

import pytest
from django.conf import settings
from django.test import override_settings

from cellcast_django.conf import Settings, conf

VALUES: dict[str, tuple[object, object]] = {
    "webhook_secrets": ((), ("new:secret", "old:secret")),
    "default_region": ("AU", "US"),
    "max_body_bytes": (262_144, 1),
    "run_handlers": ("inline", "sms"),
    "handler_lease": (300, 60),
    "handler_max_attempts": (12, 3),
    "public_url": ("", "https://example.com"),
    "stop_words": (("stop", "stopall", "unsubscribe", "unsub", "optout"), ("stop", "quit")),
    "stop_hints": ((), ("leave me alone",)),
    "own_numbers": ((), ("+61400000001", "cellcast")),
    "directory": ("", "shop.names.Customers"),
    "send_with": ("", "shop.sms.send_sms"),
    "mail_replies_to": ((), ("desk@shop.example",)),
    "api_key": ("", "4f1c9a52"),
    "api_url": ("https://api.cellcast.com", "https://api.example.com"),
}
"""The default of each setting, and another value."""


def setting_of(name: str) -> str:
    return f"CELLCAST_{name.upper()}"


@pytest.mark.parametrize(
    "name", [name for name, value in vars(Settings).items() if isinstance(value, cached_property)]
)
def test_setting_is_read_lazily_and_has_its_default_where_it_is_unset(name: str) -> None:
    before, (default, value) = getattr(conf, name), VALUES[name]
    with override_settings(**{setting_of(name): value}):
        assert getattr(conf, name) == value
    assert getattr(conf, name) == before != value
    with override_settings(**{setting_of(name): None}):
        delattr(settings, setting_of(name))
        assert getattr(conf, name) == default


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
def test_malformed_secrets_are_ignored(value: object, opens: tuple[str, ...]) -> None:
    with override_settings(CELLCAST_WEBHOOK_SECRETS=value):
        assert conf.webhook_secrets == opens


@pytest.mark.parametrize("name", ["public_url", "api_url"])
def test_url_has_no_trailing_slash(name: str) -> None:
    for value in ("https://example.com", "https://example.com/"):
        with override_settings(**{setting_of(name): value}):
            assert getattr(conf, name) == "https://example.com"


MISTAKES: dict[str, list[object]] = {
    "stop_words": ["stop", None, 5, ["stop", None]],
    "own_numbers": ["stop", None, 5, ["stop", None]],
    "handler_lease": ["300", None, True, 0],
    "max_body_bytes": ["300", None, True, 0],
    "api_key": [None, b"key", 5, "two words", "line\n"],
    "public_url": [None, "sms.example.com", "https://sms.example.com/sms", 5],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_value_that_makes_no_sense_means_the_default(name: str) -> None:
    for value in MISTAKES[name]:
        with override_settings(**{setting_of(name): value}):
            assert getattr(conf, name) == VALUES[name][0]


def test_api_url_that_is_unsafe_is_not_used() -> None:
    for value in (None, "http://api.example.com", "https://example.com/api"):
        with override_settings(CELLCAST_API_URL=value):
            assert conf.api_url == ""
