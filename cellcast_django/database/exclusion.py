"""Hold back everybody else who inserts rows of a kind, where no unique key makes them collide."""

from django.db import connections, models

_STATEMENTS = {
    # Waits for the writers of now, and has the later ones wait.
    "postgresql": ("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
    "oracle": ("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE WAIT 2",),
    # At this level InnoDB locks the gaps between the rows that are read for update as well.
    "mysql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
    # A statement that writes takes the one lock, also when it finds nothing to do.
    "sqlite": ("DELETE FROM {table} WHERE 1 = 0",),
}


def lock_for_insert(rows: models.QuerySet[models.Model]) -> None:
    """Lock these rows, and such as others are about to insert, until the transaction ends.

    Must come first in the transaction: when it returns, whoever had begun to insert such a row has
    committed, and nobody else begins. An index must lead to the rows. The lock may be one on the
    whole table, behind which webhooks wait: let the transaction be short, and limit for how long it
    waits for locks itself. A database that is not known here locks the rows that
    are there, and no more. Nothing is locked in a test's own transaction, which nobody races.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in _STATEMENTS.get(connection.vendor, ()):
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
