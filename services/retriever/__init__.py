"""The retriever: owns the documents and the sharded FAISS indexes over them."""

import os

from services.runtime.cpu import available_cpus

# libgomp reads these once, when FAISS is loaded, which the modules below do. Threads that
# spin between searches take the cores from the tiers beside this one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", str(available_cpus()))
# NumPy's OpenBLAS spins at its barriers whatever libgomp is told: beside a busy process two
# threads took over ten times the CPU of one for the product of a growing segment.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
