"""A finished run to data, to charts, to one page."""
