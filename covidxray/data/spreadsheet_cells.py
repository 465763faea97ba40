"""Write any text into a table so that no spreadsheet takes it for a formula."""

import re

# A spreadsheet evaluates a cell that begins with one of these characters (OWASP, "CSV Injection").
# In locales with a decimal comma, a semicolon ends a cell, even inside quotes after a comma.
FORMULA = "'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
START = "(^|[;\r\n])"


def to_cell(text: str) -> str:
    """The text with an apostrophe before each part that a spreadsheet would evaluate."""
    return re.sub(f"{START}({FORMULA})", r"\1'\2", text)


def from_cell(cell: str) -> str:
    """The text that `to_cell` was given."""
    return re.sub(f"{START}'({FORMULA})", r"\1\2", cell)
