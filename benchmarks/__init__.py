"""How fast is the receiver: ``python -m benchmarks`` (or ``make bench``) measures it."""
