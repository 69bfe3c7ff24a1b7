"""The manual as a site: what is under docs/, the results and the docstrings, built into pages that can be searched."""
