"""A sentence encoder's report, and two recipes of it side by side."""
