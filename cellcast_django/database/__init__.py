"""Everything that depends on Django's database backends: columns, indexes, transactions.

Also ways to execute a statement that are faster than Django's own. Nothing here knows a model;
start with ``transactions``.
"""
