"""Test Send, and what its response means.

``test_send`` makes one real HTTP request with a documented example, and ``diagnosis`` turns the
response into advice for a person. The command and the admin's setup page both start here.
"""
