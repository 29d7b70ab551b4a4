"""What is stored: messages, the history of their statuses, events, opt-outs and command runs.

The inbox writes these rows, running handlers updates events, and the admin reads them all. One file
per model; start with ``message``.
"""

from cellcast_django.models.base import MAX_USERNAME_LENGTH, username_of
from cellcast_django.models.claim import Claim
from cellcast_django.models.command_run import CommandRun
from cellcast_django.models.message import (
    Direction,
    Message,
    MessageQuerySet,
    StatusChange,
    database_alias,
    is_own_number,
    message_key,
    outgoing_parts,
    submission_time,
)
from cellcast_django.models.opt_out import FOLLOWING_FIELDS, OptOut, OptOutChange, OptOutQuerySet
from cellcast_django.models.webhook_event import (
    MAX_CONTENT_TYPE_LENGTH,
    HandlerResult,
    WebhookEvent,
    WebhookEventQuerySet,
    error_type,
    errors_of,
    time_of,
)

__all__ = [
    "FOLLOWING_FIELDS",
    "MAX_CONTENT_TYPE_LENGTH",
    "MAX_USERNAME_LENGTH",
    "Claim",
    "CommandRun",
    "Direction",
    "HandlerResult",
    "Message",
    "MessageQuerySet",
    "OptOut",
    "OptOutChange",
    "OptOutQuerySet",
    "StatusChange",
    "WebhookEvent",
    "WebhookEventQuerySet",
    "database_alias",
    "error_type",
    "errors_of",
    "is_own_number",
    "message_key",
    "outgoing_parts",
    "submission_time",
    "time_of",
    "username_of",
]
