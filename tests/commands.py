"""Management commands: what they print, and how they fail."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command


def output_of(*arguments: str, stdout: StringIO | None = None, **options: Any) -> str:
    stdout = stdout or StringIO()
    call_command(*arguments, stdout=stdout, **options)
    return stdout.getvalue()


def failure_of(*arguments: str) -> tuple[str, CommandError]:
    """Return what the command prints before it fails, and its error."""
    stdout = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(*arguments, stdout=stdout)
    return stdout.getvalue(), raised.value
