"""Test Send, and what its response means.

``test_send`` makes one real HTTP request with a documented example, and removes what such requests
leave behind; ``diagnosis`` turns the response into advice for a person.
"""
