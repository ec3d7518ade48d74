"""Measures of how well an embedding keeps the annotated cell types, and of how well values are predicted."""

from sc_ssl.metrics.clustering import accuracy, clustering, kmeans
from sc_ssl.metrics.pca_space import pca_space
from sc_ssl.metrics.reconstruction import explained_variance, pearson

__all__ = ["accuracy", "clustering", "explained_variance", "kmeans", "pca_space", "pearson"]
