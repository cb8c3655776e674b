"""The web app: protect photos, try to edit them, compare methods, look at a report; `editproof app` serves it.

page builds it out of one file for each tab; visits keeps each visitor's files apart and deletes them; work runs the
library's functions with progress and a way to stop them.
"""
