"""Lengths of time as people type them: ``90d``, ``36h``, ``15m``."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DIGITS = 6
"""More would soon be more than a ``timedelta`` holds."""


def parse_duration(text: str, units: str = "mhdw") -> timedelta:
    """Read a whole number and its unit, one of ``units``. Raises ``ArgumentTypeError``.

    Nothing is shorter than one unit: ``0d`` is refused.
    """
    match = re.fullmatch(rf"0*([1-9][0-9]{{,{MAX_DIGITS - 1}}})([{units}])", text.strip())
    if match is None:
        names = ", ".join(f"{unit} ({UNITS[unit]})" for unit in units)
        raise ArgumentTypeError(
            f'"{text}" is no length of time: write a whole number and a unit, of {names}.'
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})
