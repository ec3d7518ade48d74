"""Clustering with the annotated number of clusters, and the number of clusters without labels."""
