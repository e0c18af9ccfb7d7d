"""Ways to do the same audit with more hands: many processes on this machine, or a Dask cluster."""
