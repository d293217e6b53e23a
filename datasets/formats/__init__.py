"""How clips lie on disk: the exchange file (``.npz``) and the store,
and what a foreign file turns out to be.
"""
