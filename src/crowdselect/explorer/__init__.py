"""A page in which the whole selection is computed in the browser, as the command line would: data, engine, page."""
