"""How figures are taken and told: clocks and memory, a report whose tables fill up, and its plot."""
