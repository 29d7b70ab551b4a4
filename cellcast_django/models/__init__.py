"""What is stored: messages, events, handlers' calls and opt-outs. Start with ``message``."""

from cellcast_django.database.transactions import database_alias as database_alias
from cellcast_django.fold import (
    Direction as Direction,
    message_key as message_key,
    submission_time as submission_time,
)
from cellcast_django.models.base import (
    MAX_USERNAME_LENGTH as MAX_USERNAME_LENGTH,
    username_of as username_of,
)
from cellcast_django.models.claim import Claim as Claim
from cellcast_django.models.command_run import CommandRun as CommandRun
from cellcast_django.models.handler_call import (
    MAX_HANDLER_LENGTH as MAX_HANDLER_LENGTH,
    HandlerCall as HandlerCall,
    HandlerCallQuerySet as HandlerCallQuerySet,
)
from cellcast_django.models.message import (
    Message as Message,
    MessageQuerySet as MessageQuerySet,
    StatusChange as StatusChange,
    is_own_number as is_own_number,
    outgoing_parts as outgoing_parts,
)
from cellcast_django.models.opt_out import (
    OptOut as OptOut,
    OptOutChange as OptOutChange,
    OptOutQuerySet as OptOutQuerySet,
)
from cellcast_django.models.webhook_event import (
    MAX_CONTENT_TYPE_LENGTH as MAX_CONTENT_TYPE_LENGTH,
    WebhookEvent as WebhookEvent,
    WebhookEventQuerySet as WebhookEventQuerySet,
)
