"""A host project to be put under stress: it notes each call of a handler, and dies where told."""
