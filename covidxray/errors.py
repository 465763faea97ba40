"""The one kind of error that a user can fix."""


class InputError(Exception):
    """Bad input or usage. The message is one line: which file, what is wrong, and the remedy."""


def printable(text: str) -> str:
    """One line that every terminal and encoding takes: other characters become escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
