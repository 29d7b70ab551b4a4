"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions`` and ``rows``. Each write is one of these, and ``with_retries`` tries all again:

==============================  ==========================================  ======================
what is written                 transaction                                 tried again
==============================  ==========================================  ======================
webhooks, handlers' calls       ``own_transaction``, or ``own_statement``:  once; for five seconds
                                our limits, READ COMMITTED                  without a database
pruning, commands' own runs     plain ``atomic``, or one statement          pruning for a minute
by people and the host's code   their own, at the host's level              after a deadlock
==============================  ==========================================  ======================
"""
