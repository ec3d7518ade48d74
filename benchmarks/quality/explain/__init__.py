"""Are the genes that explain a cluster those that hold it together? Deletion, planted programmes, markers, batch, stability."""
