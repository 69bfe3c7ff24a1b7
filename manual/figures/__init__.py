"""The figures of the manual, drawn by these modules: python -m manual.figures writes docs/figures/*.svg."""
