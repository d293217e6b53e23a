"""Tables from records. Nothing here imports the training loop: what a table says, a record says."""
