"""A database that a release has made is migrated to what is in the tree.

``rows-VERSION.json`` has the rows of that release, as its own code made them (``shop.py``), a row a
line; ``digests.json`` what its migrations were. Written on SQLite, and the digests of SQL on each
database, by:

    .venv/bin/python -m tests.upgrades 1.0.0b1
    for each in postgresql mariadb; do .ci/with $each .venv/bin/python -m tests.upgrades; done

Each minor release adds a file of rows, and its migrations to the digests. What a released file says
stays as it is.
"""
