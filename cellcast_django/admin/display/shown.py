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


class Content:
    """What one template shows, under the names that it uses; not printed either.

    For values that Python only names. As in any template, a missing name shows nothing; in our
    tests it fails.
    """

    def __init__(self, **values: object) -> None:
        vars(self).update(values)
