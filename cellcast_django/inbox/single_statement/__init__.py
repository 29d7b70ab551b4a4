"""The common case, one event with one known status, in SQL of its own.

An accelerator: delete the folder and every behavioural test still passes. Start with ``statement``;
``sql`` holds what the databases share, and each of the other modules uses what its database does
best.
"""
