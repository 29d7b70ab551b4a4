"""Hostile bodies without end, the same for the same seed."""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.stress.clients import OPT_OUT, RECEIVE, STATUS


class Body(NamedTuple):
    """What is sent, and what the headers say of it."""

    data: bytes
    content_type: str
    path: str


LIMIT = 262_144
EXAMPLES: list[dict[str, Any]] = [
    {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "receive",
        "message": "This is reply message",
        "sender": "+61400000000",
        "receiver": "+61400000001",
    },
    {
        "_id": "66b5b93b1e2c012dfe964000",
        "status": "delivered",
        "type": "send",
        "sender": "cellcast",
        "receiver": "+61400000001",
    },
    {"type": "optout", "contact": "404000000"},
    {
        "from": "61400000000",
        "body": "Ça va 👍",
        "received_at": "2024-08-09 16:37:47",
        "message_id": "0f0e8c2a-9d0c-4b1f-8a55-3a9f0e8c2a9d",
        "custom_string": "",
        "type": "SMS",
        "original_message_id": 123456,
        "original_body": "Coming? Reply STOP to opt-out",
    },
    {"message_id": 42, "status": "Delivered", "recipient": "61400000000", "source": "api"},
]
CONTENT_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "application/json; charset=utf-7",
    "application/json; charset=utf-16",
    "application/json; charset=zip_codec",
    "application/json; charset=idna",
    "application/json; charset=\xff",
    "application/json; charset=" + "x" * 3_000,
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=rot13",
    "APPLICATION/X-WWW-FORM-URLENCODED",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/xml",
    "rubbish",
    "",
]
VALUES = [
    *("null", "true", "false", "0", "-0", "1.5", "1e999", "-1e999", "NaN", "Infinity"),
    *('""', '" "', "[]", "{}", '[["a"]]', '{"a": {"b": null}}', '"\\u0000"', '"a\\u0000b"'),
    *('"\\ud83d"', '"\\udc4d\\ud83d"', '"half \\ud83d emoji"', '"\\ud83d\\udc4d"', '"\\uffff"'),
    *(
        '"\x01\x1f\x7f\x85"',
        '"line\nbreak\ttab"',
        '"\u202e\u200b\ufeff"',
        '"\u0130 \u0131 ß \u017f"',
        '"٠٤٠٠"',
    ),
    *("9" * 5_000, "-" + "9" * 5_000, "0." + "9" * 5_000, '"' + "9" * 5_000 + '"'),
    *('"' + "x" * length + '"' for length in (63, 64, 65, 127, 128, 129, 255, 256, 70_000)),
    *('"' + "👍" * length + '"' for length in (64, 65, 128, 129)),
    *('"; DROP TABLE message; --"', '"<script>alert(1)</script>"', '"%s %(a)s {0} \\\\x41"'),
    *(
        '"+61400000000;ext=1"',
        '"tel:+61-400-000-000"',
        '"++61"',
        '"#SharedNum#"',
        '"\uff11\uff12\uff13"',
    ),
]
ENCODINGS = (
    *("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "latin-1", "cp1252"),
    *("shift_jis", "gb18030", "cp037", "punycode"),
)


class Hostile:
    """A source of bodies of all kinds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311

    def bodies(self, count: int) -> Iterator[Body]:
        """Return so many bodies, each kind in its turn, then with any header to any URL."""
        kinds: list[Callable[[], bytes]] = [
            self.random_bytes,
            self.mutated_example,
            self.mutated_example,
            self.any_value_in_any_field,
            self.any_value_in_any_field,
            self.other_encoding,
            self.duplicate_keys,
            self.nested,
            self.array,
            self.compressed,
            self.form,
            self.punctuation,
        ]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            content_type = self.random.choice(CONTENT_TYPES)
            if kind == self.form:
                content_type = self.random.choice(CONTENT_TYPES[8:11])
            path = self.random.choice([RECEIVE, STATUS, OPT_OUT])
            yield Body(kind()[:LIMIT], content_type, path)

    def random_bytes(self) -> bytes:
        return self.random.randbytes(self.random.choice([0, 1, 2, 10, 100, 1_000]))

    def mutated_example(self) -> bytes:
        """Flip, drop, double or cut some bytes of what Cellcast documents."""
        data = bytearray(self.example().encode())
        for _ in range(self.random.randint(1, 6)):
            start = self.random.randrange(len(data) + 1)
            end = start + self.random.randint(0, 8)
            match self.random.randrange(5):
                case 0:
                    data[start : start + 1] = self.random.randbytes(1)
                case 1:
                    del data[start:end]
                case 2:
                    data[start:start] = data[start:end]
                case 3:
                    data[start:start] = self.random.choice([b"\x00", b"\xff", b'"', b"\\", b"\\u"])
                case _:
                    del data[start + len(data) // 2 :]
        return bytes(data)

    def any_value_in_any_field(self) -> bytes:
        fields = self.fields()
        for key in self.random.sample(list(fields), self.random.choice([1, 1, 2, len(fields)])):
            fields[key] = self.random.choice(VALUES)
        return _object(fields.items()).encode()

    def other_encoding(self) -> bytes:
        encoding = self.random.choice(ENCODINGS)
        return self.example().encode(encoding, errors="replace")

    def duplicate_keys(self) -> bytes:
        pairs = list(self.fields().items()) * self.random.randint(2, 4)
        pairs = [(key, self.random.choice([value, *VALUES[:12]])) for key, value in pairs]
        self.random.shuffle(pairs)
        return _object(pairs).encode()

    def nested(self) -> bytes:
        """Nest arrays or objects, a few levels or so many that a parser runs out of stack."""
        depth = self.random.choice([1, 2, 3, 30, 100, 990, 1_010, 5_000, 40_000])
        if self.random.random() < 0.8:
            depth = min(depth, 30)
        opening, closing = self.random.choice([("[", "]"), ('{"status":', "}"), ('[{"_id":', "}]")])
        closed = self.random.choice([closing * depth, ""])
        return (opening * depth + self.example() + closed).encode()

    def array(self) -> bytes:
        size = self.random.choice([0, 1, 2, 3, 10] * 20 + [999, 1_000, 1_001])
        elements = [self.example() for _ in range(size)]
        if elements and self.random.random() < 0.5:
            place = self.random.randrange(size)
            elements[place] = self.random.choice(VALUES)
        return ("[" + self.random.choice([",", " ,\n"]).join(elements) + "]").encode()

    def compressed(self) -> bytes:
        data = self.example().encode()
        return self.random.choice([gzip.compress(data, mtime=0), zlib.compress(data)])

    def form(self) -> bytes:
        fields = {key: self.random.choice([value, *VALUES]) for key, value in self.fields().items()}
        data = urlencode(fields).encode()
        junk = [b"", b"&&=&", b"%zz%", b"&_id=%00%ff", b"&a" * 1_000, b"\xff=\x00", b"+%2B;a=b"]
        return data + self.random.choice(junk)

    def punctuation(self) -> bytes:
        """Put something before the JSON, and write one of its marks otherwise."""
        before = self.random.choice(["", " \n\t", "\ufeff", "\ufeff\ufeff", ")]}',"])
        marks = {",": ",,", '"': "'", ":": "=", "{": "/**/{,", "}": ",}", "e": ""}
        mark = self.random.choice(list(marks))
        return (before + self.example().replace(mark, marks[mark])).encode()

    def example(self) -> str:
        return json.dumps(self.random.choice(EXAMPLES), ensure_ascii=self.random.random() < 0.5)

    def fields(self) -> dict[str, str]:
        """Return the keys of an example and of one more, each with its value's JSON."""
        example = self.random.choice(EXAMPLES) | {"reply": "yes"} | self.random.choice(EXAMPLES)
        return {key: json.dumps(value) for key, value in example.items()}


def _object(pairs: Any) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}"
