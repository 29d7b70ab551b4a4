"""What may be wrong, and what to do: system checks, Test Send, and what its response means.

``checks`` looks at the settings. ``test_send`` makes one real HTTP request with a documented
example, ``diagnosis`` turns the response into advice for a person, and ``test_data`` removes what
such requests leave behind. Commands and the admin's setup page start here.
"""
