"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions``. Each write is one of these:

==============================  ==========================================  ======================
what is written                 transaction                                 tried again
==============================  ==========================================  ======================
webhooks, handlers' results     ``own_transaction``, or ``own_statement``:  ``with_retries``: for
                                our limits, READ COMMITTED                  five seconds
pruning, commands' own runs     plain ``atomic``, or one statement          ``with_retries``
by people and the host's code   their own, at the host's level              ``again_if_refused``:
                                                                            twice, after a deadlock
==============================  ==========================================  ======================
"""
