"""From accuracy matrices to tables, figures and a page."""
