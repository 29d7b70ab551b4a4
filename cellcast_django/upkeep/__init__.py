"""What is done to rows long after they were stored: pruned, exported, taken back, verified.

In comes which ones: an age, a person's number, the events of a leaked password. Out come rows that
are gone, emptied or as if a forged event had never come, or a file, or a list for people to look
at. Calls no handler and sends nothing. Start with ``retention``, in whose batches all rows go.
"""
