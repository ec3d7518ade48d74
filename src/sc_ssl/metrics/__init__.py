"""Measures of how well an embedding keeps the annotated cell types."""

from sc_ssl.metrics.clustering import accuracy, clustering, kmeans
from sc_ssl.metrics.pca_space import pca_space

__all__ = ["accuracy", "clustering", "kmeans", "pca_space"]
