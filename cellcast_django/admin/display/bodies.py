"""The body of an event, formatted for people."""

import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from django.utils.translation import gettext as _

from cellcast_django.payloads import clean, is_form, is_too_deep

MAX_ROWS = 200  # fields of a form that are shown; Cellcast sends a handful

MAX_INDENT = 30  # levels: in a deeply nested body, most of the output would be spaces

_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)


@dataclass(frozen=True)
class FormattedBody:
    """``text`` of JSON, ``rows`` of a form, or the ``reason`` why there is neither."""

    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    reason: str = ""


def format_body(body: str, content_type: str) -> FormattedBody:
    """Return the body with one value per line. Nothing is left out, no number is changed."""
    text = body.removeprefix("\ufeff").strip()
    if not text:
        return FormattedBody(reason=_("The body is empty."))
    if is_form(content_type) and not text.startswith(("{", "[")):
        rows = parse_qsl(text, keep_blank_values=True)[:MAX_ROWS]
        return FormattedBody(rows=tuple((clean(name), clean(value)) for name, value in rows))
    if is_too_deep(text):
        return FormattedBody(reason=_("The JSON is nested too deeply."))
    try:
        json.loads(text, strict=False, parse_int=str)
    except json.JSONDecodeError as error:
        where = {"line": error.lineno, "column": error.colno, "problem": error.msg}
        return FormattedBody(
            reason=_("Not JSON: %(problem)s (line %(line)d, column %(column)d).") % where
        )
    return FormattedBody(text=clean(indent(text)))


def indent(text: str) -> str:
    r"""Return valid JSON with one value per line; numbers and repeated keys are kept.

    Escapes are decoded, because nobody can read ``\u0646``.
    """
    lines = [""]
    depth = 0

    def break_line() -> None:
        lines.append("  " * min(depth, MAX_INDENT))

    parts = _PART.findall(text)
    for position, part in enumerate(parts):
        previous = parts[position - 1] if position else ""
        if part in "]}":
            depth -= 1
            if previous not in "[{":
                break_line()
        elif previous and previous in "[{":
            break_line()
        lines[-1] += _readable(part)
        if part in "[{":
            depth += 1
        elif part == ",":
            break_line()
        elif part == ":":
            lines[-1] += " "
    return "\n".join(lines)


def _readable(part: str) -> str:
    if not part.startswith('"'):
        return part
    return json.dumps(json.loads(part, strict=False), ensure_ascii=False)
