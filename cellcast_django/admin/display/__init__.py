"""How rows are shown: badges, bodies, timelines and sentences. Nothing here queries or writes."""
