"""`results/report.html`: one page with the published results and where each number comes from. No
number is made here: they are the summary's, and the page shows them.
"""
