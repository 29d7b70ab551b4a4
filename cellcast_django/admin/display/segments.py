"""How many SMS a text takes. Source: 3GPP TS 23.038, sections 6.2.1 and 6.2.1.1."""

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENDED = "^{}\\[~]|€"
"""Characters that take up two places."""
_KNOWN = frozenset(BASIC + EXTENDED)


def segments(text: str) -> int:
    """Return how many SMS a text takes: 160 places each, or 70 with any other character."""
    if set(text) <= _KNOWN:
        places, alone, joined = len(text) + sum(each in EXTENDED for each in text), 160, 153
    else:
        places, alone, joined = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if places <= alone else -(-places // joined)
