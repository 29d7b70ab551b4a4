"""Running handlers again and processing invalid events again, asked for by a person.

``actions`` are the admin's actions with their confirmation pages, ``replays`` does the work.
"""
