"""The CellLM paper's claims: pretraining, annotation, cost of divided minibatches, drugs, protein interactions."""
