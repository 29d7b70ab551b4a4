"""The script of a storm: who says what, in which order, and what at the same moment."""

import random
from collections.abc import Iterator
from urllib.parse import urlencode

from tests.stress.clients import OPT_OUT, RECEIVE, STATUS, Probe, Request, Webhook
from tests.stress.oracle import RANK
from tests.stress.scale import scaled

WEBHOOKS = scaled(10_000)
ORDERED = scaled(720)
AT_ONCE = scaled(280)
REPLIES = scaled(125) * 4
OPT_OUTS = scaled(200)
ARRAYS = scaled(300)
MESSAGES = ORDERED + AT_ONCE + REPLIES
TWINS = WEBHOOKS // 5
"""Exact duplicates sent at the same moment as the first copy."""

CUSTOMERS = [f"+6140000{number:04}" for number in range(100)]


class Storm:
    """Conversations of 1,500 messages in 10,000 webhooks, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.conversations: list[list[list[Request]]] = [
            *self._every_order(),
            *self._all_at_once(),
            *self._replies_that_share_an_id(),
            *self._opt_outs(),
            *self._arrays(),
        ]
        self._add_twins()
        self._add_late_repeats()
        self.random.shuffle(self.conversations)

    @property
    def webhooks(self) -> list[Webhook]:
        """Every webhook that is sent, as often as it is sent."""
        return [
            request
            for conversation in self.conversations
            for group in conversation
            for request in group
            if isinstance(request, Webhook)
        ]

    def _every_order(self) -> Iterator[list[list[Request]]]:
        """Seven statuses for each message, two unknown ones among them, in an order by chance."""
        for number in range(ORDERED):
            statuses = [*self.random.sample(list(RANK), 5), "unknown", "paused"]
            self.random.shuffle(statuses)
            yield [[report(f"ordered-{number}", status)] for status in statuses]

    def _all_at_once(self) -> Iterator[list[list[Request]]]:
        """Several statuses at the same moment, while the sending code records the message."""
        self.subsets = [self.random.sample(list(RANK), 1 + n % 6) for n in range(AT_ONCE)]
        for number, statuses in enumerate(self.subsets):
            sent = {"id": f"at-once-{number}", "receiver": CUSTOMERS[1], "body": f"Text {number}"}
            yield [
                [
                    Probe(f"/record-sent?{urlencode(sent)}"),
                    *(report(f"at-once-{number}", status) for status in (*statuses, "unknown")),
                ]
            ]

    def _replies_that_share_an_id(self) -> Iterator[list[list[Request]]]:
        """Four replies to each message, two of them of one customer; some come twice, delivered."""
        for number in range(REPLIES // 4):
            for text, sender in [("yes", 0), ("no", 0), ("yes", 1), ("STOP", 2)]:
                customer = CUSTOMERS[(number * 3 + sender) % 100]
                statuses = ["received", "delivered"] if sender else ["received"]
                yield [[reply(f"shared-{number}", customer, text, each)] for each in statuses]

    def _opt_outs(self) -> Iterator[list[list[Request]]]:
        for number in range(OPT_OUTS):
            contact = CUSTOMERS[number % 100]
            yield [[Webhook(OPT_OUT, {"type": "optout", "contact": contact})]]

    def _arrays(self) -> Iterator[list[list[Request]]]:
        """Reports on five messages in one body, their order by chance, two bodies at a time."""
        for _ in range(ARRAYS // 2):
            numbers = self.random.sample(range(AT_ONCE), min(5, AT_ONCE))
            payload = [self._report_at_once(number).payload for number in numbers]
            yield [[Webhook(STATUS, payload), Webhook(STATUS, payload[::-1])]]

    def _report_at_once(self, number: int) -> Webhook:
        return report(f"at-once-{number}", self.random.choice([*self.subsets[number], "unknown"]))

    def _add_twins(self) -> None:
        groups = [group for each in self.conversations for group in each]
        for group in self.random.sample(groups, min(TWINS, len(groups))):
            group.append(group[-1])

    def _add_late_repeats(self) -> None:
        """Say again, later in a conversation, what has been said, until the number is reached."""
        for _ in range(WEBHOOKS - len(self.webhooks)):
            conversation = self.random.choice(self.conversations)
            place = self.random.randrange(len(conversation))
            again = conversation[place][-1]
            conversation.insert(self.random.randint(place + 1, len(conversation)), [again])


def report(cellcast_id: str, status: str) -> Webhook:
    """Return a delivery report."""
    said = {"_id": cellcast_id, "type": "send", "status": status}
    return Webhook(STATUS, said | {"sender": "cellcast", "receiver": CUSTOMERS[1]})


def reply(cellcast_id: str, sender: str, text: str, status: str = "received") -> Webhook:
    """Return a customer's reply."""
    said = {"_id": cellcast_id, "type": "receive", "status": status, "message": text}
    return Webhook(RECEIVE, said | {"sender": sender, "receiver": "+61400000999"})
