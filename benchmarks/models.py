"""The tables of what the app is compared with."""

from django.db import models

# ruff: noqa: DJ008  # nobody looks at these rows


class BareEvent(models.Model):
    """What ``bare`` keeps: the body as it came."""

    body = models.TextField()
    received_at = models.DateTimeField(auto_now_add=True)


class HandMessage(models.Model):
    """What ``by hand`` keeps of a message."""

    cellcast_id = models.CharField(max_length=128)
    direction = models.CharField(max_length=8)
    sender = models.CharField(max_length=64)
    receiver = models.CharField(max_length=64)
    body = models.TextField(blank=True)
    status = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["cellcast_id", "direction"], name="by_hand_one_message")
        ]


class HandStatus(models.Model):
    """What ``by hand`` keeps of a message's history."""

    message = models.ForeignKey(HandMessage, on_delete=models.CASCADE, related_name="history")
    status = models.CharField(max_length=64)
    recorded_at = models.DateTimeField(auto_now_add=True)
