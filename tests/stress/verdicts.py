"""What must hold after a crash: all is stored, all was heard, and little was said twice."""

from collections import defaultdict
from collections.abc import Iterable

from tests.stress import oracle
from tests.stress.clients import OPT_OUT, Webhook
from tests.stress.databases import Database
from tests.stress.hosts import Call, Host


def assert_stored(host: Host, webhooks: Iterable[Webhook]) -> None:
    """Each of these webhooks is in the database."""
    oracle.check_rules(host)
    said = list(webhooks)
    stored = oracle.stored_histories(host.database)
    for identity, statuses in oracle.histories(said).items():
        assert statuses <= set(stored[identity]), identity
        assert set(stored[identity].values()) == {1}
    opted_out = oracle.stored_opt_outs(host.database)
    for webhook in said:
        if webhook.path == OPT_OUT:
            assert "+61" + webhook.payload["contact"][1:] in opted_out


def unfinished(database: Database) -> int:
    """Return how many calls have not been made to the end."""
    sql = "SELECT COUNT(*) FROM cellcast_django_handlercall WHERE state <> 'done'"
    return int(database.value(sql))


def assert_heard_by_every_handler(host: Host) -> list[Call]:
    """Every fact that is stored was heard to the end; return the calls that were repeated."""
    calls = host.calls()
    heard = oracle.finished(calls)
    facts = oracle.stored_facts(host.database)
    assert {fact for _, fact in heard} == facts
    assert all((handler, fact) in heard for handler in oracle.HANDLERS for fact in facts)
    assert unfinished(host.database) == 0
    begun = defaultdict(list)
    for call in calls:
        if call.phase == "begin":
            begun[call.handler, call.event].append(call)
    return [call for each in begun.values() for call in each[:-1]]


def assert_were_cut_off(repeated: Iterable[Call], calls: list[Call]) -> None:
    """Each of these calls was the last thing that its process did."""
    last_event = {call.pid: (call.handler, call.event) for call in calls}
    for call in repeated:
        assert last_event[call.pid] == (call.handler, call.event)
