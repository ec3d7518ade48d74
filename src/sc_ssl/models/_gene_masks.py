"""A mask by its name, over a model's genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sc_ssl._checks import check_choice
from sc_ssl.data import program_members, regulon_members
from sc_ssl.views import GeneMasking, GenePrograms, OneProgram, ProgramToRegulator, RandomGenes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MASKS = ("random_genes", "gene_programs", "one_program", "program_to_regulator")


def build_masking(
    mask: str,
    mask_rate: float,
    programs: Mapping[str, Sequence[str]] | None,
    genes: Sequence[str],
    *,
    leave_out_regulons: bool = False,
) -> GeneMasking:
    """The mask of this name over these genes."""
    check_choice("mask", mask, MASKS)
    if mask == "random_genes":
        if programs is not None:
            raise ValueError("mask='random_genes' reads no programs; name a mask that does, or leave out programs.")
        return RandomGenes(len(genes), mask_rate)
    if programs is None:
        raise ValueError(f"mask={mask!r} needs programs: a GMT file, a dictionary or a key of varm or uns.")
    if mask == "program_to_regulator":
        _, member_pg, regulator_p = regulon_members(programs, genes, leave_out=leave_out_regulons)
        return ProgramToRegulator(torch.as_tensor(member_pg), torch.as_tensor(regulator_p))
    member_pg = torch.as_tensor(program_members(programs, genes)[1])
    return GenePrograms(member_pg, mask_rate) if mask == "gene_programs" else OneProgram(member_pg, mask_rate)
