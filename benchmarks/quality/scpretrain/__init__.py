"""ScPretrain: annotation of a study left out, the encoder that comes with the package, and cost."""
