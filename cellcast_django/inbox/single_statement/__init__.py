"""The common case, one event with one known status, in SQL of its own.

An accelerator: delete the folder and every behavioural test still passes. ``statement`` holds what
the databases share; each of the other modules uses what its database does best.
"""
