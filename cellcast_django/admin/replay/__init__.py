"""Running handlers again and reading invalid events again, at a person's request.

``actions`` has the admin's actions with their confirmation pages, ``replays`` does the work.
"""
