"""What the value of a setting must look like to be used: for ``conf``, the checks and commands."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

BASE_URL = re.compile(r"(?i:https?)://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:\d{1,5})?/*")


def is_base_url(url: object) -> bool:
    """Whether this is a scheme and a host, with or without a port, and nothing else."""
    return isinstance(url, str) and BASE_URL.fullmatch(url) is not None


def is_credential(entry: object) -> bool:
    """Whether this is a printable ``"username:password"`` string with both parts present.

    An environment variable that is not UTF-8 contains lone surrogates, which are not printable.
    """
    if not isinstance(entry, str):
        return False
    username, _, password = entry.partition(":")
    return bool(username and password) and entry.isprintable()


def is_api_key(value: object) -> bool:
    """Whether this can be put into an HTTP header unchanged."""
    return (
        isinstance(value, str)
        and value != ""
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def is_api_url(url: object) -> bool:
    """Whether the API key may be sent there: over HTTPS, or to this machine."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether the host is this machine: ``localhost`` or an address of its loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
