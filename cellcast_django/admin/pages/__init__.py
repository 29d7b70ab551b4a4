"""The pages that are no changelist: overview, setup and a contact's conversation.

``registry`` adds their URLs to the admin site and finds them again for links.
"""
