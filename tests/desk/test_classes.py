"""What any class of the package may be, the desk's too."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import cellcast_django

MAX_OWN = 25
"""Functions and properties that a class may have, together with what it inherits of ours."""


def classes() -> Iterator[type]:
    for info in pkgutil.walk_packages(cellcast_django.__path__, "cellcast_django."):
        if ".migrations" in info.name:
            continue
        module = import_module(info.name)
        for each in vars(module).values():
            if inspect.isclass(each) and each.__module__ == module.__name__:
                yield each


def is_ours(cls: type) -> bool:
    return cls.__module__.startswith("cellcast_django.")


def own_of(cls: type) -> set[str]:
    """Return the names of the functions and properties of ours that a class has."""
    return {
        name
        for each in cls.__mro__
        if is_ours(each)
        for name, value in vars(each).items()
        if inspect.isfunction(value)
        or isinstance(value, (property, classmethod, staticmethod))
        or type(value).__name__ == "cached_property"
        if getattr(inspect.unwrap(getattr(value, "fget", None) or value), "__module__", "")
        != "dataclasses"
        if not name.startswith("__") or name == "__init__"
    }


def test_classes_are_small() -> None:
    large = {cls.__qualname__: len(own) for cls in classes() if len(own := own_of(cls)) > MAX_OWN}
    assert large == {}


def test_no_class_inherits_from_more_than_two_of_ours() -> None:
    bases = {cls.__qualname__: sum(map(is_ours, cls.__mro__[1:])) for cls in classes()}
    assert {name: count for name, count in bases.items() if count > 2} == {}
