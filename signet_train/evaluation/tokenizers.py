"""Which tokenizers BLEU may have, apart from what computes it: a command's help asks for no package."""

from __future__ import annotations

# sacrebleu's that need no second installation and no download.
TOKENIZERS = ("13a", "zh", "char", "intl", "none")
