"""A benchmark's rows as tables, drawings and one page."""
