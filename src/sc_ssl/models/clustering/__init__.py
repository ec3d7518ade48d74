"""Clustering autoencoders: an autoencoder of counts is trained first, then cluster centres together with it."""

from .base import ClusteringModel
from .scdeepcluster import ScDeepCluster
from .sczidesk import ScziDesk

__all__ = ["ClusteringModel", "ScDeepCluster", "ScziDesk"]
