"""The peers of the paper's Table 5, in their own public code."""
