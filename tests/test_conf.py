"""The settings: their defaults, that they are read when used, and that mistakes let nobody in."""

from functools import cached_property

import pytest
from django.conf import settings
from django.test import override_settings

from cellcast_django.conf import Settings, conf
from tests.test_checks import WRONG

VALUES: dict[str, tuple[object, object]] = {
    "webhook_secrets": ((), ("new:secret", "old:secret")),
    "default_region": ("AU", "US"),
    "max_body_bytes": (262_144, 1),
    "run_handlers": ("inline", "sms"),
    "handler_lease": (300, 60),
    "handler_max_attempts": (12, 3),
    "public_url": ("", "HTTPS://SMS.example.com:8443"),
    "stop_words": (("stop", "stopall", "unsubscribe", "unsub", "optout"), ("stop", "опт аут")),
    "stop_hints": ((), ("leave me alone",)),
    "own_numbers": ((), ("+61400000001", "cellcast")),
    "directory": ("", "shop.names.Customers"),
    "send_with": ("", "shop.sms.send_sms"),
    "mail_replies_to": ((), ("desk@shop.example",)),
    "api_key": ("", "eyJhbGciOi.J9-_~+/="),
    "api_url": ("https://api.cellcast.com", "http://[::1]:8000"),
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
        (("cellcast:pass:with:colons",), ("cellcast:pass:with:colons",)),
        (["no-colon", "", ":", "user:", ":password", "x:\udce9", None, 5, b"user:password"], ()),
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


@pytest.mark.parametrize("name", VALUES)
def test_wrong_value_means_the_default(name: str) -> None:
    """But the API's address is then nowhere: the key must not be sent to another one."""
    default = "" if name == "api_url" else VALUES[name][0]
    for value in WRONG[setting_of(name)]:
        with override_settings(**{setting_of(name): value}):
            assert getattr(conf, name) == default
