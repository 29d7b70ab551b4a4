"""What the webhooks of a live account look like, as a text to paste: no number, id, name or text.

    python manage.py shell < what_cellcast_sends.py

Nobody has seen enough live accounts yet: Cellcast documents little, and this app reads what it does
document. The text shows which keys came and of which shape, the forms of ids, copies, and how long
statuses took, beside what the documentation says. It reads the newest 20,000 events and changes
nothing. Look it over before you paste it into an issue.
"""

import re
from collections import Counter, defaultdict
from itertools import groupby, pairwise
from statistics import median

from django.utils import timezone

import cellcast_django
from cellcast_django.models import Message, StatusChange, WebhookEvent
from cellcast_django.statuses import Status
from cellcast_django.webhooks import WEBHOOKS

NEWEST = 20_000
CONTENT_TYPES = {"application/json", "application/x-www-form-urlencoded", "multipart/form-data"}
CONTENT_TYPES |= {"text/plain", "text/html", "text/xml", "application/xml", "text/json", ""}
SHAPES = {
    "ObjectId (24 hex digits)": r"[0-9a-f]{24}",
    "25 hex digits": r"[0-9a-f]{25}",
    "UUID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "number +61… of 11 digits": r"\+61[0-9]{9}",
    "number 61… of 11 digits": r"61[0-9]{9}",
    "number 0… of 10 digits": r"0[0-9]{9}",
    "number of 9 digits": r"[0-9]{9}",
    "digits": r"\+?[0-9]+",
    "a time": r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*",
    "JSON": r"[\[{].*[\]}]",
    "an address": r"https?://\S+",
}


def shape_of(value):
    """Return what kind of value it is, and nothing of the value itself."""
    if isinstance(value, str):
        found = (name for name, each in SHAPES.items() if re.fullmatch(each, value, re.I | re.S))
        return next(found, "text" if value else "empty text")
    if isinstance(value, list):
        return "list of " + (" or ".join(sorted({shape_of(each) for each in value})) or "nothing")
    return {dict: "object", bool: "true or false", type(None): "null"}.get(type(value), "number")


def table(title, counts):
    """Return a heading and a line for each, the most frequent first."""
    lines = [f"  {count:6,}  {name}" for name, count in Counter(counts).most_common()]
    return [f"\n{title}", *(lines or ["       0  none"])]


def keys_to_show(keys, documented):
    """Count the keys that are documented, or words that two different bodies have; else the rest.

    What only one has, with its copies, may be something that a person typed.
    """
    said = Counter()
    for key, bodies in keys.items():
        is_word = re.fullmatch(r"[A-Za-z_]{1,40}", key) and len(set(bodies)) > 1
        said[key if key in documented or is_word else "(others)"] += len(bodies)
    return said


def duration(seconds):
    """Round a number of seconds as people say it."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def spread(all_seconds):
    """Return the middle and the end of some durations."""
    return f"median {duration(median(all_seconds))}, longest {duration(max(all_seconds))}"


def of_url(webhook, events):
    """Describe what came to one URL."""
    mine = [event for event in events if event.endpoint == webhook.endpoint]
    keys, shapes, statuses = defaultdict(list), defaultdict(Counter), Counter()
    for event in mine:
        for key, value in event.payload.items():
            keys[key].append(event.body)
            shapes[key][shape_of(value)] += 1
        if isinstance(status := event.payload.get("status"), str):
            statuses[status if status.lower() in Status else "(a word that we do not know)"] += 1
    said = keys_to_show(keys, webhook.example)
    lines = [f"\n== {webhook.label}: {len(mine):,} events"]
    lines += table("Outcomes", Counter(event.outcome for event in mine))
    lines.append("\nKeys, and of which shape their values were (* is documented)")
    for key, count in said.most_common():
        mark = "*" if key in webhook.example else " "
        found = ", ".join(f"{name} {n:,}" for name, n in shapes[key].most_common())
        lines.append(f"  {count:6,} {mark}{key}: {found}" if found else f"  {count:6,}  {key}")
    lines += [f"       0 *{key}: did not come" for key in webhook.example if key not in said]
    lines += table("Statuses, as written", statuses)
    types = [event.content_type.partition(";")[0].strip().lower() for event in mine]
    names = (each if each in CONTENT_TYPES else "(others)" for each in types)
    lines += table("Content types", Counter(each or "(none)" for each in names))
    together = groupby(mine, key=lambda event: event.received_at)
    sizes = Counter("one event" if len([*some]) == 1 else "several" for _, some in together)
    return lines + table("At one moment (several: an array; one may be an array too)", sizes)


def of_replies(events):
    """Say where the text of replies stood, and whether their id was that of the question."""
    replies = [event for event in events if event.kind == "reply"]
    places = Counter(
        next((key for key in ("reply", "message", "body") if event.payload.get(key)), "no text")
        for event in replies
    )
    sent = set(
        Message.objects.outbound()
        .filter(cellcast_id__in={event.cellcast_id for event in replies if event.cellcast_id})
        .values_list("cellcast_id", flat=True)
    )
    ids = Counter(
        "no id"
        if not event.cellcast_id
        else "the id of a message of ours"
        if event.cellcast_id in sent
        else "another id"
        for event in replies
    )
    return [
        f"\n== Replies: {len(replies):,}",
        *table("The text stood under", places),
        *table("The id was", ids),
        *table("Forms of ids", Counter(shape_of(event.cellcast_id) for event in replies)),
    ]


def of_reports(events):
    """Say whether our own text came back, and how long after the submission statuses came."""
    reports = [event for event in events if event.kind == "status" and event.message]
    echoes = Counter()
    for event in reports:
        if reference := event.message.reference:
            own = event.payload.get("customString") or event.payload.get("custom_string")
            echoes["no" if not own else "yes" if own == reference else "another text"] += 1
    changes = StatusChange.objects.filter(message__submitted_at__isnull=False)
    waits = defaultdict(list)
    for change in changes.select_related("message").order_by("-pk")[:NEWEST]:
        word = change.status if change.status in Status else "(a word that we do not know)"
        waits[word].append((change.recorded_at - change.message.submitted_at).total_seconds())
    return [
        f"\n== Reports: {len(reports):,}",
        *table("Our own text (reference) came back as customString", echoes),
        *table("Forms of ids", Counter(shape_of(event.cellcast_id) for event in reports)),
        "\nTime from the submission to a status",
        *(f"  {len(each):6,}  {word}: {spread(each)}" for word, each in sorted(waits.items())),
    ]


def of_copies(events):
    """Say how far apart equal bodies came: Cellcast's retries."""
    times = defaultdict(list)
    for event in events:
        if event.body:  # redacted ones have none
            times[event.endpoint, event.body].append(event.received_at.timestamp())
    gaps = [
        later - earlier for each in map(sorted, times.values()) for earlier, later in pairwise(each)
    ]
    said = f": {spread(gaps)} after the one before" if gaps else ""
    return [f"\n== Copies of a webhook: {len(gaps):,}{said}"]


def report():
    """Return all of it."""
    events = list(
        WebhookEvent.objects.filter(is_test=False)
        .exclude(endpoint="api")
        .select_related("message")
        .order_by("-pk")[:NEWEST]
    )
    lines = [f"cellcast-django {cellcast_django.__version__}, {timezone.now():%Y-%m-%d}"]
    lines += [line for webhook in WEBHOOKS for line in of_url(webhook, events)]
    return "\n".join([*lines, *of_replies(events), *of_reports(events), *of_copies(events)])


print(report())
