"""Changing a JSON file in place."""

import json


def edit_json(path, change):
    """Read the file, let `change` work on what it holds, and write it back."""
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))
