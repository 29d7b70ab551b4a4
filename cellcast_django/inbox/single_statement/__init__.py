"""The common case, one event with one known status, in SQL of its own.

An accelerator: delete the folder and every behavioural test still passes. ``statement`` holds what
the databases share; each of the other modules writes it the way its database does best.
"""
