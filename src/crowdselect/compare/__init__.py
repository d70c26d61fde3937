"""Selections side by side, and how much of one remains when something else is chosen."""
