"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions`` and ``rows``.
"""
