"""How rows are displayed: badges, bodies, timelines, sentences. Nothing here queries or writes."""
