"""Everything that leans on Django's database backends, for the models, the inbox and announcements.

Column types, indexes, retries, and ways to execute a statement that are faster than Django's own.
Nothing here knows a model; start with ``retries``.
"""
