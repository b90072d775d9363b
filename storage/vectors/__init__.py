"""Vectors with labels, searched by cosine: a port, an exact store, a graph above 20,000.

numpy and faiss are loaded by `exact` and `hnsw` alone, and only `python -m prsm.storage.vectors`
imports those: the daemon speaks to that process (docs/adr/0014).
"""
