"""Measures of how well an embedding keeps the annotated cell types, and how well they are predicted."""

from sc_ssl.metrics.classification import classification
from sc_ssl.metrics.clustering import accuracy, clustering, kmeans
from sc_ssl.metrics.paired_compare import paired_compare
from sc_ssl.metrics.pca_space import pca_space

__all__ = ["accuracy", "classification", "clustering", "kmeans", "paired_compare", "pca_space"]
