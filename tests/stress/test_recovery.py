"""Recoveries that run at once, in processes of their own, while late webhooks come."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from tests.fake_cellcast import KEY, REPLIES, serving
from tests.stress.clients import RECEIVE, Webhook, send
from tests.stress.databases import VENDORS
from tests.stress.hosts import Host
from tests.stress.scale import scaled
from tests.stress.storm import reply

CONTACTS = scaled(60)
REPLIES_EACH = 4
PROCESSES = 3


@pytest.mark.parametrize("vendor", VENDORS)
def test_concurrent_recoveries_and_late_webhooks_store_each_reply_once(
    vendor: str, new_host: Callable[..., Host]
) -> None:
    """All replies of a contact have the same text, and only the commands know the API's key."""
    web = new_host(vendor)
    chance = random.Random(vendor)  # noqa: S311
    late = []
    with serving() as api, web.gunicorn() as server:
        settings = {"CELLCAST_API_URL": api.url, "CELLCAST_API_KEY": KEY}
        cron = replace(web, settings=web.settings | settings)
        now = datetime.now(UTC).replace(microsecond=0)
        for number in range(CONTACTS * REPLIES_EACH):
            contact = f"4000{number % CONTACTS:05}"
            at = now - timedelta(hours=1, seconds=chance.uniform(0, 72_000))
            api.add_reply(at, number=contact, body="ok")
            payload = reply(str(number), f"+61{contact}", "ok").payload
            late.append(Webhook(RECEIVE, payload | {"receiver": "+61400999999"}))
        late = chance.sample(late, len(late) // 2)
        responses = []

        def send_some(place: int) -> None:
            for webhook in late[place::4]:
                responses.append(send(server.port, webhook.encode()))

        def begin_next(path: str, page: int) -> None:
            """Send the late webhooks, and begin with another recovery, while the first is busy."""
            if path != REPLIES:
                return
            if page == 2 and len(recoveries) < PROCESSES:
                recoveries.append(cron.start("django", "cellcast_recover"))
            if page == 3 and not senders:
                senders.extend(Thread(target=send_some, args=[place]) for place in range(4))
                for sender in senders:
                    sender.start()

        senders: list[Thread] = []
        api.page_size = CONTACTS  # so there are as many pages as replies of one contact
        api.before_page = begin_next
        recoveries = [cron.start("django", "cellcast_recover")]
        for process in recoveries:  # which grows meanwhile
            assert process.wait(timeout=300) == 0
        for sender in senders:
            sender.join()
        missing = cron.manage("cellcast_recover")
    assert len(recoveries) == PROCESSES
    assert missing.count(" 0 missing") == 3
    statuses = Counter(response.status for response in responses)
    assert set(statuses) <= {200, 503}

    total = CONTACTS * REPLIES_EACH
    count = "SELECT COUNT(*) FROM cellcast_django_{}".format
    assert web.database.value(count("message")) == total
    assert web.database.value(count("statuschange")) == total
    assert web.database.value(f"{count('webhookevent')} WHERE outcome = 'stored'") == total
    heard = Counter(call.event for call in web.calls() if call.phase == "begin")
    assert len(heard) == total
    assert set(heard.values()) == {2}  # by each of the two handlers
