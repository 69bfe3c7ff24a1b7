"""How a run went, as one page that is whole in itself."""
