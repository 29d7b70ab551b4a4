"""Keep others from inserting certain rows, where no unique key would make them collide."""

from django.db import connections, models

_STATEMENTS = {
    # Waits for the present writers, and makes later ones wait.
    "postgresql": ("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE",),
    "oracle": ("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE WAIT 2",),
    # At this level InnoDB also locks the gaps between the rows read for update.
    "mysql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",),
    # Any write takes the one lock, even if it changes nothing.
    "sqlite": ("DELETE FROM {table} WHERE 1 = 0",),
}


def lock_for_insert(rows: models.QuerySet[models.Model]) -> None:
    """Lock these rows, and any that others are about to insert, until the transaction ends.

    Must come first in the transaction: when it returns, all who had begun to insert such a row have
    committed, and nobody else can begin. An index must lead to the rows. On some databases it locks
    the whole table, and webhooks wait: keep the transaction short, with a limit on its own lock
    waits. A database not listed here locks existing rows only. Inside a test's transaction, which
    nobody races, nothing is locked.
    """
    connection = connections[rows.db]
    if connection.savepoint_ids:
        return
    table = connection.ops.quote_name(rows.model._meta.db_table)
    with connection.cursor() as cursor:
        for statement in _STATEMENTS.get(connection.vendor, ()):
            cursor.execute(statement.format(table=table))
    list(rows.select_for_update().values_list("pk"))
