"""What is stored: messages, the history of their statuses, events, handlers' calls, opt-outs.

The inbox writes these rows, running handlers updates their calls, and the admin reads them all. One
file per model; start with ``message``.
"""

from cellcast_django.fold import Direction, message_key, submission_time
from cellcast_django.models.base import MAX_USERNAME_LENGTH, username_of
from cellcast_django.models.claim import Claim
from cellcast_django.models.command_run import CommandRun
from cellcast_django.models.handler_call import (
    MAX_HANDLER_LENGTH,
    HandlerCall,
    HandlerCallQuerySet,
)
from cellcast_django.models.message import (
    Message,
    MessageQuerySet,
    StatusChange,
    database_alias,
    is_own_number,
    outgoing_parts,
)
from cellcast_django.models.opt_out import FOLLOWING_FIELDS, OptOut, OptOutChange, OptOutQuerySet
from cellcast_django.models.webhook_event import (
    MAX_CONTENT_TYPE_LENGTH,
    WebhookEvent,
    WebhookEventQuerySet,
)

__all__ = [
    "FOLLOWING_FIELDS",
    "MAX_CONTENT_TYPE_LENGTH",
    "MAX_HANDLER_LENGTH",
    "MAX_USERNAME_LENGTH",
    "Claim",
    "CommandRun",
    "Direction",
    "HandlerCall",
    "HandlerCallQuerySet",
    "Message",
    "MessageQuerySet",
    "OptOut",
    "OptOutChange",
    "OptOutQuerySet",
    "StatusChange",
    "WebhookEvent",
    "WebhookEventQuerySet",
    "database_alias",
    "is_own_number",
    "message_key",
    "outgoing_parts",
    "submission_time",
    "username_of",
]
