"""Prints a host project that reads every field of the models: type checkers must know each one's.

``.ci/lint`` gives it to them beside ``typed_host_without_plugin``.
"""

from collections.abc import Iterator
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402

TYPES = {
    "BigAutoField": "int",
    "BooleanField": "bool",
    "CharField": "str",
    "DateTimeField": "datetime",
    "FloatField": "float",
    "JSONField": "list[str]",
    "PositiveIntegerField": "int",
    "TextField": "str",
}
NOT_FOR_HOSTS = {"Claim", "CommandRun"}
"""What holds only digests and words of our own."""


def types_of(field: Any) -> Iterator[tuple[str, str]]:
    """Yield the attributes of a field, each with its type."""
    or_none = " | None" if field.null else ""
    if field.related_model is None:
        yield field.name, TYPES[field.get_internal_type()] + or_none
    else:
        yield field.name, field.related_model.__name__ + or_none
        yield field.attname, f"int{or_none}"


models = [
    model
    for model in apps.get_app_config("cellcast_django").get_models()
    if model.__name__ not in NOT_FOR_HOSTS
]
print("# pyright: strict\nfrom datetime import datetime\nfrom typing import assert_type\n")
print(f"from cellcast_django.models import {', '.join(model.__name__ for model in models)}\n\n")
for model in models:
    print(f"def read_{model.__name__}(row: {model.__name__}) -> None:")
    for each in model._meta.concrete_fields:
        for name, type_ in types_of(each):
            print(f"    assert_type(row.{name}, {type_})")
