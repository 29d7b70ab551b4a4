"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions`` and ``rows``. Each write is one of these:

==========================  ===============================  =====================================
what is written             transaction                      tried again
==========================  ===============================  =====================================
webhooks                    ``own_transaction``: limited,    ``with_retries``: once; without a
                            READ COMMITTED                   server, for a few seconds
a call's begin and end,     one statement                    the same
commands' own runs
pruning, recovery           plain ``atomic``, and            the same, for a minute, and for five
                            ``own_transaction``              seconds
by people and the host      their own, at the host's level   ``again_if_refused``: once after a
                                                             deadlock
==========================  ===============================  =====================================
"""
