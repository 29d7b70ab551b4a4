"""Log lines of the app, by what code can rely on: their level and what varies in them."""

import pytest


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, tuple[object, ...]]]:
    """Return the level and the arguments of each line of the app, in their order."""
    return [
        (each.levelname, tuple(each.args or ()))
        for each in caplog.records
        if each.name == "cellcast_django"
    ]
