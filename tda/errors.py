"""The one exception that a person at the terminal is meant to read."""


class UserError(Exception):
    """Something the user can mend; the message says what is wrong, where, and how to mend it."""
