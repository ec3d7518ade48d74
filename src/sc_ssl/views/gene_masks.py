"""Masks of genes: which genes of a cell the encoder sees, and which the loss scores (Richter et al. 2024)."""

from abc import abstractmethod
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GeneMask(NamedTuple):
    """Which genes the encoder sees and which the loss scores, both (n, g) bool; they may overlap, and may leave genes out."""

    visible_ng: Tensor
    scored_ng: Tensor


class GeneMasking(nn.Module):
    """Draws a mask for each cell alone, on the device where its buffers lie.

    The authors' code draws programmes for a whole minibatch, and where no rate is given silently masks nothing.
    """

    place: Tensor
    #: visible genes are scaled by the inverse of their share, as in the paper; not where nearly all are hidden
    rescales = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # knows the device

    @abstractmethod
    def forward(self, n_cells: int) -> GeneMask:
        """Draw the masks of n cells from torch's random state."""

    def show(self, x_ng: Tensor, visible_ng: Tensor) -> Tensor:
        """Z-scored cells as the encoder sees them: a hidden gene takes its mean, 0."""
        shown_ng = x_ng * visible_ng
        if not self.rescales:
            return shown_ng
        return shown_ng * (x_ng.shape[1] / visible_ng.sum(dim=1, keepdim=True).clamp(min=1))


class RandomGenes(GeneMasking):
    """Each gene of each cell is hidden with probability ``rate``; the hidden ones are scored.

    Parameters
    ----------
    n_genes
        Number of genes g, at least 2.
    rate
        In (0, 1).
    """

    def __init__(self, n_genes: int, rate: float = 0.5) -> None:
        super().__init__()
        _check_rate(rate)
        if n_genes < 2:
            raise ValueError(f"masking needs at least 2 genes, found {n_genes}.")
        self.n_genes, self.rate = n_genes, rate

    def forward(self, n_cells: int) -> GeneMask:
        """Hidden where scored."""
        hidden_ng = _bernoulli(n_cells, self.n_genes, self.rate, self.place.device)
        return GeneMask(~hidden_ng, hidden_ng)


# Sets of genes are packed as bits, 64 genes in an int64. A mask of programmes is the union of a random number of sets for
# each cell; as bits it is an OR of few words, which is 2 to 11 times faster than the simple loop over Boolean rows.


class GenePrograms(GeneMasking):
    """Whole programmes are hidden until a share of the genes is; the hidden ones are scored.

    Programmes come in a random order for each cell, and the one that reaches the rate is the last. The rate is of the
    genes that belong to any programme; the others are always visible and never scored. The authors take a share of the
    programmes instead, so that with programmes that overlap nearly all genes can be hidden.

    Parameters
    ----------
    member_pg
        True where gene g belongs to programme p, (p, g) bool; at least 2 programmes.
    rate
        In (0, 1).
    """

    packed_pw: Tensor
    size_p: Tensor

    def __init__(self, member_pg: Tensor, rate: float = 0.5) -> None:
        super().__init__()
        _check_rate(rate)
        _check_programs(member_pg)
        if len(member_pg) < 2:
            raise ValueError("masking programmes needs at least 2 of them: with one, every cell has the same mask.")
        self.n_genes = member_pg.shape[1]
        self.n_hidden = max(int(rate * int(member_pg.any(dim=0).sum()) + 1e-9), 1)
        # one row more, the programme without genes
        member_pg = torch.cat([member_pg, torch.zeros_like(member_pg[:1])])
        self.register_buffer("packed_pw", _pack(member_pg), persistent=False)
        self.register_buffer("size_p", member_pg.sum(dim=1), persistent=False)

    def forward(self, n_cells: int) -> GeneMask:
        """Hidden where scored.

        Programmes are drawn with replacement: one that comes again hides nothing new, so the order of the first draws
        is that of a shuffle. A round takes, for each cell, as many as would do if they shared no gene, the next one
        what is still missing because they do; so none is taken after the rate is met.
        """
        # a are the cells that still miss genes: all at first, fewer in each round
        device = self.place.device
        packed_nw = torch.zeros(n_cells, self.packed_pw.shape[1], dtype=torch.int64, device=device)
        cell_a = torch.arange(n_cells, device=device)
        missing_a = torch.full((n_cells,), self.n_hidden, device=device)
        while len(cell_a):
            packed_aw = self._add(packed_nw[cell_a], missing_a)
            packed_nw[cell_a] = packed_aw
            # programmes overlap: only what is set counts
            missing_a = self.n_hidden - _count(packed_aw)
            short = missing_a > 0
            cell_a, missing_a = cell_a[short], missing_a[short]
        hidden_ng = _unpack(packed_nw, self.n_genes)
        return GeneMask(~hidden_ng, hidden_ng)

    def _add(self, packed_aw: Tensor, missing_a: Tensor) -> Tensor:
        """Add to the genes of each cell those of the fewest programmes with as many genes as are missing."""
        # d draws a cell: enough for the cell that misses most, at the mean size of a programme
        n_programs = len(self.size_p) - 1
        n_draws = int(missing_a.max() / self.size_p[:-1].double().mean()) + 1
        program_ad = torch.randint(n_programs, (len(missing_a), n_draws), device=missing_a.device)
        # a draw after the sizes have added up to what is missing becomes the last row, the programme without genes
        size_ad = self.size_p[program_ad]
        not_needed_ad = size_ad.cumsum(dim=1) - size_ad >= missing_a[:, None]
        program_ad[not_needed_ad] = n_programs
        # (a, d) draws, one column at a time, ORed into the words (a, w) of each cell
        for program_a in program_ad.unbind(dim=1):
            packed_aw |= self.packed_pw.index_select(0, program_a)
        return packed_aw


class OneProgram(GeneMasking):
    """One programme, drawn for each cell, is all that the encoder sees, and the loss scores that programme alone.

    The authors' GP-to-GP task, which their code never ran: it is the plain autoencoder of a part of the cell unless
    some of the programme's genes are hidden too.

    Parameters
    ----------
    member_pg
        True where gene g belongs to programme p, (p, g) bool.
    rate
        Share of the programme's genes that are hidden though scored, in [0, 1).
    """

    member_pg: Tensor
    rescales = False

    def __init__(self, member_pg: Tensor, rate: float = 0.5) -> None:
        super().__init__()
        if rate != 0:
            _check_rate(rate)
        _check_programs(member_pg)
        self.rate = rate
        self.register_buffer("member_pg", member_pg, persistent=False)

    def forward(self, n_cells: int) -> GeneMask:
        """Visible within what is scored."""
        program_n = torch.randint(len(self.member_pg), (n_cells,), device=self.place.device)
        scored_ng = self.member_pg[program_n]  # (p, g) → (n, g)
        if not self.rate:
            return GeneMask(scored_ng, scored_ng)
        return GeneMask(scored_ng & ~_bernoulli(n_cells, scored_ng.shape[1], self.rate, scored_ng.device), scored_ng)


class ProgramToRegulator(GeneMasking):
    """The targets of one transcription factor, drawn for each cell, are all that is visible; the factor is scored.

    The authors' GP-to-TF task, which their code never ran.

    Parameters
    ----------
    member_pg
        True where gene g is a target of factor p, (p, g) bool; a factor that is its own target is not shown.
    regulator_p
        Position of each factor among the genes, (p,).
    """

    visible_pg: Tensor
    regulator_p: Tensor
    rescales = False

    def __init__(self, member_pg: Tensor, regulator_p: Tensor) -> None:
        super().__init__()
        # a factor that regulates itself would be read off its own expression
        visible_pg = member_pg.clone()
        visible_pg[torch.arange(len(member_pg)), regulator_p] = False
        _check_programs(visible_pg)
        self.register_buffer("visible_pg", visible_pg, persistent=False)
        self.register_buffer("regulator_p", regulator_p, persistent=False)

    def forward(self, n_cells: int) -> GeneMask:
        """One gene of each cell is scored."""
        program_n = torch.randint(len(self.visible_pg), (n_cells,), device=self.place.device)
        visible_ng = self.visible_pg[program_n]
        scored_ng = torch.zeros_like(visible_ng)
        scored_ng[torch.arange(n_cells, device=scored_ng.device), self.regulator_p[program_n]] = True
        return GeneMask(visible_ng, scored_ng)


def _bernoulli(n_cells: int, n_genes: int, rate: float, device: torch.device) -> Tensor:
    """True with this probability, (n, g), to 2⁻¹⁶: 16 random bits an entry are drawn four times faster than a float."""
    # (n, ⌈g / 4⌉) int64 → (n, ≥ g) int16, uniform from −2¹⁵ to 2¹⁵ − 1: a share `rate` of them lies below the bound
    words = torch.empty(n_cells, -(-n_genes // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    below = min(max(round(rate * 2**16), 1), 2**16 - 1) - 2**15
    return words.view(torch.int16)[:, :n_genes] < below


def _pack(set_ng: Tensor) -> Tensor:
    """Sets of genes as bits, 64 in a word: their union is an OR of an eighth of the memory."""
    # g padded to whole words: (n, 64 w) → (n, 8 w, 8) bits → (n, 8 w) bytes → (n, w) words
    padded = nn.functional.pad(set_ng, (0, -set_ng.shape[1] % 64)).view(len(set_ng), -1, 8)
    return (padded * _bits(set_ng.device)).sum(dim=2).to(torch.uint8).view(torch.int64)


def _unpack(packed_nw: Tensor, n_genes: int) -> Tensor:
    """Sets of genes as Booleans, (n, g)."""
    # (n, w) words → (n, 8 w) bytes → (n, 8 w, 8) bits → (n, 64 w), without the padding
    packed_nb = packed_nw.view(torch.uint8)
    return (packed_nb[:, :, None] & _bits(packed_nb.device)).ne(0).flatten(1)[:, :n_genes]


def _count(packed_nw: Tensor) -> Tensor:
    """Genes in each set, (n,): the bits of each byte are added in pairs, fours and eights."""
    # each step adds neighbouring fields of 1, 2 and 4 bits within the byte
    packed_nb = packed_nw.view(torch.uint8)
    pairs = packed_nb - ((packed_nb >> 1) & 0x55)
    fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return ((fours + (fours >> 4)) & 0x0F).sum(dim=1)


def _bits(device: torch.device) -> Tensor:
    """The value of each bit of a byte."""
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)


def _check_rate(rate: float) -> None:
    if not isinstance(rate, Real) or not 0 < rate < 1:
        raise ValueError(
            f"a mask's rate (mask_rate), the share of genes that it hides, lies in (0, 1), found {rate!r}."
        )


def _check_programs(member_pg: Tensor) -> None:
    if member_pg.ndim != 2 or len(member_pg) == 0 or not member_pg.any(dim=1).all():
        raise ValueError(
            f"every programme must have a gene, found shape {tuple(member_pg.shape)} and empty programmes."
        )
    full = member_pg.all(dim=1).nonzero().flatten()
    if len(full):
        raise ValueError(f"programme {int(full[0])} holds every gene: a mask by it hides all or nothing.")
