"""The settings of a database that the documentation recommends, by vendor: tested and measured."""

from typing import Any

SERVER: dict[str, Any] = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
RECOMMENDED: dict[str, dict[str, Any]] = {
    "sqlite": {
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                "PRAGMA wal_autocheckpoint=8000;"
            ),
        },
    },
    "postgresql": SERVER | {"OPTIONS": {"connect_timeout": 2, "options": "-c lock_timeout=2s"}},
    "mariadb": SERVER
    | {
        "OPTIONS": {
            "connect_timeout": 2,
            "init_command": "SET innodb_lock_wait_timeout = 2, lock_wait_timeout = 2",
        }
    },
}
