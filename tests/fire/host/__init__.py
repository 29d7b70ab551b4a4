"""A host project to be set on fire: it notes each call of a handler, and dies where told."""
