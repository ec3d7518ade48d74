"""Bad input to every public function and model: one clear error, before any work, and the cells are unchanged.

What is called is found by signature: a new function or model is here without being named. A required argument that no
other function has needs a line in ``GIVEN``; a new kind of bad value a line in one of the tables.
"""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_counts
from scipy import sparse
from small_models import TARGETS, add_targets, build

from sc_ssl import metrics, models, pl, pp, tl

#: errors that a user's mistake may raise
CLEAR = (ValueError, TypeError, KeyError, FileNotFoundError)
#: what required arguments of functions of cells are given, by their names
GIVEN = {
    "reference": lambda cells: make_counts(seed=1),
    "labels_key": lambda cells: "cell_type",
    "model": lambda cells: trained("MaskedAutoencoder"),
    "methods": lambda cells: ["nmf"],
    "response": lambda cells: "ln_ic50",
    "drugs": lambda cells: pd.DataFrame(np.eye(3), index=list("abc")),
    "genes": lambda cells: [f"gene_{i}" for i in range(96)],
    "orthologs": lambda cells: pd.DataFrame(
        {"human": [f"gene_{i}" for i in range(96)], "mouse": [f"Gene{i}" for i in range(96)]}
    ),
    "edges": lambda cells: pd.DataFrame({"a": ["gene_0", "gene_1"], "b": ["gene_2", "gene_3"]}),
    "truth": lambda cells: "cell_type",
    "predicted": lambda cells: "donor",
    "keys": lambda cells: ["X_masksc"],
    "color": lambda cells: "cell_type",
    "model_or_key": lambda cells: trained("MaskedAutoencoder"),
}
#: what optional arguments are given, so that a call would be short if it were not refused
QUICK = {
    "max_epochs": 1,
    "train_kwargs": {"enable_progress_bar": False},
    "accelerator": "cpu",
    "n_clusters": 2,
    "labels": "cell_type",
    "use_rep": "X_masksc",
    "protein_key": "protein",
    "show": False,
}
#: those that rename or reorder genes and look at no value; and that report what a matrix holds
LOOK_AT_NAMES, REPORT = {"align_genes", "map_orthologs"}, {"check_counts"}
#: those that sum genes of one name
SUM_GENES = {"align_genes", "map_orthologs", "join_studies"}


def trained(name):
    """An untrained model of a class that takes itself for a trained one."""
    model = build(CLASSES[name], make_counts())
    model.is_trained_ = True
    return model


def functions(*modules):
    found = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {name: function for name, function in found.items() if inspect.isfunction(function)}


def parameters(function):
    return inspect.signature(function).parameters


def cells_first(function):
    return next(iter(parameters(function))) in ("adata", "adatas")


OF_CELLS = {name: function for name, function in functions(tl, pp, pl).items() if cells_first(function)}
CLASSES = {name: getattr(models, name) for name in models.__all__}
READ_COUNTS = [name for name, function in OF_CELLS.items() if "layer" in parameters(function) and name not in vars(pl)]
SETUPS = [f"{name}.setup_anndata" for name in CLASSES if name != "CellClassifier"]
QUERIES = [f"{name}.get_latent_representation" for name in CLASSES if name != "CellClassifier"]


@pytest.fixture(scope="module")
def built():
    """An untrained model of each class, by its name, made when it is asked for."""
    known = {}

    def model(name):
        if name not in known:
            known[name] = trained(name)
        return known[name]

    return model


@pytest.fixture
def cells():
    """Cells with all that functions ask for."""
    cells = make_counts(n_batches=2)
    add_targets(cells)
    cells.obsm["X_masksc"] = np.random.default_rng(0).normal(size=(cells.n_obs, 4)).astype(np.float32)
    return cells


def call(entry, cells, built, **options):
    """Call a function or a model's method with these cells, and what else it needs."""
    if entry.endswith(".setup_anndata"):
        return CLASSES[entry.partition(".")[0]].setup_anndata(cells, **options)
    if entry.endswith(".get_latent_representation"):
        return built(entry.partition(".")[0]).get_latent_representation(cells, **options)
    function = OF_CELLS[entry]
    first, *others = parameters(function).values()
    given = {p.name: QUICK[p.name] for p in others if p.name in QUICK}
    required = [p.name for p in others if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    given |= {name: GIVEN[name](cells) for name in required}
    if entry == "embed":
        given["method"] = "contrastive_sc"
    return function({"one": cells} if first.name == "adatas" else cells, **given | options)


def dense(matrix):
    if sparse.issparse(matrix):
        return matrix.toarray()
    return np.ma.getdata(matrix) if isinstance(matrix, np.ndarray) else np.asarray(matrix)


def snapshot(cells):
    """All of an AnnData that a call could change."""
    if not hasattr(cells, "obs"):
        return None
    kept = {
        where: {k: np.array(dense(v), copy=True) for k, v in getattr(cells, where).items()}
        for where in ("obsm", "layers")
    }
    x = None if cells.X is None else np.array(dense(cells.X), copy=True)
    return cells.obs.copy(), cells.var.copy(), x, kept, sorted(cells.uns), sorted(cells.varm), sorted(cells.obsp)


def assert_same(before, after):
    if before is None:
        return
    pd.testing.assert_frame_equal(before[0], after[0])
    pd.testing.assert_frame_equal(before[1], after[1])
    np.testing.assert_array_equal(before[2], after[2])
    for where, fields in before[3].items():
        assert sorted(fields) == sorted(after[3][where])
        for key, values in fields.items():
            np.testing.assert_array_equal(values, after[3][where][key])
    assert before[4:] == after[4:]


def refused(entry, cells, built, errors, words, **options):
    """The call raises one of the errors, with one of the words, and the cells are as they were."""
    before = snapshot(cells)
    with pytest.raises(errors) as raised:
        call(entry, cells, built, **options)
    message = str(raised.value).lower()
    assert any(word.lower() in message for word in words), message
    assert_same(before, snapshot(cells))


# what the values are


def with_value(value):
    def change(cells):
        cells.X.data[5] = value

    return change


def with_matrix(function):
    def change(cells):
        cells.X = function(cells.X)

    return change


def corrected(matrix):
    matrix = matrix.copy()
    matrix.data = (matrix.data * np.random.default_rng(0).uniform(0.7, 1, len(matrix.data))).astype(np.float32)
    return matrix


def normalized(matrix):
    return sparse.csr_matrix(matrix.multiply(1e4 / matrix.sum(axis=1)).astype(np.float32))


def hidden(matrix):
    return np.ma.masked_equal(matrix.toarray(), 3)


VALUES = {
    "NaN": (with_value(np.nan), ValueError, ["finite"]),
    "infinite": (with_value(np.inf), ValueError, ["finite"]),
    "text": (with_matrix(lambda x: x.toarray().astype(str).astype(object)), TypeError, ["astype"]),
    "masked": (with_matrix(hidden), TypeError, ["masked"]),
    "complex": (with_matrix(lambda x: x.toarray() + 1j), TypeError, ["complex", "numbers"]),
}
KINDS = {
    "negative": (with_value(-1.0), ValueError, ["negative"]),
    "corrected": (with_matrix(corrected), ValueError, ["round"]),
    "normalised": (with_matrix(normalized), ValueError, ["not logged"]),
    "log1p": (with_matrix(lambda x: normalized(x).log1p()), ValueError, ["log-normalised"]),
    "scaled": (with_matrix(lambda x: x.toarray() - x.toarray().mean(axis=0)), ValueError, ["scaled"]),
    "empty": (lambda cells: setattr(cells, "X", None), ValueError, ["empty"]),
}
VALUE_CASES = [
    pytest.param(entry, *case, id=f"{entry}-{name}")
    for entry in [*READ_COUNTS, *SETUPS, *QUERIES]
    for name, case in (VALUES | ({} if entry in REPORT else KINDS)).items()
    if entry not in LOOK_AT_NAMES
]


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize(("entry", "change", "error", "words"), VALUE_CASES)
def test_values_that_are_no_counts_are_refused(entry, change, error, words, cells, built):
    change(cells)
    refused(entry, cells, built, error, words)


# what the cells and the genes are called


def named(position, name):
    def change(cells):
        names = list(cells.var_names)
        names[position] = name
        cells.var.index = pd.Index(names, dtype=object)

    return change


NAMES = {
    "missing": (named(3, np.nan), ["name"]),
    "no text": (named(3, 0.5), ["text", "name"]),
    "empty": (named(3, ""), ["name"]),
}
NAME_CASES = [
    pytest.param(entry, *case, id=f"{entry}-{name}")
    for entry in [*READ_COUNTS, *SETUPS, *QUERIES]
    for name, case in NAMES.items()
] + [
    pytest.param(entry, named(3, "gene_4"), ["unique"], id=f"{entry}-twice")
    for entry in [*READ_COUNTS, *SETUPS, *QUERIES]
    if entry not in SUM_GENES
]


@pytest.mark.parametrize(("entry", "change", "words"), NAME_CASES)
def test_genes_without_a_name_of_their_own_are_refused(entry, change, words, cells, built):
    change(cells)
    refused(entry, cells, built, ValueError, words)


@pytest.mark.parametrize("entry", [*OF_CELLS, *SETUPS, *QUERIES])
def test_what_is_no_anndata_is_refused(entry, cells, built):
    refused(entry, pd.DataFrame(cells.X.toarray()), built, TypeError, ["AnnData"])


@pytest.mark.parametrize("entry", [*(name for name in READ_COUNTS if name not in LOOK_AT_NAMES), *SETUPS, *QUERIES])
@pytest.mark.parametrize(("part", "word"), [((slice(0), slice(None)), "cell"), ((slice(None), slice(0)), "gene")])
def test_no_cells_and_no_genes_are_refused(entry, part, word, cells, built):
    refused(entry, cells[part].copy(), built, ValueError, [word])


# columns and other options: argument → value → errors and words; more are welcome

NO_SUCH = {"no such column": ("no_such", KeyError, ["no_such"])}
OPTIONS = {
    "layer": {"no such layer": ("no_such", KeyError, ["no_such"])},
    "batch_key": NO_SUCH | {"values are missing": ("holes", ValueError, ["holes", "missing"])},
    "labels_key": NO_SUCH,
    "truth": NO_SUCH,
    "color": NO_SUCH,
    "protein_key": NO_SUCH,
    "use_rep": NO_SUCH,
    "input": {"unknown": ("cpm", ValueError, ["input"])},
}
OPTION_CASES = [
    pytest.param(entry, argument, *case, id=f"{entry}-{argument}-{name}")
    for entry in [*OF_CELLS, *SETUPS]
    for argument, cases in OPTIONS.items()
    for name, case in cases.items()
    if argument in parameters(OF_CELLS.get(entry) or CLASSES[entry.partition(".")[0]].setup_anndata)
]


@pytest.mark.parametrize(("entry", "argument", "value", "error", "words"), OPTION_CASES)
def test_options_that_cannot_be_are_refused(entry, argument, value, error, words, cells, built):
    cells.obs["holes"] = np.where(np.arange(cells.n_obs) % 7, "a", None)
    more = {"source": make_counts()} if (entry, argument) == ("nmf_transfer", "labels_key") else {}
    refused(entry, cells, built, error, words, **{argument: value}, **more)


# no argument at all


def required(function):
    return [p.name for p in parameters(function).values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


NOTHING = [
    pytest.param(function, argument, id=f"{name}-{argument}")
    for name, function in functions(tl, pp, metrics, pl).items()
    for argument in required(function)
]


@pytest.mark.parametrize(("function", "argument"), NOTHING)
def test_none_for_what_is_required_is_a_clear_error(function, argument, cells):
    valid = {name: GIVEN[name](cells) for name in required(function) if name in GIVEN}
    given = {name: cells if name == "adata" else valid.get(name) for name in required(function)} | {argument: None}
    with pytest.raises(CLEAR):
        function(**given)


def test_every_required_argument_of_a_function_of_cells_is_known():
    assert {a for f in OF_CELLS.values() for a in required(f)} - {"adata", "adatas"} <= set(GIVEN)
    assert set(TARGETS) <= set(CLASSES)
    assert torch.get_default_dtype() == torch.float32
