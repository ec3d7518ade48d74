"""Every name that sc_ssl writes into an AnnData."""

#: column of ``obs`` in the private AnnData that ``tl.embed`` trains on; never in the user's object
LIBRARY_SIZE = "sc_ssl_library_size"

#: column of ``obs`` with the data set and of ``varm`` with the genes that each measured, and in ``uns`` the species whose
#: names the genes have, where :func:`sc_ssl.pp.join_studies` joined several data sets
DATASET, MEASURED, SPECIES = "dataset", "measured", "species"

#: key in ``varm`` of genes' vectors from protein interactions
PPI = "X_ppi"


#: key in ``uns`` of a comparison of methods
COMPARED = "compare"


def embedding_keys(method: str, key_added: str | None = None) -> tuple[str, str]:
    """The keys in ``obsm`` and ``uns``: ``X_<method>`` and ``<method>``, or exactly ``key_added`` for both."""
    return (f"X_{method}", method) if key_added is None else (key_added, key_added)


def cluster_keys(method: str, key_added: str | None = None) -> tuple[str, str]:
    """The keys in ``obs`` and ``obsm``: ``<method>_cluster`` and ``<method>_cluster_proba``, or after ``key_added``."""
    name = key_added or method
    return f"{name}_cluster", f"{name}_cluster_proba"


def cluster_key(use_rep: str, key_added: str | None = None) -> str:
    """The key in ``obs`` and ``uns``: ``<method>_cluster`` for ``X_<method>``, or exactly ``key_added``."""
    return f"{use_rep.removeprefix('X_')}_cluster" if key_added is None else key_added


def stability_key(key: str) -> str:
    """Beside clusters in ``obs``: ``<key>_stability``."""
    return f"{key}_stability"


def annotation_keys(labels_key: str, key_added: str | None = None) -> tuple[str, str, str]:
    """After the reference's key or ``key_added``: ``<key>`` in ``obs`` and ``uns``, ``<key>_score``, ``<key>_proba``."""
    key = key_added or labels_key
    return key, f"{key}_score", f"{key}_proba"


def query_keys(method: str, labels_key: str | None, key_added: str | None = None) -> dict[str, tuple[str, str]]:
    """Of cells that are mapped into a reference, result → (``"obs"`` or ``"obsm"``, key).

    ``X_<method>``, ``X_umap``, ``novelty``, and of the labels ``<key>``, ``<key>_score``, ``<key>_proba``, ``<key>_set``; with
    ``key_added`` that, and ``_``, before each.
    """
    prefix = "" if key_added is None else f"{key_added}_"
    keys = {"embedding": ("obsm", f"X_{method}"), "umap": ("obsm", "X_umap"), "novelty": ("obs", "novelty")}
    if labels_key is not None:
        types, score, proba = annotation_keys(labels_key)
        keys |= {"types": ("obs", types), "score": ("obs", score), "proba": ("obsm", proba)}
        keys |= {"set": ("obsm", f"{labels_key}_set")}
    return {result: (where, prefix + key) for result, (where, key) in keys.items()}


def prediction_key(measured_key: str, key_added: str | None = None) -> str:
    """The key in ``obsm`` and ``uns``: ``<measured_key>_predicted``, or exactly ``key_added``."""
    return f"{measured_key}_predicted" if key_added is None else key_added


def explain_keys(method: str, key_added: str | None = None) -> tuple[str, str]:
    """The keys in ``varm`` and ``uns``: ``<method>_contributions`` and ``<method>_explained``, or after ``key_added``."""
    return (f"{method}_contributions", f"{method}_explained") if key_added is None else (key_added, key_added)


def rotation_keys(use_rep: str, key_added: str | None = None) -> tuple[str, str]:
    """The keys in ``obsm`` and ``uns``: ``X_<method>_varimax`` and ``<method>_varimax``, or exactly ``key_added`` for both."""
    name = f"{use_rep.removeprefix('X_')}_varimax"
    return (f"X_{name}", name) if key_added is None else (key_added, key_added)
