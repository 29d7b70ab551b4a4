"""Receives Cellcast's SMS webhooks: stores them, shows them in the admin, calls your handlers."""

__version__ = "1.0.0b2"
