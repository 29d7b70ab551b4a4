"""Receives Cellcast's SMS webhooks: stores them, shows them in the admin, calls your handlers."""
