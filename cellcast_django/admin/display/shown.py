"""What templates are given."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def shown(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that is not printed.

    Error trackers store the ``repr`` of whatever a template was given, and much of it names
    customers or holds their texts.
    """
    return dataclass(frozen=True, repr=False)(cls)
