"""What a competent user of Django REST framework writes in an hour.

Duplicates make two history rows, a late report moves the status backwards, and a handler that
raises loses the event: that is what the app is for.
"""

from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.dispatch import Signal
from django.utils.crypto import constant_time_compare
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.models import HandMessage

message_changed = Signal()


class WebhookAuthentication(BasicAuthentication):
    """HTTP Basic with the one username and password of the settings."""

    def authenticate_credentials(
        self, userid: str, password: str, request: Any = None
    ) -> tuple[Any, None]:
        expected = settings.CELLCAST_WEBHOOK_SECRETS[0]
        if not constant_time_compare(f"{userid}:{password}", expected):
            raise AuthenticationFailed
        return SimpleNamespace(username=userid, is_authenticated=True), None


class WebhookSerializer(serializers.Serializer[Any]):
    """Both of Cellcast's payloads."""

    _id = serializers.CharField(max_length=128)
    status = serializers.CharField(max_length=64)
    type = serializers.ChoiceField(["receive", "send"])
    sender = serializers.CharField(max_length=64)
    receiver = serializers.CharField(max_length=64)
    message = serializers.CharField(required=False, default="")


class WebhookView(APIView):
    """Keeps the message and its history, and tells the signal's receivers."""

    authentication_classes = [WebhookAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        serializer = WebhookSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        with transaction.atomic():
            message, _ = HandMessage.objects.update_or_create(
                cellcast_id=data["_id"],
                direction="inbound" if data["type"] == "receive" else "outbound",
                defaults={
                    "sender": data["sender"],
                    "receiver": data["receiver"],
                    "body": data["message"],
                    "status": data["status"],
                },
            )
            message.history.create(status=data["status"])
        message_changed.send(sender=HandMessage, message=message)
        return Response({"id": message.pk})
