"""The host project's own app."""
