"""Cellcast's API → payloads: what webhooks failed to bring is fetched, and stored exactly once.

``client`` asks the API and hands out pages of items. It knows no database.
"""
