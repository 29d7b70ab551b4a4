"""Keep others from inserting certain rows, where no unique key would make them collide."""

from django.db import connections, models

from cellcast_django.database.vendors import vendor_of


def lock_for_insert(rows: models.QuerySet[models.Model]) -> None:
    """Lock these rows, and any that others are about to insert, until the transaction ends.

    Must come first in the transaction: when it returns, all who had begun to insert such a row have
    committed, and nobody else can begin. An index must lead to the rows. On some databases it locks
    the whole table, and webhooks wait: keep the transaction short, with a limit on its own lock
    waits. A database of which nothing is known locks existing rows only. Inside a test's
    transaction, which nobody races, nothing is locked.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in vendor_of(connection).lock_for_insert:
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
