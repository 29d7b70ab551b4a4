"""The host project's functions that the admin calls must be importable."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string
from django.utils.translation import gettext

from cellcast_django.conf import conf


def check_callables(**_: Any) -> Iterator[CheckMessage]:
    """What a dotted path names must be importable and callable."""
    paths: list[tuple[str, Any, str]] = [
        ("CELLCAST_CONTACT_NAMES", conf.contact_names, "cellcast_django.E018"),
        ("CELLCAST_SEND_WITH", conf.send_with, "cellcast_django.E019"),
    ]
    for name, path, message_id in paths:
        if problem := _problem_of(path):
            yield Error(
                gettext("%(name)s is %(path)s, which %(problem)s.")
                % {"name": name, "path": repr(path), "problem": problem},
                hint=gettext(
                    'Write the dotted path of a function, such as "shop.sms.send_sms", or remove '
                    "the setting."
                ),
                id=message_id,
            )


def _problem_of(path: Any) -> str:
    if path == "":
        return ""
    if not isinstance(path, str):
        return gettext("is not a dotted path")
    try:
        found = import_string(path)
    except Exception as error:  # the host's module may raise anything
        return gettext("cannot be imported: %(error)s") % {
            "error": f"{type(error).__qualname__}: {error}"
        }
    return "" if callable(found) else gettext("is not callable")
