"""The one kind of error that a user can mend."""


class InputError(Exception):
    """Bad input or usage. The message is one line: which file, what is wrong, and the mend."""
