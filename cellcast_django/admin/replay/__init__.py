"""What a person can do with events: run handlers again, skip one, read again, dismiss.

``event_actions`` says what each of these does, and in which words; ``pages`` asks before and tells
afterwards.
"""
