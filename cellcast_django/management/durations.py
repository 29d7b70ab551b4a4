"""Durations as people type them: ``90d``, ``36h``, ``15m``."""

import re
from argparse import ArgumentTypeError
from datetime import timedelta

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MAX_DIGITS = 6
"""Keeps the result within what a ``timedelta`` can hold."""


def parse_duration(text: str, units: str = "mhdw") -> timedelta:
    """Parse a whole number above zero and its unit. Raises ``ArgumentTypeError``."""
    match = re.fullmatch(rf"0*([1-9][0-9]{{,{MAX_DIGITS - 1}}})([{units}])", text.strip())
    if match is None:
        names = ", ".join(f"{unit} ({UNITS[unit]})" for unit in units)
        raise ArgumentTypeError(
            f'"{text}" is not a duration: write a whole number above zero and a unit, one of '
            f"{names}."
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])})
