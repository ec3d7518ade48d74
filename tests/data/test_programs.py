import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from sc_ssl.data import find_programs, program_members, read_programs, regulon_members

GENES = [f"gene_{i}" for i in range(20)]
GMT = "UP\thttp://example.org\tA\tB\tA\nDOWN\t\tC\n\n"


@pytest.fixture
def gmt(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text(GMT)
    return path


def test_gmt_gives_each_gene_once_in_order(gmt):
    assert read_programs(gmt) == {"UP": ["A", "B"], "DOWN": ["C"]}


def test_table_of_decoupler_is_read(gmt):
    table = pd.DataFrame({"source": ["UP", "DOWN", "UP", "UP"], "target": ["A", "C", "B", "A"], "weight": 1.0})
    assert read_programs(table) == read_programs(gmt)
    with pytest.raises(KeyError, match="'source' .* found geneset, target"):
        read_programs(table.rename(columns={"source": "geneset"})[["geneset", "target"]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("UP\tx\tA\nthis is no GMT\n", "line 2: a GMT file has .* found 'this is no GMT'"),
        ("UP\tx\tA\nDOWN\tx\n", "line 2"),
        ("UP\tx\tA\nUP\tx\tB\n", "line 2: programme 'UP' is there twice"),
        ("\n", "holds no programme"),
    ],
)
def test_what_is_no_gmt_is_refused_with_the_line(tmp_path, text, message):
    path = tmp_path / "bad.gmt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_programs(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.gmt is no file"):
        read_programs(tmp_path / "nothing.gmt")


def test_programmes_are_found_wherever_they_are(gmt):
    adata = AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["A", "B", "C"]))
    member = pd.DataFrame({"UP": [1, 2, 0], "DOWN": [0, 0, -1]}, index=adata.var_names)
    adata.varm["frame"] = member
    adata.varm["array"] = member.to_numpy()
    adata.varm["sparse"] = sparse.csr_matrix(member.to_numpy())
    adata.uns["dict"] = {"UP": np.array(["A", "B"]), "DOWN": ["C"]}
    adata.uns["table"] = pd.DataFrame({"source": ["UP", "UP", "DOWN"], "target": ["A", "B", "C"]})
    expected = {"UP": ["A", "B"], "DOWN": ["C"]}
    for given in (gmt, str(gmt), "frame", "dict", "table", expected, adata.uns["table"]):
        assert find_programs(given, adata) == expected
    for given in ("array", "sparse"):
        assert list(find_programs(given, adata).values()) == list(expected.values())


def test_unknown_programmes_are_refused_with_what_there_is():
    adata = AnnData(np.ones((2, 3), np.float32), uns={"sets": {}})
    with pytest.raises(KeyError, match="'nowhere' is no GMT file, and adata.varm has no keys, adata.uns 'sets'"):
        find_programs("nowhere", adata)
    with pytest.raises(ValueError, match="empty dictionary"):
        find_programs("sets", adata)
    with pytest.raises(TypeError, match="found int"):
        find_programs(3, adata)


def test_programmes_that_say_nothing_are_refused():
    adata = AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["A", "B", "C"]))
    adata.varm["sets"] = pd.DataFrame({"UP": [1, np.nan, 0]}, index=adata.var_names)
    with pytest.raises(ValueError, match=r"varm\['sets'\] .* NaN for gene 'B' in programme 'UP'"):
        find_programs("sets", adata)
    with pytest.raises(ValueError, match="row 1 lacks one"):
        find_programs(pd.DataFrame({"source": ["UP", "UP"], "target": ["A", None]}), adata)
    with pytest.raises(TypeError, match="programme 'UP' should be a list of genes, found 'CD3D'"):
        find_programs({"UP": "CD3D"}, adata)


def test_members_are_the_measured_genes_and_small_programmes_are_left_out(logged):
    programs = {"A": [*GENES[3:9], "other", GENES[3]], "B": [*GENES[:4], "other"], "C": GENES[5:10]}
    names, member_pg = program_members(programs, GENES)
    assert names == ["A", "C"]
    assert member_pg[0].nonzero()[0].tolist() == [3, 4, 5, 6, 7, 8]
    assert member_pg[1].nonzero()[0].tolist() == [5, 6, 7, 8, 9]
    assert "1 of 3 programmes have under 5 measured genes and are left out: B" in logged()


def test_programmes_of_another_species_are_refused_with_examples():
    with pytest.raises(ValueError, match="none of the 1 programmes .*'UP' .*'A', 'B'.* names such as 'gene_0'"):
        program_members({"UP": ["A", "B"]}, GENES)


def test_regulons_are_known_by_their_factor(logged):
    regulons = {
        "gene_1": [*GENES[5:11], "gene_1"],
        "GGCG_gene": GENES[5:11],
        "gene_2": ["gene_2", *GENES[5:9]],  # four targets beside itself
    }
    genes = [*GENES, "SP1"]
    regulons["GGGCGGR_SP1_Q6"] = GENES[8:14]
    with pytest.raises(
        ValueError, match=r"1 of 4 regulons .* among the 21 genes: 'GGCG_gene'\. leave_out_regulons=True"
    ):
        regulon_members(regulons, genes)
    names, member_pg, regulator_p = regulon_members(regulons, genes, leave_out=True)
    assert names == ["gene_1", "GGGCGGR_SP1_Q6"]
    assert regulator_p.tolist() == [1, 20]
    assert member_pg[0].nonzero()[0].tolist() == [5, 6, 7, 8, 9, 10]
    assert "1 of 4 regulons have no factor among the genes and are left out" in logged()
    with pytest.raises(ValueError, match="none of the 1 regulons has its transcription factor .* 'SP1'"):
        regulon_members({"SP1": GENES}, GENES)
