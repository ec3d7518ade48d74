"""Cell types of a reference for new cells."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from sc_ssl._checks import check_choice
from sc_ssl._keys import DATASET, LIBRARY_SIZE, annotation_keys
from sc_ssl._logging import logged_once, logger
from sc_ssl.data import MIN_COVERAGE, Counts, LightAnnData, check_cells, check_coverage, describe_names
from sc_ssl.models import CellClassifier, ScPretrain, SSLModel
from sc_ssl.models.base import check_training
from sc_ssl.pp.join_studies import join_counts
from sc_ssl.train import seeded

from ._annotation_encoder import BOTH, given_encoder, knows_both, to_train, train_encoder
from ._cells import INPUTS, MIN_CELLS, find, named_as
from ._model_folder import describe_call
from ._off_the_shelf import OFF_THE_SHELF, predict_off_the_shelf
from ._record import Field, check_free, record, write

if TYPE_CHECKING:
    from collections.abc import Mapping


ANNOTATORS = ("finetune", "supervised", *OFF_THE_SHELF)
#: of the network without pretraining, all of it from the first epoch on
LR_SUPERVISED = 1e-3
#: column with the types in our own cells, where the user's has the name of another of ours
TYPES = "sc_ssl_type"
#: the mean of fewer cells is that of their types
MIN_TO_CENTER = 20


@logged_once()
def annotate(
    adata: AnnData,
    reference: AnnData,
    labels_key: str,
    *,
    method: Literal["finetune", "supervised", "knn", "logistic", "svm", "forest"] = "finetune",
    model: SSLModel | str | Path | None = None,
    orthologs: pd.DataFrame | str | Path | None = None,
    unlabeled_category: str = "Unknown",
    key_added: str | None = None,
    layer: str | None = None,
    input: Literal["counts", "log1p"] = "counts",
    center: bool | None = None,
    refuse: bool = False,
    n_top_genes: int | None = 2000,
    max_epochs: int | None = None,
    random_state: int | np.random.Generator | None = 0,
    accelerator: str = "auto",
    save_model: str | Path | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    classifier_kwargs: Mapping[str, Any] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Name the types of cells after an annotated reference, which may have other genes, depth or species.

    Both are embedded by one encoder; by default a :class:`~sc_ssl.models.ScPretrain` that is trained here on the two,
    without labels, over genes that they share.

    Parameters
    ----------
    adata
        The cells to annotate, cells × genes with raw counts. Only ``obs``, ``obsm`` and ``uns`` are written.
    reference
        Cells with types and raw counts, of the same or another species; not changed.
    labels_key
        Column of ``reference.obs`` with the types.
    method
        ``"finetune"``: a :class:`~sc_ssl.models.CellClassifier`, which also calls cells unknown; ``"supervised"``: the
        same from scratch, without pretraining, to compare with; ``"knn"``: labelled neighbours in the embedding, the
        zero-shot annotation of Richter et al. (2024); ``"logistic"``, ``"svm"``, ``"forest"``: scikit-learn's classifiers
        on it.
    model
        The encoder: a trained model of this package, its folder, or the name of a method, for example ``"mae"``, which is
        trained here instead, with the data sets as batches. ``"supervised"`` takes a name, by default ``"mae"``.
    orthologs
        As of :func:`sc_ssl.pp.map_orthologs`: needed when the genes are named after different species.
    unlabeled_category
        Value of ``reference.obs[labels_key]`` for cells without a type, and the name for unknown cells here.
    key_added
        Name of the result, by default ``labels_key``.
    layer
        Layer of counts in both; ``None`` takes ``layers["counts"]`` if there, else ``X``.
    input
        ``"log1p"`` when log-normalised values are all there is in both; an encoder that is given was trained on the same.
    center
        Take the mean off each data set's embedding first, which removes what sets all cells of one apart from all of
        the other; of use where platform or species differ, of harm where types do or cells are few. By default when
        species differ and there are at least 20 cells.
    refuse
        Call cells unknown that are less sure than nearly all reference cells that were kept aside (``"finetune"`` only).
        Cells of other experiments are less sure than these, so that many of a known type may be refused.
    n_top_genes
        Genes of the encoder that is trained here, those that vary most in both; ``None`` takes all that they share.
    max_epochs
        Of each training; by default each one's own.
    random_state
        Seed, or a generator to draw it from; ``None`` runs on the caller's random state.
    accelerator
        ``"auto"``, ``"cpu"``, ``"gpu"``, ….
    save_model
        Folder to save the encoder that is trained here to, for later ``model=folder``. Until then it holds checkpoints:
        when the encoder's training was interrupted, the same call goes on from them. After an interruption later on,
        ``model=folder`` takes the encoder that is finished.
    train_kwargs
        More arguments of the models' ``train``, for example ``{"enable_progress_bar": False}``.
    classifier_kwargs
        More arguments of :meth:`sc_ssl.models.CellClassifier.train`, for example ``freeze_encoder`` or ``adapt``.
    copy
        Write to a copy and return it.

    Returns
    -------
    ``None``, or the copy. Sets the following fields, ``<key>`` being ``labels_key`` or ``key_added``:

    ``adata.obs['<key>']`` : categorical of str
        The most probable type; ``unlabeled_category`` for cells without counts, and with ``refuse`` for unknown ones.
    ``adata.obs['<key>_score']`` : float32
        Its probability.
    ``adata.obsm['<key>_proba']`` : float32 (n, k)
        The probability of each type, in the order of ``classes``, for :func:`sc_ssl.metrics.classification` for example.
    ``adata.uns['<key>']`` : dict
        ``params``, ``versions``, ``genes``, ``classes``, ``seconds``; with ``refuse`` also ``threshold``.

    Raises
    ------
    KeyError
        No such column.
    FileExistsError
        ``save_model`` is there already, and no interrupted training in it.
    ValueError
        A field is there already that no earlier call has written; under two types; too few genes in common; other species without
        ``orthologs``; not raw counts.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.pbmc68k_reduced()
    >>> reference, query = adata[:500].copy(), adata[500:].copy()
    >>> sc_ssl.tl.annotate(query, reference, "cell_type", key_added="predicted")
    >>> sorted(key for key in query.obs if key.startswith("predicted"))
    ['predicted', 'predicted_score']
    """
    start = time.perf_counter()
    check_training({"max_epochs": max_epochs, **(train_kwargs or {})})
    check_training(classifier_kwargs or {}, CellClassifier.train)
    keys = annotation_keys(labels_key, key_added)
    check_choice("method", method, ANNOTATORS)
    name = to_train(model, method)
    _check_options(method, name, refuse=refuse, save_model=save_model, classifier_kwargs=classifier_kwargs)
    _check_labels(reference, labels_key, unlabeled_category)
    query_counts = find(adata, layer, input, min_cells=1 if name is None else MIN_CELLS, takes=INPUTS)
    known_counts = find(reference, layer, input, of="reference", takes=INPUTS)
    check_free(adata, _fields(keys), keys[0])
    options = {"max_epochs": max_epochs, "accelerator": accelerator, **(train_kwargs or {})}
    with seeded(random_state) as seed:
        if name is None:
            encoder = given_encoder(model, input)
        else:
            both = dict(zip(BOTH, (known_counts, query_counts), strict=True))
            cells = join_counts(both, orthologs=orthologs, min_datasets=2, n_top_genes=n_top_genes)
            call = describe_call({"model": name}, random_state, options)
            encoder = train_encoder(name, cells, save_model, call, options, pretrain=method != "supervised")
        known, query = _as_read_by(encoder, known_counts, query_counts, orthologs)
        ours = {LIBRARY_SIZE, DATASET, encoder.setup_arguments["batch_key"]}
        types_key = TYPES if labels_key in ours else labels_key
        known.obs[types_key] = reference.obs[labels_key].to_numpy()
        types = {"labels_key": types_key, "unlabeled_category": unlabeled_category}
        classifier = CellClassifier.from_pretrained(encoder, known, **types)
        center = _differ(adata, reference) and adata.n_obs >= MIN_TO_CENTER if center is None else center
        if method in OFF_THE_SHELF:
            proba = _off_the_shelf(classifier, query, method, seed, center=center)
        else:
            rate = {"lr_encoder": LR_SUPERVISED} if method == "supervised" else {}
            classifier.train(**options | rate | dict(classifier_kwargs or {}))
            proba = classifier.predict(query, soft=True, center=center)
    params = {
        "method": method,
        "labels_key": labels_key,
        "encoder": type(encoder).__name__,
        "random_state": seed,
        "center": center,
        "refuse": refuse,
        "max_epochs": max_epochs,
        "input": input,
        "classifier_kwargs": classifier_kwargs or None,
        "n_top_genes": None if name is None else n_top_genes,
    }
    classes = np.asarray(classifier.classes, dtype=object)
    threshold = {"threshold": float(classifier.module.threshold)} if refuse else {}
    done = record(encoder.var_names, params, classes=classes, **threshold, seconds=time.perf_counter() - start)
    proba_nk = proba.reindex(columns=classes, fill_value=0).to_numpy(np.float32)
    proba_nk[query_counts.library_size <= 0] = 1 / len(classes)
    found = _types_and_scores(proba_nk, done, unlabeled_category)
    return write(adata, dict(zip(_fields(keys), (*found, proba_nk), strict=True)), keys[0], done, copy=copy)


def _check_options(
    method: str,
    name: str | None,
    *,
    refuse: bool,
    save_model: str | Path | None,
    classifier_kwargs: Mapping[str, Any] | None,
) -> None:
    """Errors for arguments that the method does not have; ``name`` is that of the encoder that is trained here."""
    if refuse and method != "finetune":
        raise ValueError(
            f"refuse=True needs method='finetune', which keeps cells aside to be sure by; found {method!r}."
        )
    if save_model is not None and (name is None or method == "supervised"):
        raise ValueError("save_model keeps an encoder that is trained here; leave it out where none is.")
    if classifier_kwargs and method not in ("finetune", "supervised"):
        raise ValueError(f"classifier_kwargs are of method='finetune' and 'supervised', found {method!r}.")


def _check_labels(reference: AnnData, labels_key: str, unlabeled_category: str) -> None:
    """An error for types that a classifier cannot learn, before an encoder is trained."""
    check_cells(reference, unique_genes=False)
    if labels_key not in reference.obs:
        raise KeyError(f"{labels_key!r} is not in reference.obs, which has {', '.join(reference.obs) or 'none'}.")
    CellClassifier.check_labels(reference, labels_key, unlabeled_category)


def _fields(keys: tuple[str, str, str]) -> list[Field]:
    """Where types, scores and probabilities are written."""
    return list(zip(("obs", "obs", "obsm"), keys, strict=True))


def _types_and_scores(
    proba_nk: np.ndarray, done: dict[str, Any], unlabeled_category: str
) -> tuple[pd.Categorical, np.ndarray]:
    """The most probable types and their probabilities.

    Cells below the threshold, if there is one, are unknown, and cells without counts, which no type fits better.
    """
    top = proba_nk.max(axis=1)
    type_n = done["classes"][proba_nk.argmax(axis=1)]
    if "threshold" in done:
        unknown = top < done["threshold"]
        type_n[unknown] = unlabeled_category
        logger.info("%d of %d cells are unknown: less probable than %.2f.", sum(unknown), len(top), done["threshold"])
    alike = (proba_nk == proba_nk[:, :1]).all(axis=1)
    if alike.any():
        type_n[alike] = unlabeled_category
        logger.warning("%d cells in which none of the genes is expressed are %r.", alike.sum(), unlabeled_category)
    return pd.Categorical(type_n), top


def _as_read_by(encoder: SSLModel, known: Counts, query: Counts, orthologs: Any) -> tuple[LightAnnData, LightAnnData]:
    """Reference and query with the encoder's names of genes and data sets; an error when the query lacks its genes."""
    of_known, of_query = (_in_names_of(encoder, counts, orthologs) for counts in (known, query))
    if knows_both(encoder) and not isinstance(encoder, ScPretrain):  # which embeds without batches
        of_known.obs[DATASET], of_query.obs[DATASET] = BOTH
    check_coverage(of_query.var_names, encoder.var_names, MIN_COVERAGE)
    return of_known, of_query


def _in_names_of(encoder: SSLModel, counts: Counts, orthologs: Any) -> LightAnnData:
    """The cells, in memory, with genes named as the encoder's, through the orthologs where need be."""
    counts = named_as(encoder, counts, orthologs)
    # no column of the user's but the batch of an encoder that was trained before
    obs, batch_key = (
        pd.DataFrame({LIBRARY_SIZE: counts.library_size}, counts.obs_names),
        encoder.setup_arguments["batch_key"],
    )
    if batch_key in counts.obs and not knows_both(encoder):
        obs[batch_key] = counts.obs[batch_key].to_numpy()
    return LightAnnData(replace(counts, obs=obs))


def _differ(adata: AnnData, reference: AnnData) -> bool:
    """Whether the genes are named after two species."""
    species = {describe_names(cells.var_names).species for cells in (adata, reference)}
    return len(species - {None}) == 2


def _off_the_shelf(
    classifier: CellClassifier, query: AnnData, method: str, seed: int | None, *, center: bool
) -> pd.DataFrame:
    """Probabilities of the types (n, k) by a classifier on embeddings."""
    known_nd, query_nd = classifier.get_latent_representation(), classifier.get_latent_representation(query)
    if center:
        known_nd, query_nd = known_nd - known_nd.mean(axis=0), query_nd - query_nd.mean(axis=0)
    labelled = np.flatnonzero([name is not None for name in classifier.labels])
    labels = classifier.labels[labelled].astype(str)
    proba_nk, classes = predict_off_the_shelf(method, known_nd[labelled], labels, query_nd, random_state=seed)
    return pd.DataFrame(proba_nk, index=query.obs_names, columns=classes)
