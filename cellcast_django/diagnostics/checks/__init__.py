"""What may be wrong with the settings, and what to do: a file for each concern.

Each check takes Django's arguments and yields its messages; ``checks.py`` registers them all.
"""
