"""Settings of the whole package: ``sc_ssl.settings.n_threads = 4``."""

#: Threads that training and embedding run on, on the CPU, ≥ 1, whatever number of cores the machine has: another number
#: rounds sums in another order, so that the same seed gives the same bits wherever this number is the same. The networks
#: are small at their default sizes and gain nothing from more; wider ones do.
n_threads: int = 1
