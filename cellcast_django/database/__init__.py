"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions`` and ``rows``. Webhooks and handlers' calls are written by ``own_transaction`` or
``own_statement``, and tried again by ``with_retries``, as pruning is; what people and the host's
code write is tried by ``again_if_refused``.
"""
