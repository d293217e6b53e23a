"""NTU RGB+D 60 and 120 by three routes: the raw tree, CTR-GCN's ``.npz`` and pyskl's ``.pkl``."""
