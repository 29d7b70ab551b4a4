"""The pages beside the changelists: overview, setup, *To answer* and conversations.

``registry`` adds their URLs to the admin site and finds them again for links.
"""
