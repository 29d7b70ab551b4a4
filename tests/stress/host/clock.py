"""A clock that can be set: by so many seconds as a file says, it is wrong."""

from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

right_time = timezone.now


def install(file: Path) -> None:
    """Let Django's clock go by the file, from now on and at each look."""

    def now() -> datetime:
        wrong_by = float(file.read_text()) if file.exists() else 0
        return right_time() + timedelta(seconds=wrong_by)

    timezone.now = now
