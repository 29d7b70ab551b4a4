"""Not what to copy: two days of made-up traffic, sent to the example project by ``make demo``."""
