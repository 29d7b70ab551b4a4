"""How rows are displayed: badges, bodies, handlers, sentences. Nothing here queries or writes."""
