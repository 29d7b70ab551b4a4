"""From the bytes of a body to its elements: JSON or a form, and text that a database can store."""

import json
import re
from json.decoder import JSONDecoder
from typing import Any
from urllib.parse import parse_qsl

from cellcast_django.payloads.payload import PayloadError

MAX_EVENTS = 1_000
MAX_DEPTH = 100


def decode(body: bytes) -> str:
    r"""Return the body as text that every database stores: NUL and non-UTF-8 bytes as ``\xNN``.

    A body that contains ``\xNN`` written out cannot be told apart from it.
    """
    return body.decode("utf-8", errors="backslashreplace").replace("\x00", r"\x00")


def clean(text: str) -> str:
    """Drop NUL and replace lone surrogates with U+FFFD: no database stores them. Idempotent."""
    if text.isprintable():
        return text  # nearly every text is
    return text.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_form(content_type: str) -> bool:
    """Whether the header says that the body is form-encoded."""
    return content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def elements(body: bytes, raw: str, content_type: str) -> list[tuple[Any, str]]:
    """Return the body's elements, each with its own text. Raises ``PayloadError``."""
    try:
        text = body.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise PayloadError(f"The body is not UTF-8 (byte {error.start}).") from None
    if not text.strip():
        raise PayloadError("The body is empty.")
    if is_form(content_type) and not text.lstrip().startswith(("{", "[")):
        return [(dict(parse_qsl(text.strip(), keep_blank_values=True)), raw)]
    document = parse_json(text)
    if not isinstance(document, list):
        return [(document, raw)]
    if not document:
        raise PayloadError("The array is empty.")
    if len(document) > MAX_EVENTS:
        raise PayloadError(
            f"The array has {len(document)} elements; at most {MAX_EVENTS} are read."
        )
    texts = _element_texts(text)
    return [(e, decode(t.encode())) for e, t in zip(document, texts, strict=True)]


# Numbers stay as written: ids of any length, and no 1e999 that becomes infinity. A raw newline in
# a string is no reason to lose a customer's answer, hence not strict.
_decoder = JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)
_SPACE = re.compile(r"[ \t\n\r]*")


def parse_json(text: str) -> Any:
    """Parse JSON, with numbers as strings. Raises ``PayloadError``."""
    if is_too_deep(text):
        raise PayloadError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise PayloadError(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a response; an empty one if there is none."""
    try:
        text = body.decode()
        document = None if is_too_deep(text) else json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)


def is_too_deep(text: str) -> bool:
    """Whether JSON is nested deeper than ``MAX_DEPTH`` levels. Ask before parsing it.

    Python's own parser does not stop in time: where threads have a small stack, as on Alpine, eight
    thousand brackets crash the process.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False  # nearly every text
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif match[0] in "]}":
            depth -= 1
    return False


def _element_texts(text: str) -> list[str]:
    """Return the text of each element, as written, of a JSON array that is known to parse."""
    texts = []
    position = text.index("[")
    while text[position] != "]":
        start = _skip_space(text, position + 1)
        _, end = _decoder.raw_decode(text, start)
        texts.append(text[start:end])
        position = _skip_space(text, end)
    return texts


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
