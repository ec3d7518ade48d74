"""Measures of how well an embedding keeps the annotated cell types, and of how well types and values are predicted."""

from sc_ssl.metrics.batch_mixing import batch_mixing
from sc_ssl.metrics.classification import classification
from sc_ssl.metrics.clustering import accuracy, clustering, kmeans
from sc_ssl.metrics.paired_compare import paired_compare
from sc_ssl.metrics.pca_space import pca_space
from sc_ssl.metrics.reconstruction import explained_variance, pearson

__all__ = [
    "accuracy",
    "batch_mixing",
    "classification",
    "clustering",
    "explained_variance",
    "kmeans",
    "paired_compare",
    "pca_space",
    "pearson",
]
