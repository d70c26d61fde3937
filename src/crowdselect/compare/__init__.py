"""Compares selections with each other and with random ones, and measures how stable a selection is."""
