"""Models by name: what can be had, what is here, and how it gets here."""
