"""Cellcast's HTTP API."""


class NotSentError(Exception):
    """The SMS was certainly not sent; ``reason`` says why, for a person to read.

    The function that ``CELLCAST_SEND_WITH`` names raises it. It may be sent again.
    """

    reason = ""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OptedOutError(Exception):
    """The contact has opted out, so nothing was sent.

    The function that ``CELLCAST_SEND_WITH`` names raises it for a contact whom Cellcast knows as
    opted out, with what Cellcast said as the ``reason``.
    """

    reason = ""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or "The contact has opted out, so nothing was sent."
