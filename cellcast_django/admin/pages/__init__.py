"""The pages beside the changelists: overview, figures, setup, *To answer*, conversations.

``registry`` adds the app's own to the admin site and finds them again for links; ``confirmation``
asks before an action on events.
"""
