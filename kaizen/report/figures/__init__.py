"""Each figure once: what it shows, its specification in Vega-Lite, the rows that it is drawn from.
Files for print, the report's page and DVC's plots are filled from these; nothing else draws.
"""
