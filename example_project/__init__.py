"""A small host project: appointments whose reminders are answered by SMS.

Five files are all that a host needs, and what the README shows: ``settings.py``, ``urls.py``, and
of ``appointments`` ``apps.py`` (connects), ``handlers.py`` (reacts) and ``reminders.py`` (sends).
The rest is the host's own; ``simulation`` is the demo's, and not what to copy.
"""
