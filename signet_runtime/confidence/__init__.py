"""How sure a text is: what speaks for it, and what a bundle learned to make of that."""
