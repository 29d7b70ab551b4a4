"""What the changelists share: read-only permissions, filters, paging by key, CSV export.

Start with ``read_only``, the base class of every ``ModelAdmin`` of the app.
"""
