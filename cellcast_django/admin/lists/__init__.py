"""What the changelists share: read-only access, filters, search, paging by key, CSV export.

Start with ``read_only``, the base class of every ``ModelAdmin`` of the app.
"""
