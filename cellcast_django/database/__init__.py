"""Everything that depends on Django's database backends: columns, indexes, transactions.

What differs between the databases stands in ``vendors``. Nothing here knows a model; start with
``transactions``, which has one way to write for each need:

======================  ======================================  =================================
way                     transaction                             tried again
======================  ======================================  =================================
``with_retries``        none, it calls ``write``                until five seconds have passed
``own_transaction``     ours: limits, READ COMMITTED            by ``with_retries`` around it
``own_statement``       the same, without one if it can be      by ``with_retries`` around it
``again_if_refused``    the caller's, at the host's own level   twice, after a deadlock
======================  ======================================  =================================

What webhooks, recovery and handlers' results write takes the first and one of the next two; what
the host project's code and people write takes the last.
"""
