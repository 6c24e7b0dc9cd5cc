"""A name as a file of bad intent has it."""

HOSTILE = "</script><script>alert(1)</script>\"'&\u202e\u05d0 {{7*7}} é漢"
"""A name that breaks out of scripts, attributes and templates, and turns the text's direction."""
