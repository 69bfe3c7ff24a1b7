"""From somebody's recordings to a project that `signet-train fit` carries out."""
